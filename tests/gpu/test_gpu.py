"""On a GPU: `make gpu-test`. What a CPU cannot show: that losses and gradients are the same there,
that the training loop never waits for the device, that every recipe runs, that mixed precision
costs no quality."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from client import dataset
from client.dataset import Dataset, ahead, take, view_batches
from client.tasks import train as training
from client.workbench import Workshop
from common.augmentations import build_augmentation
from common.config import recipes
from common.config.options import Plan
from common.data import load
from common.objectives import NAMES
from common.objectives.base import Batch, LocalRound
from common.protocol.messages import Reply
from common.record.reader import read_run
from common.stages import build_stage
from deploy.engines.simulate import simulate
from tests.builders.sites import instruction, trainer
from tests.deploy.helpers import covey

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU, CPU = torch.device("cuda"), torch.device("cpu")
SMALL = {"dataset": "digits", "images": 240, "sites": 2, "clusters": 10, "batch-size": 32}


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions in float32, as on a CPU, where autocast does not say otherwise."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def plan(recipe: str, **options) -> Plan:
    return recipes.load(recipe).plan({**SMALL, "device": "cuda", **options})


def gradients(name: str, device: torch.device) -> tuple[dict[str, float], Tensor, bool]:
    """Losses and gradients of one step on 16 images in float32; whether it drew anything."""
    part = build_stage(plan("fedsimclr", objective=name), 0, 1, 8, 4).to(device)
    a, b = torch.rand(2, 16, 1, 8, 8, generator=torch.Generator().manual_seed(1)).to(device)
    chance = torch.Generator(device=device).manual_seed(0)
    batch = Batch(a, b, torch.arange(16, device=device), chance)
    points = torch.randn(16, part.width("encoder"), generator=torch.Generator().manual_seed(2))
    points = torch.nn.functional.normalize(points, dim=1).to(device)
    start = torch.Generator(device=device).manual_seed(3)
    site = LocalRound(lambda: points, lambda: iter([batch]), None, start, progress=0.5)
    before = chance.get_state(), start.get_state()
    part.begin_round(site)
    part.begin_epoch(site)
    terms = part.train().terms(part.represent(batch))
    torch.stack(list(terms.values())).sum().backward()
    drew = not all(map(torch.equal, before, (chance.get_state(), start.get_state())))
    grads = [p.grad.flatten().cpu() for p in part.parameters() if p.grad is not None]
    return {k: float(v.detach()) for k, v in terms.items()}, torch.cat(grads), drew


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_are_those_of_a_cpu(name: str) -> None:
    here, on_cpu = gradients(name, GPU), gradients(name, CPU)
    assert torch.isfinite(here[1]).all()
    if here[2]:  # the same seed draws other numbers on another device
        assert here[0].keys() == on_cpu[0].keys()
        return
    assert here[0] == pytest.approx(on_cpu[0], rel=1e-3, abs=1e-5)
    assert (here[1] - on_cpu[1]).norm() <= 1e-2 * on_cpu[1].norm()


def trained(folder: Path, the_plan: Plan) -> Reply:
    return trainer(folder, images=240, device=GPU).handle(instruction(the_plan))


def unwaiting(*args) -> Iterator[Batch]:
    """`view_batches`, with the host forbidden to wait for the GPU from the first batch on."""
    try:
        for number, batch in enumerate(view_batches(*args)):
            if number == 1:  # the first step may set up what later ones use
                torch.cuda.set_sync_debug_mode("error")
            yield batch
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("held_by", ["device", "host"])
@pytest.mark.parametrize("name", NAMES)
def test_the_training_loop_never_waits_for_the_gpu(
    name: str, held_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "view_batches", unwaiting)
    if held_by == "host":
        monkeypatch.setattr(dataset, "place", lambda images, device: images)
    reply = trained(tmp_path, plan("fedsimclr", objective=name, encoder="small-convnet"))
    assert math.isfinite(reply.sums["loss.loss"])


def test_waiting_would_be_noticed() -> None:
    torch.cuda.set_sync_debug_mode("error")
    try:
        with pytest.raises(RuntimeError):
            torch.ones(3, device=GPU).sum().item()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_images_that_the_gpu_has_no_room_for_come_through_pinned_memory() -> None:
    images = torch.randint(0, 256, (500, 3, 32, 32), dtype=torch.uint8)
    index = torch.randperm(500)
    for rows in index.split(64):
        assert torch.equal(take(images, rows, GPU).cpu(), images[rows])


def test_where_the_images_are_held_changes_no_bit_of_a_view() -> None:
    bench = Workshop(GPU).bench(instruction(plan("fedsimclr")), 1, 8, "digits")
    held = torch.from_numpy(load("digits", images=100).images)
    rows = torch.arange(100, device=GPU)
    found = []
    for images in (held, held.to(GPU)):
        chance = torch.Generator(device=GPU).manual_seed(0)
        data = Dataset("ward", images, None, (), train=rows, held=rows[:0], device=GPU)
        found.append(
            [(b.a, b.b, b.rows) for b in view_batches(data, bench.augmentation, 32, chance)]
        )
    for one, other in zip(*found, strict=True):
        assert all(map(torch.equal, one, other))


def test_views_made_ahead_on_a_stream_of_their_own_are_the_same() -> None:
    bench = Workshop(GPU).bench(instruction(plan("fedsimclr")), 1, 8, "digits")
    images = torch.from_numpy(load("digits", images=1000).images).to(GPU)
    rows = torch.arange(1000, device=GPU)
    data = Dataset("ward", images, None, (), train=rows, held=rows[:0], device=GPU)
    found = []
    for way in (lambda batches, _device: batches, ahead):
        generator = torch.Generator(device=GPU).manual_seed(0)
        seen = []
        for batch in way(view_batches(data, bench.augmentation, 32, generator), GPU):
            busy = torch.ones(2000, 2000, device=GPU)
            for _ in range(20):
                busy = busy @ busy / 2000  # so that the next views overtake, if they can
            seen.append((batch.a.clone(), batch.b.clone(), batch.rows.clone()))
        found.append(seen)
    for one, other in zip(*found, strict=True):
        assert all(map(torch.equal, one, other))


@pytest.mark.parametrize("kind,channels", [("digits", 1), ("garments", 1), ("natural", 3)])
def test_views_are_float32_in_range_and_repeatable(kind: str, channels: int) -> None:
    images = torch.randint(0, 256, (64, channels, 32, 32), dtype=torch.uint8, device=GPU)
    views, found = build_augmentation("auto", kind, 32), []
    for _ in range(2):
        with torch.autocast("cuda", torch.bfloat16):
            found.append(views(images, torch.Generator(device=GPU).manual_seed(0)))
    assert found[0].dtype == torch.float32 and found[0].min() >= 0 and found[0].max() <= 1
    assert torch.equal(*found)


def test_mixed_precision_is_on_and_parameters_stay_float32(tmp_path: Path) -> None:
    bench = Workshop(GPU).bench(instruction(plan("fedsimclr")), 1, 8, "digits")
    with bench.precision():
        assert (torch.ones(2, 2, device=GPU) @ torch.ones(2, 2, device=GPU)).dtype is torch.bfloat16
    reply = trained(tmp_path, plan("fedsimclr"))
    assert {str(array.dtype) for array in reply.groups.values()} == {"float32"}


@pytest.mark.parametrize("recipe", recipes.names())
def test_every_recipe_runs(recipe: str, tmp_path: Path) -> None:
    rounds = [min(1, s.get("rounds", 1)) for s in recipes.load(recipe).document["stages"]]
    options = {"rounds": ",".join(map(str, rounds)), "local-epochs": 1, "participation": 1.0}
    simulate(plan(recipe, **options), tmp_path)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "finished"


def final_nmi(folder: Path, device: str) -> float:
    settings = {"dataset": "digits", "sites": 4, "partition": "p-skew(0.75)", "device": device}
    simulate(recipes.load("covey").plan(settings), folder)
    return read_run(folder).stages[-1].figures["nmi"]


def test_a_gpu_in_mixed_precision_learns_what_a_cpu_does(tmp_path: Path) -> None:
    mixed, exact = final_nmi(tmp_path / "gpu", "cuda"), final_nmi(tmp_path / "cpu", "cpu")
    print(f"NMI {mixed:.3f} on the GPU, {exact:.3f} on the CPU")
    assert mixed > exact - 0.06


@pytest.mark.parametrize("protocol", ["knn", "linear", "semi-1", "semi-10", "clustering"])
def test_every_evaluation_runs(protocol: str, capsys, tmp_path: Path) -> None:
    simulate(plan("covey", rounds="1", images=600), tmp_path)
    code, _, err = covey(capsys, "evaluate", str(tmp_path), "--protocol", protocol)
    assert code == 0, err
