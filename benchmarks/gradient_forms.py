"""How far a batch's gradient is off in fewer bits: float16, bfloat16, and blocks of whole numbers.

    python benchmarks/gradient_forms.py

Ten sites of one class each, `small-convnet`, steps of `covey-sync`'s training on batches of all
sites' images; of each step the gradients that the sites send, each in each form, and the relative
error of their mean. `site`: how long a site's own gradient is beside the mean of all. What training
with a form is worth: `steps_a_round.py --arms sync --options gradients=int8`.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import typer
from _table import show
from numpy.typing import NDArray

import client.tasks.synchronous as answering
from client.tasks.task import Task
from common.config import recipes
from common.protocol.packing import BLOCK, pack, unpack
from deploy.engines.simulate import simulate

Vector = NDArray[np.float32]
RNG = np.random.default_rng(0)
FORMS: dict[str, tuple[float, Callable[[Vector], Vector]]] = {  # name -> bytes a number, and back
    "float16": (2, lambda g: g.astype(np.float16).astype(np.float32)),
    "bfloat16": (2, lambda g: torch.from_numpy(g).bfloat16().float().numpy()),
    "int16": (2 + 1 / BLOCK, lambda g: unpack(pack(g, "int16", RNG))),
    "int8": (1 + 1 / BLOCK, lambda g: unpack(pack(g, "int8", RNG))),
}


def main(dataset: str = "digits", images: int = 1000, sites: int = 10, rounds: int = 40) -> None:
    """Take the steps, print the first, one in the middle and the last."""
    torch.set_num_threads(1)
    options = {"dataset": dataset, "images": images, "sites": sites, "rounds": rounds}
    options |= {"partition": "p-skew(1.0)", "encoder": "small-convnet", "batch-size": 256}
    sent: list[Vector] = []
    in_form = answering.in_form

    def watched(task: Task) -> object:
        found = in_form(task)
        sent.append(np.concatenate([found["groups"][name] for name in sorted(found["groups"])]))
        return found

    answering.in_form = watched  # type: ignore[assignment]
    with tempfile.TemporaryDirectory(prefix="covey-") as folder:
        plan = recipes.load("covey-sync").plan({**options, "gradients": "float32"})
        simulate(plan, Path(folder) / "run")
    rows = []
    for step in (0, rounds // 2, rounds - 1):
        own = sent[step * sites : (step + 1) * sites]
        mean = np.mean(own, axis=0)
        length = float(np.linalg.norm(mean))
        errors = [
            float(np.linalg.norm(np.mean([back(g) for g in own], axis=0) - mean)) / length
            for _, back in FORMS.values()
        ]
        site = float(np.mean([np.linalg.norm(g) for g in own])) / length
        rows.append((f"step {step + 1}", site, *errors))
    show("relative error of the mean gradient", ("", "site", *FORMS), rows)
    print(", ".join(f"{name} {size:.3g} bytes a number" for name, (size, _) in FORMS.items()))


if __name__ == "__main__":
    typer.run(main)
