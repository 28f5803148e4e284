"""Views: random augmentations of a whole batch on its device, with parameters of each image's own.

One view is one crop window (crop, flip and rotation together: one grid, one bilinear sampling),
then one colour matrix per image, then blur and noise. Nothing here loops over images or waits for
the device, and all chance comes from the generator that is handed in. To add a kind of image, add
a `ViewPreset` to `PRESETS`.

The crop is torchvision's `RandomResizedCrop` without its rejection loop. Colour jitter applies
brightness, contrast, saturation and hue in this order and clamps once at the end. Hue is a
rotation in the plane of chrominance of YIQ (Y is luma), not HSV's: it is linear, so that all four
and grayscale make one 3×3 matrix and one offset.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import unknown

Range = tuple[float, float]


@dataclass(frozen=True)
class ViewPreset:
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


PRESETS: dict[str, ViewPreset] = {
    # A flipped digit is another sign, and a crop below half can turn one digit into another.
    "digits": ViewPreset(
        crop=(0.5, 1.0),
        aspect=(3 / 4, 4 / 3),
        rotation=15.0,
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        noise=0.05,
    ),
    "garments": ViewPreset(
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
    "natural": ViewPreset(
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


class Views:
    """Makes views of side `side` as `preset` says."""

    def __init__(self, preset: ViewPreset, side: int) -> None:
        self.preset = preset
        self.side = side
        self._moves = preset.crop != (1.0, 1.0) or preset.flip > 0 or preset.rotation > 0
        self._blurs = preset.blur > 0 and side > preset.blur_above
        self._colour_basis = colour_basis()

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """One view of each image: uint8 (N, C, H, W) -> float32 (N, C, side, side) in [0, 1].

        `generator` must be on the images' device; the same state of it gives the same bytes.
        """
        # Autocast would round the matrix products to bfloat16, coarser than the images' 8 bits.
        with torch.autocast(images.device.type, enabled=False):
            return self._view(self.plain(images), generator)

    def pair(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Two independent views of each image, made as one batch: each kernel starts once."""
        a, b = self(torch.cat([images, images]), generator).chunk(2)
        return a, b

    def plain(self, images: Tensor) -> Tensor:
        """The images themselves: uint8 (N, C, H, W) -> float32 (N, C, side, side) in [0, 1]."""
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
            raise ValueError(
                "images must be uint8 of shape (N, 1 or 3, H, W), "
                f"not {images.dtype} of shape {tuple(images.shape)}"
            )
        plain = images.to(torch.float32).div_(255)
        size = (self.side, self.side)
        if images.shape[2:] != size:
            plain = F.interpolate(plain, size, mode="bilinear", antialias=True).clamp_(0, 1)
        return plain

    def _view(self, view: Tensor, generator: torch.Generator) -> Tensor:
        preset, draws = self.preset, Draws.of(len(view), generator)
        if self._moves:
            view = sample_windows(view, crop_windows(preset, draws), preset.padding)
        if view.shape[1] == 3 and (preset.jitter > 0 or preset.grayscale > 0):
            self._colour_basis = self._colour_basis.to(view.device)
            view = recolour(view, preset, draws, self._colour_basis)
        elif preset.jitter > 0:
            gain, offset = brightness_contrast(preset, draws, view.mean((1, 2, 3)))
            view = torch.addcmul(_per_image(offset), _per_image(gain), view)
        if self._blurs:
            view = gaussian_blur(view, blur_kernels(preset, draws, self.side))
        if preset.noise > 0:
            noise = torch.randn(view.shape, generator=generator, device=view.device)
            view = torch.addcmul(view, _per_image(preset.noise * draws.noise), noise)
        return view.clamp_(0, 1)


def build_views(name: str, kind: str, side: int) -> Views:
    """The views called `name` at `side`; "auto" takes the data set's `kind`. `UserError` for an
    unknown name."""
    chosen = kind if name == "auto" else name
    if chosen not in PRESETS:
        raise unknown("view preset", chosen, [*PRESETS, "auto"])
    return Views(PRESETS[chosen], side)


class Draws(NamedTuple):
    """The chance of one view, the noise itself apart: uniform in [0, 1), (N,) each.

    All are drawn at once, also for what is off: one kernel, and an operation that is switched off
    does not change what the others draw.
    """

    area: Tensor
    aspect: Tensor
    x: Tensor
    y: Tensor
    flip: Tensor
    angle: Tensor
    jitter: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor
    grayscale: Tensor
    blur: Tensor
    sigma: Tensor
    noise: Tensor

    @classmethod
    def of(cls, count: int, generator: torch.Generator) -> "Draws":
        """Draws for `count` images, on the generator's device."""
        shape = (len(cls._fields), count)
        return cls(*torch.rand(shape, generator=generator, device=generator.device).unbind())


