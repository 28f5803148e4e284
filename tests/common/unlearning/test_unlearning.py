"""Methods of unlearning: each is its formula, of batches that are not the same images."""

import pytest
import torch

from common.losses.unlearning import alignment, away_from_own
from common.objectives.base import Objective
from common.unlearning import UNLEARNING, build_unlearning, from_text, parameters_of, to_text
from common.unlearning.base import Side
from common.utils.errors import UserError
from tests.builders.objectives import objective, total, views

LABELS = torch.tensor([0, 1, 0, 1, 2, 2, 0, 1])


def sides(of: Objective) -> tuple[Side, Side]:
    forgotten = of.represent(views([8, 9, 10, 11], seed=1))
    retained = of.represent(views(8, seed=2))
    return Side(forgotten, LABELS[:4]), Side(retained, LABELS)


@pytest.mark.parametrize("name", UNLEARNING)
@pytest.mark.parametrize("trained_by", ["simclr", "byol", "spectral-contrastive"])
def test_what_keeps_the_network_useful_is_the_objective_that_trained_it(
    name: str, trained_by: str
) -> None:
    of = objective(trained_by)
    forgotten, retained = sides(of)
    terms = build_unlearning(name, {}).terms(of, forgotten, retained)
    usual = of.terms(retained.seen)
    assert {k: v for k, v in terms.items() if k.startswith("retained ")}.keys() == {
        f"retained {each}" for each in usual
    }
    for each, value in usual.items():
        assert torch.equal(terms[f"retained {each}"], value)
    gradients = torch.autograd.grad(total(terms), list(of.encoder.parameters()))
    assert all(bool(each.isfinite().all()) for each in gradients)


def test_gradient_ascent_makes_the_training_loss_larger() -> None:
    of = objective("simclr")
    forgotten, retained = sides(of)
    terms = build_unlearning("gradient-ascent", {"weight": 0.5}).terms(of, forgotten, retained)
    assert torch.equal(terms["ascent"], -0.5 * total(of.terms(forgotten.seen)))


def test_contrastive_unlearning_is_of_both_views_of_the_encoder() -> None:
    of = objective("simclr")
    forgotten, retained = sides(of)
    terms = build_unlearning("contrastive-unlearning", {}).terms(of, forgotten, retained)
    (u, own), (r, others) = forgotten, retained
    both = away_from_own(
        torch.cat([u.h_a, u.h_b]),
        torch.cat([r.h_a, r.h_b]),
        torch.cat([own, own]),
        torch.cat([others, others]),
        0.7,
    )
    assert torch.equal(terms["unlearning"], 3 * both)


def test_alignment_calibration_takes_an_images_own_views_apart() -> None:
    of = objective("simclr")
    forgotten, retained = sides(of)
    method = build_unlearning("alignment-calibration", {"apart": 2.0})
    terms = method.terms(of, forgotten, retained)
    seen = forgotten.seen
    assert torch.equal(terms["alignment"], 2 * alignment(seen.z_a, seen.z_b))
    assert terms["positives"] > 0


@pytest.mark.parametrize("name", UNLEARNING)
def test_a_message_brings_the_method_with_all_its_parameters(name: str) -> None:
    method, of = from_text(to_text(build_unlearning(name, {"epochs": 3}), "first"))
    assert of == "first"
    assert method.name == name and method.parameters.epochs == 3
    assert parameters_of(method) == parameters_of(build_unlearning(name, {"epochs": 3}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "does not say how"),
        ("[]", "does not say how"),
        ('{"method": [], "of": "", "parameters": {}}', "does not say how"),
        ('{"method": "gradient-ascent", "parameters": {}}', "does not say how"),
        ('{"method": "gradient-ascent", "of": 1, "parameters": {}}', "does not say how"),
        ('{"method": "x", "of": "", "parameters": {}}', "unknown method of unlearning"),
        ('{"method": "gradient-ascent", "of": "", "parameters": {"epochs": 1000}}', "epochs 1000"),
        ('{"method": "gradient-ascent", "of": "", "parameters": {"a": 1}}', "unknown parameter"),
    ],
)
def test_anything_else_is_one_line(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        from_text(text)
