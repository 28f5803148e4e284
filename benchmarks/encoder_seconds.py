"""Milliseconds that an image takes through each encoder, by side: one forward in evaluation mode.

    python benchmarks/encoder_seconds.py [--device cuda] [--sides 32,64,128,224]

The median of `REPEATS` batches of random colour images: CPU time of one thread, which does not
depend on what else the machine does, or wall time on a GPU (bfloat16 there). It is what an image
costs in each exchange that embeds it: a recipe without training embeds each image three times (as
it is, and in two views).
"""

import argparse
import statistics
import time

import torch

from client.workbench import mixed_precision, pick_device
from common.models.encoders import ENCODERS, build_encoder
from common.utils.errors import UserError

REPEATS = 3
BATCH = {"cpu": 8, "cuda": 256}


@torch.no_grad()
def milliseconds(name: str, side: int, device: torch.device) -> float:
    """Of one image of so many pixels a side."""
    encoder = build_encoder(name, 3, side, 0).eval().to(device, memory_format=torch.channels_last)
    images = torch.rand(BATCH[device.type], 3, side, side, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    taken = []
    for _ in range(REPEATS + 1):  # the first one warms up
        start = clock()
        with mixed_precision("auto", device):
            encoder(images)
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append((clock() - start) * 1000 / len(images))
    return statistics.median(taken[1:])


def main() -> None:
    """Print a table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sides", default="32,64,128,224")
    given = parser.parse_args()
    device = pick_device(given.device)
    torch.set_num_threads(1)
    sides = [int(side) for side in given.sides.split(",")]
    print(f"| encoder | {' | '.join(map(str, sides))} |")
    print(f"|---|{'---|' * len(sides)}")
    for name in ENCODERS:
        cells = []
        for side in sides:
            try:
                cells.append(f"{milliseconds(name, side, device):.3g}")
            except UserError:
                cells.append("–")
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
