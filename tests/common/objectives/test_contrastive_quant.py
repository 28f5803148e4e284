"""Contrastive Quant's losses are the list of pairs, over SimCLR and over BYOL."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from common.config import recipes
from common.losses.contrastive import nt_xent, symmetric_info_nce
from common.losses.cosine import prediction_error
from common.models.encoders import ENCODERS, FIXED, build_encoder
from common.models.normalisation import without_batch_norm
from common.models.quantisation import draw_levels
from common.objectives.base import Batch, Objective
from common.objectives.cluster import Cluster
from common.objectives.cluster import Parameters as ClusterParameters
from common.objectives.contrastive_quant import A1, A2, B1, B2, VARIANTS, ContrastiveQuant
from common.objectives.regularised import Regularised
from common.utils.errors import UserError
from deploy.engines.simulate import simulate
from tests.builders.objectives import objective, views

FULL = "least-bits=32 most-bits=32"
RECIPES = ("fedcq-a", "fedcq-b", "fedcq-c", "fedcq-byol")


def quant(parameters: str = "", **options: object) -> Objective:
    return objective("contrastive-quant", parameters=parameters, seed=5, **options)


def total(part, batch: Batch) -> Tensor:
    return torch.stack(list(part.terms(part.represent(batch)).values())).sum()


def gradients(part: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    named = {key: p for key, p in part.named_parameters() if p.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()))
    return dict(zip(named, found, strict=True))


# A slow version, from the paper: a copy of the networks for each precision.


def slow_quantised(x: Tensor, levels: float) -> Tensor:
    scale = max((x.max() - x.min()) / levels, torch.tensor(1e-8))
    return ((x - x.min()) / scale).round() * scale + x.min()


def at_precision(inner: nn.Module, levels: float) -> nn.Module:
    """A copy that is quantised layer by layer. As gradients go straight through, those of its
    weights are those of the weights that were quantised."""
    part = copy.deepcopy(inner)
    networks = [part.encoder.network, part.projector]
    if hasattr(part, "target"):
        networks += [part.predictor, part.target.encoder.network, part.target.projector]
    for network in networks:
        layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        # The first convolution of an encoder and the last linear layer of a head are not.
        for layer in layers[1:] if isinstance(layers[0], nn.Conv2d) else layers[:-1]:
            with torch.no_grad():
                for channel in layer.weight:
                    channel.copy_(slow_quantised(channel, levels))
            layer.register_forward_pre_hook(
                lambda _, x: x[0] + (slow_quantised(x[0], levels) - x[0]).detach()
            )
    return part


def slow(part: ContrastiveQuant, batch: Batch, levels: list[float], pairs: str):
    """Loss and summed gradients of `pairs`, such as "a1-b2 a1-a2"."""
    chosen = [pair.split("-") for pair in pairs.split()]
    copies = [at_precision(part.inner, value) for value in levels]
    seen = {}
    for number, network in zip("12", copies, strict=True):
        names = sorted({name for pair in chosen for name in pair if name[1] == number})
        images = torch.cat([getattr(batch, name[0]) for name in names])
        z = network.projector(network.encoder(images)).chunk(len(names))
        if hasattr(network, "target"):
            t = network.target(images).chunk(len(names))
            p = [network.predictor(each) for each in z]
            seen |= zip(names, zip(p, t, strict=True), strict=True)
        else:
            seen |= zip(names, z, strict=True)
    loss = torch.zeros(())
    for x, y in chosen:
        if hasattr(part.inner, "target"):
            (p_x, t_x), (p_y, t_y) = seen[x], seen[y]
            loss = loss + (prediction_error(p_x, t_y) + prediction_error(p_y, t_x)) / 2
        else:
            loss = loss + nt_xent(seen[x], seen[y], 0.5)
    parts = nn.ModuleList(copies)
    by_copy = gradients(parts, loss)
    names = {key.split(".", 1)[1] for key in by_copy}
    return loss, {key: by_copy["0." + key] + by_copy["1." + key] for key in names}


PAIRS = {"A": "a1-b2", "B": "a1-b1 a2-b2", "C": "a1-b1 a2-b2 a1-a2 b1-b2"}


@pytest.mark.parametrize("first", ["simclr", "byol"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_value_and_gradient_are_those_of_a_copy_for_each_precision(
    variant: str, first: str
) -> None:
    part = objective(
        "contrastive-quant",
        parameters=f"variant={variant} first={first} least-bits=3 most-bits=5 hidden=8 width=4",
    )
    levels = draw_levels(3, 5, views(6).generator).tolist()
    expected, slow_gradients = slow(part, views(6), levels, PAIRS[variant])
    loss = total(part, views(6))
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    found = gradients(part.inner, loss)
    assert found.keys() == slow_gradients.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, slow_gradients[key], atol=1e-5, rtol=1e-4)


def test_the_variants_are_the_papers_lists() -> None:
    assert VARIANTS["A"] == ((A1, B2),)
    assert VARIANTS["B"] == ((A1, B1), (A2, B2))
    assert VARIANTS["C"] == (*VARIANTS["B"], (A1, A2), (B1, B2))


def test_at_full_precision_cq_a_is_simclr() -> None:
    """Without BatchNorm, for which it matters that CQ-A forwards each view alone."""
    part, simclr = (
        quant(f"variant=A {FULL}"),
        objective("simclr", seed=5),
    )
    for each in (part, simclr):
        without_batch_norm(each)
    torch.testing.assert_close(total(part, views(6)), total(simclr, views(6)), atol=1e-5, rtol=1e-5)


def test_at_full_precision_cq_a_under_batchnorm_is_simclr_with_each_view_normalised_alone() -> None:
    part, simclr, batch = (
        quant(f"variant=A {FULL}"),
        objective("simclr", seed=5),
        views(6),
    )
    z_a, z_b = (simclr.projector(simclr.encoder(x)) for x in (batch.a, batch.b))
    torch.testing.assert_close(total(part, batch), nt_xent(z_a, z_b, 0.5), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("first", ["simclr", "byol"])
def test_at_full_precision_cq_b_is_twice_the_objective_inside(first: str) -> None:
    part, inside = (
        quant(f"variant=B first={first} {FULL}"),
        objective(first, seed=5),
    )
    twice = 2 * total(inside, views(6))
    torch.testing.assert_close(total(part, views(6)), twice, atol=1e-5, rtol=1e-5)


def test_at_full_precision_cq_c_adds_each_view_against_itself() -> None:
    part, simclr, batch = (
        quant(f"variant=C {FULL}"),
        objective("simclr", seed=5),
        views(6),
    )
    seen = simclr.represent(batch)
    expected = 2 * nt_xent(seen.z_a, seen.z_b, 0.5)
    terms = part.terms(part.represent(batch))
    torch.testing.assert_close(terms["views"], expected, atol=1e-5, rtol=1e-5)
    own = nt_xent(seen.z_a, seen.z_a, 0.5) + nt_xent(seen.z_b, seen.z_b, 0.5)
    torch.testing.assert_close(terms["precisions"], own, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("first", ["simclr", "byol"])
@pytest.mark.parametrize(
    ("variant", "forwarded"), [("A", [6, 6]), ("B", [12, 12]), ("C", [12, 12])]
)
def test_no_view_is_forwarded_twice_at_a_precision(
    variant: str, forwarded: list[int], first: str
) -> None:
    part, met = quant(f"variant={variant} first={first}"), []
    networks = [part.encoder, *([part.inner.target.encoder] if first == "byol" else [])]
    for network in networks:
        network.register_forward_pre_hook(lambda _, x: met.append(len(x[0])))
    part.terms(part.represent(views(6)))
    assert met == [n for n in forwarded for _ in networks]


def test_the_widths_are_drawn_from_the_steps_generator() -> None:
    part = quant("variant=C least-bits=2 most-bits=8")
    assert torch.equal(total(part, views(6)), total(part, views(6)))
    first = views(6)
    again = Batch(first.a, first.b, first.rows, torch.Generator().manual_seed(7))
    assert not torch.allclose(total(part, first), total(part, again))


class NoReading(TorchDispatchMode):
    """Fails where a number is read from a tensor, for which a GPU would have to be waited for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "a tensor was read"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("first", ["simclr", "byol"])
