"""Peak memory of the process that runs the ServerApp, against the number of sites.

    python benchmarks/server_memory.py

Each size runs in a process of its own with the in-process engine, which holds one site's work at a
time, and a ResNet-18 (11 million parameters) on tiny images: what could grow with the sites is what
the server keeps of their replies.
"""

import json as jsonlib
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from _table import save_json, show

IMAGES_PER_SITE = 12


def main(
    sites: str = "2,8,32",
    encoder: str = "resnet18",
    rounds: int = 2,
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
    child: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Measure each size in a fresh process."""
    if child:
        print(jsonlib.dumps(measure(child, encoder, rounds)))
        return
    numbers = [int(n) for n in sites.split(",")]
    peaks = {}
    for number in numbers:
        command = [sys.executable, __file__, "--child", str(number)]
        command += ["--encoder", encoder, "--rounds", str(rounds)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks[number] = jsonlib.loads(output.splitlines()[-1])
    first = peaks[numbers[0]]["peak_mb"]
    growth = peaks[numbers[-1]]["peak_mb"] / first
    show(
        f"Peak memory of the server's process, {encoder}, {rounds} rounds",
        ("sites", "peak MB", f"of {numbers[0]} sites", "model MB"),
        [
            (str(n), p["peak_mb"], f"{p['peak_mb'] / first:.3f}", p["model_mb"])
            for n, p in peaks.items()
        ],
    )
    if json:
        save_json(json, {"growth": growth, "peaks": peaks})


def measure(sites: int, encoder: str, rounds: int) -> dict[str, float]:
    """Run a small federation and read the peak resident set."""
    import torch  # noqa: PLC0415 (the parent needs none of these)

    from common import recipes  # noqa: PLC0415 (the parent needs no torch)
    from deploy.engines.simulate import simulate  # noqa: PLC0415

    options = {
        "dataset": "digits",
        "images": sites * IMAGES_PER_SITE,
        "sites": sites,
        "partition": "iid",
        "encoder": encoder,
        "rounds": rounds,
        "local-epochs": 1,
        "min-count": 1,
    }
    with tempfile.TemporaryDirectory(prefix="covey-bench-") as folder:
        torch.set_num_threads(1)
        simulate(recipes.load("fedsimclr").plan(options), Path(folder))
        checkpoint = (Path(folder) / "checkpoint.safetensors").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_mb": round(peak, 1), "model_mb": round(checkpoint / 1e6, 1)}


if __name__ == "__main__":
    typer.run(main)
