"""The encoder `noise-filters`: convolutions that no image has taught, and that are exact.

Layers of convolutions (5×5, 3×3, 3×3), each followed by normalisation, ReLU and averaging over
2×2 pixels. Normalisation is half a layer's and half each map's own: with r a map's root mean
square and R that of all maps of the layer, y is divided by √(R·(r + R/10)), so that weak maps
count for more. Filters come in opposite pairs ±v, v the leading principal components of the
patches that the layer sees in noise whose amplitude falls as 1/f, as that of photographs does
(Field, J. Opt. Soc. Am. A 4, 1987). What *every* layer gives is added up in 3×3 cells, and with
the layer's sums s the features are √(s / Σs), side by side, the first layer's 1.2 times, the last
one's .8 times as long as the second's; of unit length all together. So they depend on no data,
and nothing about them has to be agreed on, averaged or kept from anyone.

**Exact.** A projection from sums is the same for any spread of the images only if an image has the
same features in every batch and at every site. So every number here lies on a grid of powers of two
and every sum of products fits the 24 bits of a float32: pixels in 8 bits, filters in steps of
`FILTER_STEP`, activations of `STEP` up to `MOST`. Then a sum is the same in any order, whatever
library, threads or device make of it (also in TF32, whose 11 bits hold the factors). Sums
of squares are in float64, and exact, too. What is left, a division and a square root for each
number, is defined to the last bit by IEEE 754.
Images larger than `LARGE` are averaged down first: filters of three layers see 24 pixels.

Sources: networks of principal components: Chan et al., "PCANet", IEEE TIP 2015 (arXiv 1404.3606);
opposite pairs: Shang et al., ICML 2016 (CReLU, arXiv 1603.05201); the square root: Perronnin et
al., ECCV 2010. From noise, and exact: ours (docs/researcher/exact.md has the measurements).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.models.encoders import Encoder
from common.models.whole import root
from common.utils.errors import UserError

PIXEL_STEP, FILTER_STEP = 2.0**-8, 2.0**-9  # of the first layer's filters, of the others'
STEP, MOST = 2.0**-4, 16.0  # of an activation; their mean square is 1 before the rectifier
FEATURE_STEP = 2.0**-14
FLAT = 2.0**-10  # the root mean square below which maps are taken for blank
LARGE = 63  # pixels of the longest side that is not averaged down
CPU_IMAGES = 32  # at once on a CPU, so that the maps stay in its cache
PATCHED = 2**26  # numbers in the patches that are laid out at once, on a GPU (256 MB)
NOISE, NOISE_SIDE, NOISE_SEED = 256, 32, 0  # images of noise, their side
COLOUR = 0.35  # how much of their own the channels of noise have, beside what they share


@dataclass(frozen=True)
class Design:
    """`widths`: filters of each layer, at most; `kernels`: their sides; `cells`: along a side of
    the map, for each layer; `lengths` of the layers' features; `evened`: which share of the
    normalisation is each map's own, in halves, beside `floor` of the layer's root mean square."""

    widths: tuple[int, ...] = (32, 64, 128)
    kernels: tuple[int, ...] = (5, 3, 3)
    cells: int = 3
    lengths: tuple[float, ...] = (1.2, 1.0, 0.8)
    evened: int = 1
    floor: float = 0.1


class NoiseFilters(Encoder):
    """Images (N, C, H, W) in [0, 1] -> features (N, d) on the grid of `FEATURE_STEP`, length 1 but
    for that. The filters are buffers: they are sent with a model, and never trained."""

    def __init__(self, channels: int, side: int, design: Design) -> None:
        shrink, layers = 1 if side <= LARGE else side // NOISE_SIDE, filters(channels, design)
        sizes = [side // shrink // 2**depth for depth in range(1, len(layers) + 1)]
        if not sizes[-1]:
            least = 2 ** len(layers)
            raise UserError(
                f"encoder noise-filters needs images of side {least} or more, not {side}"
            )
        squares = [squares_of(size, design.cells) for size in sizes]
        width = sum(2 * len(layer) * len(of) for layer, of in zip(layers, squares, strict=True))
        super().__init__(nn.Identity(), width)
        self.design, self.shrink, self.depth = design, shrink, len(layers)
        for number, (layer, of) in enumerate(zip(layers, squares, strict=True)):
            self.register_buffer(f"filters_{number}", layer.clone())
            self.register_buffer(f"squares_{number}", of, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """See the class; the same bits for an image whatever the others in the batch are."""
        with torch.autocast(images.device.type, enabled=False):
            few = CPU_IMAGES if images.device.type == "cpu" else max(len(images), 1)
            return torch.cat([self.features(part) for part in images.float().split(few)])

    def as_one(self) -> nn.Module:
        """See `Encoder`."""
        return _AtOnce(self)

    def features(self, images: Tensor) -> Tensor:
        """Of float32 images, all at once."""
        maps = whole_pixels(images, self.shrink).contiguous(memory_format=torch.channels_last)
        layers, lengths = [], self.design.lengths[: self.depth]
        for number, length in enumerate(lengths):
            maps = layer_of(maps, self.get_buffer(f"filters_{number}"), self.design)
            sums = cell_sums(maps, self.get_buffer(f"squares_{number}"))
            layers.append(relative(sums) * (length / norm(lengths)))
        h = torch.cat(layers, dim=1)
        cut: Tensor = (h / FEATURE_STEP).floor() * FEATURE_STEP
        return cut.float()


class _AtOnce(nn.Module):
    def __init__(self, encoder: NoiseFilters) -> None:
        super().__init__()
        self.network = encoder

    def forward(self, images: Tensor) -> Tensor:
        return self.network.features(images.float())


def whole_pixels(images: Tensor, shrink: int) -> Tensor:
    """`images` in [0, 1] as whole numbers from -128 to 127, averaged over squares of `shrink`."""
    pixels = (images * 255).round()
    if shrink > 1:  # sums, exact; then one division. (ONNX has no mean with another divisor.)
        size = pixels.shape[-1] // shrink
        squares = pixels[..., : size * shrink, : size * shrink].unflatten(3, (size, shrink))
        pixels = (squares.sum(4).unflatten(2, (size, shrink)).sum(3) / shrink**2).round()
    return pixels - 128


def norm(lengths: Sequence[float]) -> float:
    """Of all layers' features together."""
    return math.sqrt(sum(length**2 for length in lengths))


