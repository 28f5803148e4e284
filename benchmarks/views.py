"""Views per second: Covey's, kornia's with the same operations, and torchvision's image by image.

    python benchmarks/views.py [--json FILE] [--threads 1] [--device cpu]

All three make the same operations at the same strengths with parameters of each image's own, from
the same uint8 batch. Each is timed in turn, round after round, so that what else the machine does
falls on all of them; the figure is the median round. The others' noise has one standard deviation,
the mean of ours. kornia is needed for this benchmark only.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _table import save_json, show
from kornia import augmentation as kornia
from torch import Tensor, nn
from torchvision.transforms import v2

from common.augmentations import PRESETS, Augmentation, Preset

CASES = [("digits", 1, 28), ("garments", 1, 28), ("natural", 3, 32), ("natural", 3, 96)]

Make = Callable[[Tensor], Tensor]


def kornia_views(preset: Preset, channels: int, side: int) -> Make:
    """kornia's sequence: one module per operation, over the whole batch."""
    jitter = (preset.brightness, preset.contrast, preset.saturation, preset.hue)
    crop = kornia.RandomResizedCrop((side, side), scale=preset.crop, ratio=preset.aspect)
    steps: list[nn.Module] = [crop]
    if preset.flip:
        steps.append(kornia.RandomHorizontalFlip(p=preset.flip))
    if preset.rotation:
        steps.append(kornia.RandomRotation(preset.rotation, p=1.0))
    steps.append(kornia.ColorJitter(*jitter, p=preset.jitter))
    if channels == 3 and preset.grayscale:
        steps.append(kornia.RandomGrayscale(p=preset.grayscale))
    if blurs(preset, side):
        size = kernel_size(side)
        steps.append(kornia.RandomGaussianBlur((size, size), preset.blur_sigma, p=preset.blur))
    if preset.noise:
        steps.append(kornia.RandomGaussianNoise(std=preset.noise / 2, p=1.0))
    sequence = nn.Sequential(*steps)
    return lambda images: sequence(images.float().div_(255))


def torchvision_views(preset: Preset, channels: int, side: int) -> Make:
    """torchvision's transforms, called for each image: a batch would share its parameters."""
    jitter = (preset.brightness, preset.contrast, preset.saturation, preset.hue)
    steps: list[nn.Module] = [
        v2.RandomResizedCrop(side, scale=preset.crop, ratio=preset.aspect, antialias=False)
    ]
    if preset.flip:
        steps.append(v2.RandomHorizontalFlip(preset.flip))
    if preset.rotation:
        bilinear = v2.InterpolationMode.BILINEAR
        steps.append(v2.RandomRotation(preset.rotation, interpolation=bilinear))
    steps.append(v2.RandomApply([v2.ColorJitter(*jitter)], preset.jitter))
    if channels == 3 and preset.grayscale:
        steps.append(v2.RandomGrayscale(preset.grayscale))
    if blurs(preset, side):
        blur = v2.GaussianBlur(kernel_size(side), preset.blur_sigma)
        steps.append(v2.RandomApply([blur], preset.blur))
    steps.append(v2.ToDtype(torch.float32, scale=True))
    if preset.noise:
        steps.append(v2.GaussianNoise(sigma=preset.noise / 2))
    transform = v2.Compose(steps)
    return lambda images: torch.stack([transform(image) for image in images])


def blurs(preset: Preset, side: int) -> bool:
    """Whether images of this side are blurred."""
    return preset.blur > 0 and side > preset.blur_above


def kernel_size(side: int) -> int:
    """The blur's kernel, as Covey's: odd, about a tenth of the side."""
    return 2 * max(1, side // 20) + 1


def seconds_each(makers: dict[str, Make], images: Tensor, rounds: int) -> dict[str, float]:
    """Median seconds of one batch by each maker, timed in turn after one round of warming up."""
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(rounds + 1):
        for name, make in makers.items():
            wait(images.device)
            start = time.perf_counter()
            make(images)
            wait(images.device)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(kind: str, channels: int, side: int, options: argparse.Namespace) -> dict[str, float]:
    """Views per second of the three for one kind of image, and how many times theirs Covey's is."""
    preset, device = PRESETS[kind], torch.device(options.device)
    generator = torch.Generator(device).manual_seed(0)
    shape = (options.batch, channels, side, side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator, device=device)
    covey = Augmentation(preset, side)
    makers: dict[str, Make] = {
        "covey": lambda batch: covey(batch, generator),
        "kornia": kornia_views(preset, channels, side),
        "torchvision": torchvision_views(preset, channels, side),
    }
    seconds = seconds_each(makers, images, options.rounds)
    rates = {name: options.batch / value for name, value in seconds.items()}
    ratios = {f"over {name}": rates["covey"] / rates[name] for name in ("kornia", "torchvision")}
    return {**rates, **ratios}


def main() -> None:
    """Measure every case, print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description="Views per second, and ratios to other libraries.")
    parser.add_argument("--json", type=Path, help="write the same figures to this file")
    parser.add_argument("--batch", type=int, default=256, help="images in a batch")
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ...")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)  # kornia and torchvision draw from the global generator
    cases = {f"{kind} {c}×{side}×{side}": (kind, c, side) for kind, c, side in CASES}
    rows = {name: measure(*case, options) for name, case in cases.items()}
    title = (
        f"Views per second: batches of {options.batch} on {options.device}, "
        f"{options.threads} thread(s), torch {torch.__version__}"
    )
    columns = ["images", *next(iter(rows.values()))]
    show(title, columns, [[name, *row.values()] for name, row in rows.items()])
    if options.json:
        save_json(options.json, {"title": title, "rows": rows})


if __name__ == "__main__":
    main()
