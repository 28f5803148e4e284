"""MoCo v2's queue and loss, MoCo v3's loss."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses.contrastive import queue_info_nce
from common.objectives.base import Representations
from common.objectives.moco_v2 import MoCoV2, Queue
from common.objectives.moco_v3 import MoCoV3
from common.utils.errors import UserError
from tests.builders.objectives import objective, views
from tests.common.objectives.slow import assert_equal_with_gradients


def vectors(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow_loss(
    queries: Tensor, keys: Tensor, queue: Tensor, negative: Tensor, temperature: float
) -> Tensor:
    losses = []
    for i, (query, key) in enumerate(zip(queries, keys, strict=True)):
        top = (F.cosine_similarity(query, key, dim=0) / temperature).exp()
        bottom = top
        for j, other in enumerate(queue):
            if negative[i, j]:
                bottom = bottom + (F.cosine_similarity(query, other, dim=0) / temperature).exp()
        losses.append(-(top / bottom).log())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_the_loss_is_the_papers(temperature: float) -> None:
    queries, keys, queue = vectors(6, 5).requires_grad_(), vectors(6, 5, seed=4), vectors(9, 5)
    negative = vectors(6, 9, seed=5) > 0
    assert_equal_with_gradients(
        queue_info_nce(queries, keys, queue, negative, temperature),
        slow_loss(queries, keys, queue, negative, temperature),
        (queries,),
    )


def test_the_loss_is_lightlys_with_a_full_memory_bank() -> None:
    lightly = pytest.importorskip("lightly.loss")
    loss = lightly.NTXentLoss(temperature=0.2, memory_bank_size=(9, 5))
    queries, keys = vectors(6, 5).requires_grad_(), vectors(6, 5, seed=4)
    loss(queries, keys)  # makes the bank, and pushes
    queue = loss.memory_bank.bank.clone()
    every = torch.ones(6, 9, dtype=torch.bool)
    assert_equal_with_gradients(
        queue_info_nce(queries, keys, queue, every, 0.2), loss(queries, keys), (queries,)
    )


def test_without_negatives_the_loss_is_0_and_its_gradient_finite() -> None:
    queries, keys, queue = vectors(4, 5).requires_grad_(), vectors(4, 5, seed=4), torch.zeros(3, 5)
    loss = queue_info_nce(queries, keys, queue, torch.zeros(4, 3, dtype=torch.bool), 0.2)
    (gradient,) = torch.autograd.grad(loss, queries)
    assert loss.item() == 0 and torch.equal(gradient, torch.zeros(4, 5))


def test_the_loss_names_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"\(4, 5\), \(4, 5\) and \(4, 2\) for a queue \(3, 5\)"):
        queue_info_nce(vectors(4, 5), vectors(4, 5), vectors(3, 5), torch.ones(4, 2) > 0, 0.2)


def test_the_queue_is_first_in_first_out() -> None:
    queue = Queue(5, 2)
    assert not queue.negatives_of(torch.tensor([0])).any()
    for row in range(4):
        keys = torch.full((2, 2), float(row))
        queue.push(keys, torch.tensor([row, row]))
    assert queue.rows.tolist() == [3, 3, 2, 2, 1]
    assert queue.keys[:, 0].tolist() == [3, 3, 2, 2, 1]
    queue.push(torch.arange(14.0).view(7, 2), torch.arange(7))  # more than it holds
    assert queue.rows.tolist() == [0, 1, 2, 3, 4]


def test_a_key_that_is_not_there_or_of_the_image_itself_is_no_negative() -> None:
    queue = Queue(4, 2)
    queue.push(torch.ones(3, 2), torch.tensor([7, 8, 7]))
    assert queue.negatives_of(torch.tensor([7, 9])).tolist() == [
        [False, True, False, False],
        [True, True, True, False],
    ]


def test_a_batch_is_pushed_after_its_step_and_is_not_among_its_own_negatives() -> None:
    part = objective("moco-v2", parameters="queue=20")
    first, second = views([0, 1, 2]), views([3, 4, 5], seed=2)
    seen = part.represent(first)
    assert part.terms(seen)["contrast"].item() == 0  # nothing to tell its keys from
    assert (part.queue.rows == -1).all()
    part.after_step(0.1)
    assert part.queue.rows.tolist() == [0, 1, 2, 0, 1, 2] + [-1] * 14
    torch.testing.assert_close(part.queue.keys[:6], torch.cat([seen.t_a, seen.t_b]))
    seen = part.represent(second)
    loss = part.terms(seen)["contrast"]
    queue, every = part.queue.keys[:6].clone(), torch.ones(3, 6, dtype=torch.bool)
    expected = 0.5 * (
        slow_loss(seen.z_a, seen.t_b, queue, every, 0.2)
        + slow_loss(seen.z_b, seen.t_a, queue, every, 0.2)
    )
    torch.testing.assert_close(loss, expected)
    part.after_step(0.2)
    assert part.queue.rows[:12].tolist() == [3, 4, 5, 3, 4, 5, 0, 1, 2, 0, 1, 2]
    part.after_step(0.3)  # no batch since: nothing is pushed twice
    assert part.queue.rows[:12].tolist() == [3, 4, 5, 3, 4, 5, 0, 1, 2, 0, 1, 2]


def test_the_site_keeps_the_queue_and_a_new_site_starts_with_an_empty_one() -> None:
    part = objective("moco-v2", parameters="queue=8")
    part.terms(part.represent(views([0, 1])))
    part.after_step(0.1)
    kept = {k: v.clone() for k, v in part.local()["queue"].state_dict().items()}
    assert kept["rows"].tolist() == [0, 1, 0, 1, -1, -1, -1, -1]
    assert "queue" not in part.shared()
    part.restart_local()
    assert (part.queue.rows == -1).all() and not part.queue.keys.any()


def test_the_momentum_of_v2_is_constant() -> None:
    part = objective("moco-v2", parameters="momentum=0.9")
    with torch.no_grad():
        for p in part.encoder.parameters():
            p.add_(1)
    for progress in (0.5, 1.0):
        before = [p.clone() for p in part.target.encoder.parameters()]
        part.after_step(progress)
        for old, new, online in zip(
            before, part.target.encoder.parameters(), part.encoder.parameters(), strict=True
        ):
            torch.testing.assert_close(new, 0.9 * old + 0.1 * online)


def test_keys_are_normalised_by_other_statistics_than_their_queries() -> None:
    """The target starts equal to the online network: in one part its keys would be the queries."""
    whole, parts = (objective("moco-v2", parameters=f"splits={n}") for n in (1, 2))
    parts.load_state_dict(whole.state_dict())
    images = views([0, 1, 2, 3])
    seen = whole.represent(images)
    torch.testing.assert_close(seen.t_a, F.normalize(seen.z_a, dim=1))
    split = parts.represent(images)
    both = torch.cat([images.a, images.b])
    with torch.no_grad():
        even = F.normalize(parts.target(both[::2]), dim=1)
    torch.testing.assert_close(torch.cat([split.t_a, split.t_b])[::2], even)
    assert not torch.allclose(split.t_a, seen.t_a, atol=1e-3)


@pytest.mark.parametrize("parameters", ["queue=0", "splits=0"])
def test_v2_refuses_an_empty_queue(parameters: str) -> None:
    with pytest.raises(UserError, match="queue and splits must be 1 or more"):
        objective("moco-v2", parameters=parameters)


def test_the_loss_is_in_float32_under_mixed_precision() -> None:
    queries, keys, queue = vectors(6, 64), vectors(6, 64, seed=4), vectors(9, 64, seed=5)
    every = torch.ones(6, 9, dtype=torch.bool)
    plain = queue_info_nce(queries, keys, queue, every, 0.07)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = queue_info_nce(queries, keys, queue, every, 0.07)
    assert torch.equal(mixed, plain)


def slow_v3(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    """2τ times the cross-entropy, as in algorithm 1 of MoCo v3."""
    losses = []
    for i, query in enumerate(q):
        scores = [(F.cosine_similarity(query, key, dim=0) / temperature).exp() for key in k]
        losses.append(-(scores[i] / torch.stack(scores).sum()).log())
    return 2 * temperature * torch.stack(losses).mean()


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_v3_is_the_papers_symmetric_loss_on_predictions_scaled_by_2_tau(temperature: float) -> None:
    part = objective("moco-v3", parameters=f"temperature={temperature}")
    assert isinstance(part, MoCoV3)
    seen = part.represent(views([0, 1, 2, 3, 4]))
    q_a, q_b = part.predictor(seen.z_a), part.predictor(seen.z_b)
    slow = slow_v3(q_a, seen.t_b, temperature) + slow_v3(q_b, seen.t_a, temperature)
    weights = part.predictor[0].weight
    assert_equal_with_gradients(part.terms(seen)["contrast"], slow, (weights, seen.z_a))


def test_v3_shares_its_predictor_and_keeps_its_target() -> None:
    part = objective("moco-v3")
    assert part.shared().keys() == {"encoder", "projector", "predictor"}
    assert part.local().keys() == {"target"}


def test_v2_sends_no_gradient_to_keys() -> None:
    part = objective("moco-v2")
    assert isinstance(part, MoCoV2)
    seen: Representations = part.represent(views([0, 1, 2]))
    assert not seen.t_a.requires_grad and not part.queue.keys.requires_grad
