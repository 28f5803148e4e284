"""Augmentation of a whole batch on its device, with parameters of each image's own.

A view of an image is one crop window (crop, flip and rotation together: one grid, one bilinear
sampling), then one colour matrix, then blur and noise. All chance comes from the generator that is
handed in, or from a seed for each image.
`presets.py` says how strong, `operations.py` has the maths, `seeded.py` the chance from seeds.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from common.augmentations.operations import (
    Draws,
    blur_kernels,
    brightness_contrast,
    colour_basis,
    crop_windows,
    gaussian_blur,
    per_image,
    recolour,
    sample_windows,
)
from common.augmentations.presets import PRESETS, Preset
from common.augmentations.seeded import SeededChance
from common.utils.errors import unknown

__all__ = ["PRESETS", "Augmentation", "Preset", "build_augmentation"]

CPU_CHUNK = 2**19
"""Numbers in a chunk on a CPU (2 MB): larger intermediates leave the cache and are page-faulted in
anew for each operation, which is three times slower at side 96."""


class Augmentation:
    """Makes views of side `side` as `preset` says."""

    def __init__(self, preset: Preset, side: int) -> None:
        self.preset = preset
        self.side = side
        self._moves = preset.crop != (1.0, 1.0) or preset.flip > 0 or preset.rotation > 0
        self._blurs = preset.blur > 0 and side > preset.blur_above
        self._colour_basis = colour_basis()

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """One view of each image: uint8 (N, C, H, W) -> float32 (N, C, side, side) in [0, 1].

        `generator` must be on the images' device; the same state of it gives the same bytes.
        """
        _check(images)
        # Autocast would round the matrix products to bfloat16, coarser than the images' 8 bits.
        with torch.autocast(images.device.type, enabled=False):
            if images.device.type != "cpu":
                return self._drawn(images, generator)
            per_chunk = max(1, CPU_CHUNK // (images.shape[1] * self.side**2))
            return torch.cat([self._drawn(c, generator) for c in torch.split(images, per_chunk)])

    def pair(self, images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Two independent views of each image, made as one batch: each kernel starts once."""
        a, b = self(torch.cat([images, images]), generator).chunk(2)
        return a, b

    def seeded(self, images: Tensor, seeds: Tensor, *, filled: bool = True) -> Tensor:
        """One view of each image (N, C, H, W), by its own of `seeds` (N,) int64: the same bits
        whatever the other images are, and in whatever order.

        On a CPU all batches have one size, a power of two, the last one filled up: there the last
        bit of a number can depend on its place in a batch, and on where that ends. Not `filled`
        up, a small batch takes less, and a view is the same but for such a bit.
        """
        _check(images)
        size = len(images)
        if images.device.type == "cpu":
            fitting = max(1, CPU_CHUNK // (images.shape[1] * self.side**2))
            size = 1 << (fitting.bit_length() - 1)
        with torch.autocast(images.device.type, enabled=False):
            views = []
            for batch, own in zip(images.split(size), seeds.split(size), strict=True):
                rows = torch.arange(size if filled else len(batch), device=images.device)
                rows %= len(batch)
                chance = SeededChance(own[rows])
                views.append(self._view(batch[rows], chance.draws, chance.noise)[: len(batch)])
            return torch.cat(views)

    def plain(self, images: Tensor) -> Tensor:
        """The images themselves: uint8 (N, C, H, W) -> float32 (N, C, side, side) in [0, 1]."""
        _check(images)
        plain = images.to(torch.float32).div_(255)
        size = (self.side, self.side)
        if images.shape[2:] != size:
            plain = F.interpolate(plain, size, mode="bilinear", antialias=True).clamp_(0, 1)
        return plain

    def _drawn(self, images: Tensor, generator: torch.Generator) -> Tensor:
        def noise(shape: torch.Size) -> Tensor:
            return torch.randn(shape, generator=generator, device=images.device)

        return self._view(images, Draws.of(len(images), generator), noise)

    def _view(
        self, images: Tensor, draws: Draws, noise_of: Callable[[torch.Size], Tensor]
    ) -> Tensor:
        preset, view = self.preset, self.plain(images)
        if self._moves:
            view = sample_windows(view, crop_windows(preset, draws), preset.padding)
        if view.shape[1] == 3 and (preset.jitter > 0 or preset.grayscale > 0):
            self._colour_basis = self._colour_basis.to(view.device)
            view = recolour(view, preset, draws, self._colour_basis)
        elif preset.jitter > 0:
            gain, offset = brightness_contrast(preset, draws, view.mean((1, 2, 3)))
            view = torch.addcmul(per_image(offset), per_image(gain), view)
        if self._blurs:
            view = gaussian_blur(view, blur_kernels(preset, draws, self.side))
        if preset.noise > 0:
            strength = per_image(preset.noise * draws.noise)
            view = torch.addcmul(view, strength, noise_of(view.shape))
        return view.clamp_(0, 1)


def build_augmentation(name: str, kind: str, side: int) -> Augmentation:
    """The augmentation called `name`, for views of `side`; "auto" takes the data set's `kind`.
    `UserError` for an unknown name."""
    chosen = kind if name == "auto" else name
    if chosen not in PRESETS:
        raise unknown("augmentation", chosen, [*PRESETS, "auto"])
    return Augmentation(PRESETS[chosen], side)


def _check(images: Tensor) -> None:
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            "images must be uint8 of shape (N, 1 or 3, H, W), "
            f"not {images.dtype} of shape {tuple(images.shape)}"
        )