def layer_of(maps: Tensor, filters: Tensor, design: Design) -> Tensor:
    """One layer: `maps` (N, C, H, W) -> (N, 2P, H/2, W/2) for P `filters` v, first those of all v,
    then those of all -v."""
    responses = convolved(maps, filters)
    # Of v and -v together the mean is 0, and the mean square that of v alone.
    squares = responses.double().square_().sum((2, 3), keepdim=True)  # exact, of whole numbers
    pixels = math.prod(responses.shape[2:])
    whole = root(squares.sum(1, keepdim=True)) / math.sqrt(responses.shape[1] * pixels)
    whole = whole.clamp_min(FLAT)
    own = root(squares) / math.sqrt(pixels) + design.floor * whole
    scale = 1 / (root(whole) ** (2 - design.evened) * root(own) ** design.evened)
    steps = responses.mul_(scale.float()).mul_(1 / STEP).round_().mul_(STEP).clamp_(-MOST, MOST)
    of_both = F.avg_pool2d(steps, 2)
    of_v = F.avg_pool2d(steps.clamp_min_(0), 2)
    return torch.cat([of_v, of_v - of_both], dim=1)  # max(0, -x) = max(0, x) - x


def convolved(maps: Tensor, filters: Tensor) -> Tensor:
    """Convolution with zeros around. On a GPU as one product of matrices: the library's own may
    multiply in a domain where sums of whole numbers are none (Winograd's)."""
    if maps.device.type == "cpu":
        found = F.conv2d(maps, filters, padding=filters.shape[-1] // 2)
        # Of grey images torch's are channels first, for which all that follows is slow.
        return found.contiguous(memory_format=torch.channels_last)
    return as_product(maps, filters)


def as_product(maps: Tensor, filters: Tensor) -> Tensor:
    """The same as a product with patches, for as many images at once as there is room for."""
    kernel, (height, width) = filters.shape[-1], maps.shape[2:]
    few = max(1, PATCHED // (filters[0].numel() * height * width))
    parts = [
        filters.flatten(1) @ F.unfold(part, kernel, padding=kernel // 2) for part in maps.split(few)
    ]
    joined: Tensor = torch.cat(parts).unflatten(2, (height, width))
    return joined


def cell_sums(maps: Tensor, squares: Tensor) -> Tensor:
    """Sums (N, C·cells²) of `maps` (N, C, S, S) over `squares` (cells², S²); exact in any order."""
    sums = torch.matmul(squares.to(maps.dtype), maps.permute(0, 2, 3, 1).flatten(1, 2))
    return sums.transpose(1, 2).flatten(1)


def squares_of(side: int, cells: int) -> Tensor:
    """Which pixels each of `cells` × `cells` equal squares of a map has, which overlap where its
    side is no multiple: (cells², side²) bool."""
    cells = min(cells, side)
    size, at = -(-side // cells), np.arange(side)
    starts = np.array([index * (side - size) // max(cells - 1, 1) for index in range(cells)])
    strips = (at >= starts[:, None]) & (at < starts[:, None] + size)
    return torch.from_numpy(np.kron(strips, strips))


def relative(sums: Tensor) -> Tensor:
    """√(s / Σs) of non-negative `sums` (N, d), float64; 0 for a blank image."""
    wide = sums.double()
    return root(wide / wide.sum(dim=1, keepdim=True).clamp_min(STEP))


@lru_cache(maxsize=8)
def filters(channels: int, design: Design) -> Sequence[Tensor]:
    """The v (P, C, k, k) of each layer, from noise, on the CPU.

    From sums that are exact, in float64, and rounded: another machine's eigenvectors differ by
    1e-12, which is one in a million steps. Whoever sends a model sends its filters.
    """
    maps = whole_pixels(pink_noise(NOISE, channels, NOISE_SIDE), 1).float()
    whole = replace(design, evened=0)  # evened noise gave filters that agree less (exact.md)
    found = []
    for number, (width, kernel) in enumerate(zip(design.widths, design.kernels, strict=True)):
        v = principal(maps, kernel, min(width // 2, maps.shape[1] * kernel**2))
        step = FILTER_STEP if number else PIXEL_STEP
        rounded = (v / step).round() * step + 0.0  # of two zeros the one without a sign
        found.append(rounded.float().unflatten(1, (-1, kernel, kernel)))
        maps = layer_of(maps, found[-1], whole)
    return tuple(found)


def principal(maps: Tensor, kernel: int, count: int) -> Tensor:
    """The `count` leading eigenvectors (count, d) of the covariance of the patches of `maps`; each
    one's largest entry is positive."""
    patches = F.unfold(maps, kernel, padding=kernel // 2).double().transpose(0, 1).flatten(1)
    mean = patches.sum(dim=1) / patches.shape[1]
    covariance = patches @ patches.T / patches.shape[1] - torch.outer(mean, mean)
    _, vectors = torch.linalg.eigh(covariance)
    leading = vectors.flip(1)[:, :count].T
    largest = leading.gather(1, leading.abs().argmax(dim=1, keepdim=True))
    signed: Tensor = leading * largest.sign()
    return signed


def pink_noise(count: int, channels: int, side: int) -> Tensor:
    """Noise with amplitude 1/f, each image scaled to [0, 1]: (count, channels, side, side)."""
    frequencies = np.fft.fftfreq(side)
    distance = np.hypot(frequencies[:, None], frequencies[None])
    distance[0, 0] = 1 / side
    white = np.random.default_rng(NOISE_SEED).standard_normal((count, channels, side, side))
    noise = np.fft.ifft2(np.fft.fft2(white) / distance).real
    shared = noise.mean(axis=1, keepdims=True)
    if channels > 1:
        noise = shared + COLOUR * (noise - shared)
    low, high = (f(noise, axis=(1, 2, 3), keepdims=True) for f in (np.min, np.max))
    return torch.from_numpy((noise - low) / (high - low))


def noise_filters(channels: int, side: int, design: Design | None = None) -> Encoder:
    """The fixed encoder for images of `channels` and `side`."""
    return NoiseFilters(channels, side, design or Design())
