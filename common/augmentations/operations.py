"""The maths of views: whole batches, each image with parameters of its own, no loop over images
and nothing that waits for the device.

The crop is torchvision's `RandomResizedCrop` without its rejection loop. Colour jitter applies
brightness, contrast, saturation and hue in this order, unclamped. Hue is a rotation in the plane
of chrominance of YIQ (Y is luma), not HSV's: it is linear, so that all four and grayscale make one
3×3 matrix and one offset.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from common.augmentations.presets import Preset, Range


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


def crop_windows(preset: Preset, draws: Draws) -> Tensor:
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


def brightness_contrast(preset: Preset, draws: Draws, luma: Tensor) -> tuple[Tensor, Tensor]:
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


def recolour(view: Tensor, preset: Preset, draws: Draws, basis: Tensor) -> Tensor:
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


def blur_kernels(preset: Preset, draws: Draws, side: int) -> Tensor:
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


def _jitter(preset: Preset, draws: Draws, strength: float, draw: Tensor) -> Tensor:
    """(N,) in [-strength, strength]; 0 where the image draws no jitter."""
    return torch.where(draws.jitter < preset.jitter, strength * (2 * draw - 1), 0.0)


def per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