def crop_windows(preset: ViewPreset, draws: Draws) -> Tensor:
    """What each view shows: (N, 2, 3), affine from the view's to the image's (x, y) in [-1, 1].

    A window with a share of the image's area in `preset.crop` lies inside the image and is then
    turned about its own centre. Its aspect is log-uniform over that part of `preset.aspect` with
    which it fits (torchvision draws again until it fits, which changes the areas' distribution).
    """
    area = _between(preset.crop, draws.area)
    narrowest, widest = (math.log(bound) for bound in preset.aspect)
    low, high = area.log().clamp(min=narrowest), (-area.log()).clamp(max=widest)
    aspect = torch.lerp(low, high, draws.aspect).exp()
    width = (area * aspect).sqrt().clamp(max=1)
    height = (area / aspect).sqrt().clamp(max=1)
    x = (1 - width) * (2 * draws.x - 1)
    y = (1 - height) * (2 * draws.y - 1)
    angle = math.radians(preset.rotation) * (2 * draws.angle - 1)
    cos, sin = angle.cos(), angle.sin()
    width = torch.where(draws.flip < preset.flip, -width, width)
    rows = [cos * width, -sin * height, x, sin * width, cos * height, y]
    return torch.stack(rows, dim=1).view(-1, 2, 3)


def sample_windows(images: Tensor, windows: Tensor, padding: str) -> Tensor:
    """Square `images` (N, C, S, S) seen through `windows` (N, 2, 3), bilinear, at the same side.

    The grid is `F.affine_grid`'s, as a sum of columns and rows: on a CPU the product of matrices
    in there costs more than the sampling itself.
    """
    side = images.shape[-1]
    centres = (2 * torch.arange(side, device=images.device) + 1) / side - 1
    columns = windows[:, None, :, 0] * centres[:, None]
    rows = windows[:, None, :, 1] * centres[:, None] + windows[:, None, :, 2]
    grid = rows[:, :, None] + columns[:, None]
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)


def brightness_contrast(preset: ViewPreset, draws: Draws, luma: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and offset, (N,) each, of brightness b and then contrast c about the image's mean
    `luma` (N,): x -> c·(b·x) + (1 - c)·b·luma."""
    brightness = 1 + _jitter(preset, draws, preset.brightness, draws.brightness)
    contrast = 1 + _jitter(preset, draws, preset.contrast, draws.contrast)
    return contrast * brightness, (1 - contrast) * brightness * luma


def colour_basis() -> Tensor:
    """(3, 3, 3): L takes RGB to its luma, P = I - L to what is left, Q to that turned by 90° in
    YIQ's plane of chrominance (ITU-R BT.470, system M)."""
    yiq = torch.tensor(
        [[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]],
        dtype=torch.float64,
    )
    turn = torch.tensor([[0, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=torch.float64)
    luma = yiq[0].expand(3, 3)
    turned = torch.linalg.inv(yiq) @ turn @ yiq
    return torch.stack([luma, torch.eye(3, dtype=torch.float64) - luma, turned]).float()


def recolour(view: Tensor, preset: ViewPreset, draws: Draws, basis: Tensor) -> Tensor:
    """Jitter and grayscale of RGB (N, 3, H, W): with saturation s and hue angle θ the colour
    matrix is L + s·(cos θ·P + sin θ·Q), and grayscale is s = 0. `basis` is `colour_basis()`."""
    gain, offset = brightness_contrast(preset, draws, view.mean((2, 3)) @ basis[0, 0])
    saturation = 1 + _jitter(preset, draws, preset.saturation, draws.saturation)
    saturation = torch.where(draws.grayscale < preset.grayscale, 0.0, saturation)
    hue = 2 * math.pi * _jitter(preset, draws, preset.hue, draws.hue)
    shares = [torch.ones_like(hue), saturation * hue.cos(), saturation * hue.sin()]
    weights = gain[:, None] * torch.stack(shares, dim=1)
    matrix = (weights[:, :, None, None] * basis).sum(1)
    return torch.baddbmm(offset[:, None, None], matrix, view.flatten(2)).view(view.shape)


def blur_kernels(preset: ViewPreset, draws: Draws, side: int) -> Tensor:
    """(N, k) Gaussian kernels that sum to 1, k odd and about a tenth of `side` (SimCLR's); a
    single 1 in the middle where the image draws no blur."""
    radius = max(1, side // 20)
    sigma = _between(preset.blur_sigma, draws.sigma)
    distance = torch.arange(-radius, radius + 1, device=sigma.device)
    kernels = torch.softmax(-0.5 * (distance / sigma[:, None]) ** 2, dim=1)
    blurred = (draws.blur < preset.blur)[:, None]
    return torch.where(blurred, kernels, (distance == 0).to(kernels.dtype))


def gaussian_blur(images: Tensor, kernels: Tensor) -> Tensor:
    """`images` (N, C, H, W) blurred with each its own of `kernels` (N, k), edges mirrored."""
    count, channels, height, width = images.shape
    size = kernels.shape[1]
    maps = count * channels
    padded = F.pad(images, [size // 2] * 4, mode="reflect").view(1, maps, height + size - 1, -1)
    weights = kernels.repeat_interleave(channels, dim=0)
    across = F.conv2d(padded, weights.view(maps, 1, 1, size), groups=maps)
    blurred = F.conv2d(across, weights.view(maps, 1, size, 1), groups=maps)
    return blurred.view(count, channels, height, width)


def _between(bounds: Range, draw: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * draw


def _jitter(preset: ViewPreset, draws: Draws, strength: float, draw: Tensor) -> Tensor:
    """(N,) in [-strength, strength]; 0 where the image draws no jitter."""
    return torch.where(draws.jitter < preset.jitter, strength * (2 * draw - 1), 0.0)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
