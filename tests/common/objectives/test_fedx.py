"""FedX relates both views to the same others, and its teacher is the model as received."""

import pytest
import torch
from torch import Tensor

from common.losses.contrastive import nt_xent
from common.losses.relation import relation
from common.objectives.base import LocalRound
from tests.builders.objectives import draws, local_round, objective, views


def site() -> LocalRound:
    return local_round(torch.eye(8))


def slow_relation(x: Tensor, y: Tensor, others: Tensor, tau: float, tau_mean: float) -> Tensor:
    def softmax(view: Tensor, temperature: float) -> Tensor:
        scores = torch.stack(
            [(view @ o / (view.norm() * o.norm()) / temperature).exp() for o in others]
        )
        return scores / scores.sum()

    def kl(p: Tensor, q: Tensor) -> Tensor:
        return torch.stack([a * (a / b).log() for a, b in zip(p, q, strict=True)]).sum()

    total = torch.zeros(())
    for one, two in zip(x, y, strict=True):
        mean = (softmax(one, tau_mean) + softmax(two, tau_mean)) / 2
        total = total + (kl(mean, softmax(one, tau)) + kl(mean, softmax(two, tau))) / 2
    return total / len(x)


@pytest.mark.parametrize(("tau", "tau_mean"), [(0.1, 0.1), (0.5, 0.2)])
def test_relation_is_the_codes(tau: float, tau_mean: float) -> None:
    x, y = torch.randn(2, 4, 5, generator=draws()).requires_grad_()
    others = torch.randn(6, 5, generator=draws(1)).requires_grad_()
    fast = relation(x, y, others, tau, tau_mean)
    slow = slow_relation(x, y, others, tau, tau_mean)
    torch.testing.assert_close(fast, slow, atol=1e-5, rtol=1e-5)
    inputs = (x, y, others)
    for ours, theirs in zip(
        torch.autograd.grad(fast, inputs), torch.autograd.grad(slow, inputs), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_views_that_relate_alike_cost_nothing_and_others_something() -> None:
    x, y = torch.randn(2, 4, 5, generator=draws())
    others = torch.randn(6, 5, generator=draws(1))
    assert relation(x, 3 * x, others, 0.1, 0.1).item() == pytest.approx(0, abs=1e-6)
    assert relation(x, y, others, 0.1, 0.1).item() > 0.1


def test_autocast_does_not_take_its_digits() -> None:
    x, y, others = torch.randn(3, 4, 5, generator=draws())
    exact = relation(x, y, others, 0.1, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = relation(x, y, others, 0.1, 0.1)
    assert torch.equal(exact, mixed)


def test_shapes_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(M, p\) others"):
        relation(torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(4, 3), 0.1, 0.1)


def test_the_four_terms_contrast_and_relate_to_the_own_and_to_the_global_model() -> None:
    part = objective("fedx")
    part.begin_round(site())
    part.train()
    first, second = views(), views(6, seed=3)
    part.terms(part.represent(first))
    with torch.no_grad():
        for p in part.encoder.parameters():
            p.mul_(1.1)  # the site trains, the teacher does not
    part.after_step(0.5)
    seen = part.represent(second)
    terms = part.terms(seen)
    z_others = part.projector(part.encoder(first.a))
    t_others = part.teacher(first.a)
    p_a, p_b = part.predictor(torch.cat([seen.z_a, seen.z_b])).chunk(2)
    expected = {
        "contrast": nt_xent(seen.z_a, seen.z_b, 0.1),
        "global_contrast": (nt_xent(p_a, seen.t_b, 0.1) + nt_xent(p_b, seen.t_a, 0.1)) / 2,
        "relation": slow_relation(seen.z_a, seen.z_b, z_others, 0.1, 0.1),
        "global_relation": slow_relation(p_a, p_b, t_others, 0.1, 0.1),
    }
    assert terms.keys() == expected.keys()
    for name, term in expected.items():
        torch.testing.assert_close(terms[name], term, atol=1e-4, rtol=1e-4)


def test_a_rounds_first_step_relates_to_its_own_second_views() -> None:
    part = objective("fedx")
    batch = views()
    part.terms(part.represent(views(seed=5)))
    part.after_step(0.5)
    part.begin_round(site())  # another round, perhaps another site: nothing is left of the last
    seen = part.represent(batch)
    others = part.projector(part.encoder(batch.b))
    expected = slow_relation(seen.z_a, seen.z_b, others, 0.1, 0.1)
    torch.testing.assert_close(part.terms(seen)["relation"], expected, atol=1e-4, rtol=1e-4)


def test_the_teacher_is_what_was_received_and_training_does_not_change_it() -> None:
    part = objective("fedx")
    with torch.no_grad():
        for p in part.encoder.parameters():
            p.add_(0.1)
    part.begin_round(site())
    part.train()
    received = {k: v.clone() for k, v in part.encoder.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in part.parameters() if p.requires_grad], lr=0.1)
    for step in range(2):
        sum(part.terms(part.represent(views(seed=step))).values()).backward()
        optimiser.step()
        part.after_step(step / 2)
    kept = part.teacher.encoder.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in received.items())
    moved = part.encoder.state_dict()
    assert not any(torch.equal(moved[k], v) for k, v in received.items() if "mean" in k)


def test_the_teacher_forwards_with_running_statistics_so_other_images_do_not_matter() -> None:
    part = objective("fedx")
    part.begin_round(site())
    part.train()
    alone, together = part.represent(views(2)), part.represent(views(2))
    torch.testing.assert_close(alone.t_a, together.t_a)
    batch = views()
    of_all = part.represent(batch).t_a[:2]
    of_two = part.represent(batch._replace(a=batch.a[:2], b=batch.b[:2])).t_a
    torch.testing.assert_close(of_all, of_two)
