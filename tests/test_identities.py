"""Federated training is what it says: one site is centralised training, equal sites with one
full-batch step are one step on their union; through the real sites and the real strategy.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from common.augmentations import Augmentation, build_augmentation
from common.config.options import Plan
from common.data.planned import planned_data, planned_partition
from common.objectives.base import Batch
from common.protocol import layout
from common.utils.seeds import generator
from tests.builders.runs import Groups, plan, run, same, start_of, training_rows

# One site with everything


def centralised(the_plan: Plan) -> Groups:
    """A plain loop over all training images: no server, no messages, no site."""
    (stage,), data = the_plan.stages, planned_data(the_plan)
    images = torch.from_numpy(data.images)
    rows = training_rows(the_plan, "site-0", len(images))
    views = build_augmentation(the_plan.views, data.kind, data.side)
    objective = start_of(the_plan).train()
    trained = [p for p in objective.parameters() if p.requires_grad]
    steps_of_epoch = -(-len(rows) // stage.batch_size)
    step, steps = 0, stage.rounds * stage.local_epochs * steps_of_epoch
    for number in range(1, stage.rounds + 1):
        chance = generator("cpu", the_plan.seed, "site-0", number, "train")
        optimiser = torch.optim.AdamW(
            trained, lr=stage.learning_rate, weight_decay=stage.weight_decay, fused=True
        )
        for _ in range(stage.local_epochs):
            for batch in torch.randperm(len(rows), generator=chance).tensor_split(steps_of_epoch):
                a, b = views.pair(images[rows[batch]], chance)
                terms = objective.terms(objective.represent(Batch(a, b, batch, chance)))
                optimiser.zero_grad()
                sum(terms.values()).backward()
                optimiser.step()
                step += 1
                objective.after_step(step / steps)
    return layout.flatten(objective.shared())


WITHOUT_HOOKS = ("fedsimclr", "fedmc", "fedmoco", "fedmoco-v3", "fedbyol", "fedbyol-reg")
WITHOUT_HOOKS += ("fedsimsiam", "fedmim", "fedbarlow", "fedvicreg", "fedcq-b", "fedema", "fedavgm")


@pytest.mark.parametrize("recipe", WITHOUT_HOOKS)
def test_one_site_with_everything_is_centralised_training_to_the_bit(
    recipe: str, tmp_path: Path
) -> None:
    """Whatever the method does between sites. (FedAvgM: in its first round.)"""
    options = {"sites": 1, "local-epochs": 2, "rounds": 1 if recipe == "fedavgm" else 2}
    assert same(run(tmp_path / "run", recipe, **options), centralised(plan(recipe, **options)))


# Equal sites, one step


def union_step(the_plan: Plan) -> tuple[Groups, Groups]:
    """(before, after) one step of gradient descent on the mean loss of all sites' images."""
    (stage,), data = the_plan.stages, planned_data(the_plan)
    rows = []
    for index, part in enumerate(planned_partition(the_plan, data).sites):
        rows.append(torch.from_numpy(part)[training_rows(the_plan, f"site-{index}", len(part))])
    images = torch.from_numpy(data.images)[torch.cat(rows)]
    objective = start_of(the_plan)
    before = layout.flatten(objective.shared())
    a, b = mirrored(None, images, None)
    seen = objective.represent(Batch(a, b, torch.arange(len(a)), torch.Generator()))
    sum(objective.terms(seen).values()).backward()
    with torch.no_grad():
        for p in objective.parameters():
            if p.grad is not None:
                p.sub_(stage.learning_rate * (p.grad + stage.weight_decay * p))
    return before, layout.flatten(objective.shared())


def mirrored(_views, images: Tensor, _chance) -> tuple[Tensor, Tensor]:
    """Views without chance: the image, and its mirror image."""
    plain = images.float() / 255
    return plain, plain.flip(3)


@pytest.mark.parametrize("objective", ["byol", "simsiam"])
@pytest.mark.parametrize("skew", [0, 0.5])
def test_a_full_batch_step_at_the_sites_is_one_on_their_union(
    objective: str, skew: float, tmp_path: Path, monkeypatch
) -> None:
    """The mean of the sites' gradients is the union's, if images and not sites or batches count."""
    options = {
        "objective": objective,
        "sites": 3,
        "rounds": 1,
        "batch-size": 1000,
        "optimiser": "sgd",
        "learning-rate": 0.5,
        "normalisation": "group",
        "size-skew": skew,
    }
    monkeypatch.setattr(Augmentation, "pair", mirrored)
    got = run(tmp_path / "run", "fedbyol", **options)
    before, after = union_step(plan("fedbyol", **options))
    assert max(np.abs(after[name] - before[name]).max() for name in after) > 1e-3
    for name, array in after.items():
        np.testing.assert_allclose(got[name], array, rtol=0, atol=1e-5)
