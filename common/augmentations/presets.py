"""How strongly each kind of image is augmented. To add a kind, add a preset to `PRESETS`."""

from dataclasses import dataclass
from typing import Literal

Range = tuple[float, float]


@dataclass(frozen=True)
class Preset:
    """How strongly one kind of image is augmented; the defaults change nothing.

    crop: share of the image's area; aspect: width over height of the crop; flip, jitter,
    grayscale, blur: probabilities; rotation: largest angle, degrees; padding: what lies outside
    the image; brightness, contrast, saturation: factors in [1 - s, 1 + s]; hue: largest share of
    a full turn; blur_sigma: pixels; blur_above: no blur up to this side; noise: largest standard
    deviation, where images are in [0, 1].
    """

    crop: Range = (1.0, 1.0)
    aspect: Range = (1.0, 1.0)
    flip: float = 0.0
    rotation: float = 0.0
    padding: Literal["zeros", "reflection"] = "zeros"
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grayscale: float = 0.0
    blur: float = 0.0
    blur_sigma: Range = (0.1, 2.0)
    blur_above: int = 0
    noise: float = 0.0


PRESETS: dict[str, Preset] = {
    # A flipped digit is another sign, and a crop below half can turn one digit into another.
    "digits": Preset(
        crop=(0.5, 1.0),
        aspect=(3 / 4, 4 / 3),
        rotation=15.0,
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        noise=0.05,
    ),
    "garments": Preset(
        crop=(0.4, 1.0),
        aspect=(3 / 4, 4 / 3),
        flip=0.5,
        rotation=10.0,
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        noise=0.05,
    ),
    # SimCLR on CIFAR-10 (Chen et al., ICML 2020, appendix B.9: jitter of strength 0.5, no blur);
    # larger images are blurred as on ImageNet (appendix A), and cropped as on CIFAR-10.
    "natural": Preset(
        crop=(0.2, 1.0),
        aspect=(3 / 4, 4 / 3),
        flip=0.5,
        padding="reflection",
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        grayscale=0.2,
        blur=0.5,
        blur_above=32,
    ),
}