def test_a_step_reads_nothing_from_the_device(first: str) -> None:
    part, batch = quant(f"variant=C first={first}"), views(6)
    with NoReading():
        total(part, batch).backward()
        with pytest.raises(AssertionError, match="a tensor was read"):
            batch.a.sum().item()


@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name not in FIXED])
def test_with_every_encoder_under_autocast_every_shared_parameter_gets_a_gradient(
    encoder: str,
) -> None:
    part = quant("variant=A first=byol", encoder=encoder)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = total(part, views(4))
    assert loss.dtype == torch.float32 and loss.isfinite()
    loss.backward()
    for module in part.shared().values():
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
    assert all(p.grad is None for p in part.inner.target.parameters())


@pytest.mark.parametrize("first", ["simclr", "byol"])
def test_modules_and_names_are_those_of_the_objective_inside(first: str) -> None:
    part, inside = quant(f"first={first}"), objective(first, seed=5)
    before = list(part.state_dict())
    total(part, views(6)).backward()
    assert list(part.state_dict()) == before
    assert list(part.inner.state_dict()) == list(inside.state_dict())
    assert part.shared().keys() == inside.shared().keys()
    assert part.local().keys() == inside.local().keys()


def test_evaluation_is_in_full_precision() -> None:
    part, images = quant("least-bits=2 most-bits=4"), views(6).a
    part.represent(views(6))
    plain = build_encoder("small-convnet", 1, 8, seed=9).eval()
    plain.load_state_dict(part.encoder.state_dict())
    assert torch.equal(part.eval().encoder(images), plain(images))


