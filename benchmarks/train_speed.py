"""Images per second of the trainer's loop, against the same model's bare forward and backward on
ready-made views, and against the usual per-image torchvision transforms with a DataLoader.

    python benchmarks/train_speed.py

All three take the same optimiser steps of SimCLR on the same images, one after the other in turns,
several times; the ratios are of the medians.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import torch
import typer
from _table import save_json, show
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from client.dataset import shuffled_batches
from client.trainer import Trainer
from client.workbench import Workshop, pick_device
from common.config import recipes
from common.config.options import Plan
from common.data import ImageData, load
from common.objectives.base import Batch
from common.protocol import layout
from common.protocol.layout import layout_of
from common.protocol.messages import Instruction
from common.stages import build_stage


def main(
    dataset: str = "digits",
    side: Annotated[int, typer.Option(help="images are scaled to this side")] = 28,
    images: int = 1024,
    encoder: str = "convnet",
    repeats: int = 5,
    device: str = "auto",
    threads: int = 0,
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
) -> None:
    """Measure, print, save."""
    if threads:
        torch.set_num_threads(threads)
    where = pick_device(device)
    data = resized(load(dataset, images=images), side)
    plan = recipes.load("fedsimclr").plan(
        {"encoder": encoder, "local-epochs": 1, "clusters": 10, "evaluation-share": 0.001}
    )
    ways: dict[str, Callable[[], float]] = {
        "trainer": trainer(plan, data, where),
        "bare": bare(plan, data, where),
        "loop": per_image_loop(plan, data, where),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            rate = way()
            if turn:  # the first turn warms up
                rates[name].append(rate)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    figures = {
        "of_bare": medians["trainer"] / medians["bare"],
        "over_loop": medians["trainer"] / medians["loop"],
        "images_per_s": medians,
        "device": str(where),
        "encoder": encoder,
        "side": side,
    }
    show(
        f"{encoder}, {side}×{side}, {where}: SimCLR images/s (median of {repeats})",
        ("way", "images/s", "trainer is"),
        [
            ("trainer (views, forward, backward, step)", medians["trainer"], ""),
            (
                "bare forward + backward + step, views ready",
                medians["bare"],
                f"{figures['of_bare']:.2f} of it",
            ),
            (
                "torchvision per image + DataLoader",
                medians["loop"],
                f"{figures['over_loop']:.1f} × it",
            ),
        ],
    )
    if json:
        save_json(json, figures)


def resized(data: ImageData, side: int) -> ImageData:
    """The data set at another side, nearest neighbour: only the speed matters here."""
    pixels = torch.from_numpy(data.images).float()
    scaled = torch.nn.functional.interpolate(pixels, size=(side, side)).byte().numpy()
    return ImageData(scaled, data.labels, data.classes, data.names, data.kind)


def trainer(plan: Plan, data: ImageData, device: torch.device) -> Callable[[], float]:
    """The whole of what a site does between two measurements: our trainer's `train` phase."""
    workshop = Workshop(device)
    folder = Path(tempfile.mkdtemp(prefix="covey-bench-"))
    site = Trainer("site", data, folder, workshop)
    shared = build_stage(plan, 0, data.channels, data.side, plan.clusters).shared()
    ask = Instruction(
        "train", "bench", 1, plan, 0, layout_of(shared).digest, groups=layout.flatten(shared)
    )

    def run() -> float:
        reply = site.handle(ask)
        return reply.sums["seen"] / reply.seconds["train"]

    return run


def bare(plan: Plan, data: ImageData, device: torch.device) -> Callable[[], float]:
    """The same model and steps on views that are there already."""
    objective = build_stage(plan, 0, data.channels, data.side, plan.clusters)
    objective = objective.to(device, memory_format=torch.channels_last).train()
    stage = plan.stages[0]
    ready = torch.from_numpy(data.images).to(device).float() / 255
    optimiser = torch.optim.AdamW(objective.parameters(), lr=stage.learning_rate, fused=True)
    chance = torch.Generator(device=device).manual_seed(0)
    batches = [
        ready[i].contiguous(memory_format=torch.channels_last)
        for i in shuffled_batches(len(ready), stage.batch_size, chance)
    ]

    def run() -> float:
        start = time.perf_counter()
        for batch in batches:
            step(objective, optimiser, batch, batch, device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return len(ready) / (time.perf_counter() - start)

    return run


def per_image_loop(plan: Plan, data: ImageData, device: torch.device) -> Callable[[], float]:
    """What most public code does: transforms one image at a time, collated by a DataLoader."""
    objective = build_stage(plan, 0, data.channels, data.side, plan.clusters).to(device).train()
    stage = plan.stages[0]
    optimiser = torch.optim.AdamW(objective.parameters(), lr=stage.learning_rate)
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(data.side, scale=(0.5, 1.0), antialias=True),
            v2.RandomRotation(15),
            v2.RandomApply([v2.ColorJitter(0.4, 0.4)], p=0.8),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )

    class Views(Dataset[tuple[Tensor, Tensor]]):
        def __len__(self) -> int:
            return len(data.images)

        def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
            image = torch.from_numpy(data.images[index])
            return transform(image), transform(image)

    loader = DataLoader(Views(), batch_size=stage.batch_size, shuffle=True)

    def run() -> float:
        start = time.perf_counter()
        for a, b in loader:
            step(objective, optimiser, a.to(device), b.to(device), device)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return len(data.images) / (time.perf_counter() - start)

    return run


def step(
    objective: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    a: Tensor,
    b: Tensor,
    device: torch.device,
) -> None:
    """One optimiser step."""
    batch = Batch(a, b, torch.arange(len(a), device=device), torch.Generator(device=device))
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        terms = objective.terms(objective.represent(batch))
    loss = torch.stack(list(terms.values())).sum()
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()


if __name__ == "__main__":
    typer.run(main)