def test_the_target_follows_as_byols() -> None:
    part = quant("first=byol momentum=0.9")
    with torch.no_grad():
        for p in part.encoder.parameters():
            p.add_(1)
    before = next(part.inner.target.encoder.parameters()).clone()
    part.after_step(progress=0.0)
    after = next(part.inner.target.encoder.parameters())
    torch.testing.assert_close(after, 0.9 * before + 0.1 * next(part.encoder.parameters()))


@pytest.mark.parametrize("first", ["simclr", "byol"])
def test_a_regulariser_is_on_one_pair_of_views(first: str) -> None:
    part = quant(f"first={first}", contrastive_weight=0.5)
    assert isinstance(part, Regularised) and isinstance(part.inner, ContrastiveQuant)
    seen = part.represent(views(6))
    terms = part.terms(seen)
    assert terms.keys() == {"views", "precisions", "regulariser"}
    contrast = symmetric_info_nce(seen.z_a, seen.z_b, seen.t_a, seen.t_b, 0.2)
    torch.testing.assert_close(terms["regulariser"], 0.5 * contrast)


@pytest.mark.parametrize("variant", VARIANTS)
def test_stage_2_goes_around_it(variant: str) -> None:
    inner = quant(f"variant={variant}")
    part = Cluster(inner.encoder, ClusterParameters(), 4, inner)
    terms = part.terms(part.represent(views(6)))
    assert terms.keys() == inner.terms(inner.represent(views(6))).keys() | {"columns", "entropy"}
    assert all(term.isfinite() for term in terms.values())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("variant=D", "unknown variant of contrastive-quant 'D': known: A, B, C"),
        ("least-bits=9 most-bits=8", "least-bits and most-bits must be .*got 9 and 8"),
        ("most-bits=33", "least <= most <= 32 .got 6 and 33"),
        ("first=momentum-contrast", "known: byol, simclr"),
        ("temprature=1.0", "did you mean 'temperature'"),
    ],
)
def test_mistakes_are_told_in_one_line(parameters: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        quant(parameters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_runs(recipe: str, tmp_path) -> None:
    small = {"dataset": "digits", "images": 120, "sites": 2, "encoder": "small-convnet"}
    short = {"rounds": 1, "local-epochs": 1, "batch-size": 32}
    plan = recipes.load(recipe).plan({**small, **short})
    assert plan.stages[0].parameters["variant"] == {"fedcq-a": "A", "fedcq-b": "B"}.get(recipe, "C")
    simulate(plan, tmp_path / "run")
    assert (tmp_path / "run" / "encoder.safetensors").exists()
