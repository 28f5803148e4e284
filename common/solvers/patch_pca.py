"""A start for the encoder: convolutions along the principal components of everybody's patches.

A site that holds one class trains first on what tells its own images apart. What all sites' images
have in common it can be given before: layer by layer, each convolution's filters are the leading
eigenvectors of the covariance of its input patches over *all* sites' images, which comes from sums
and so does not depend on how the images are spread. With P (L, d) the L patches of an image as the
layer sees them, scaled to ‖P‖_F = 1 so that each image counts the same, a site sends Σ x xᵀ over
its images with x = [P, 1/√L], d + 1 wide; the server adds up and takes
    C = Σ Pᵀ P / n - s sᵀ / n²,   s = Σ Pᵀ 1/√L,   n images,
the covariance of the patches times L. A `share` of a layer's filters become the leading
eigenvectors v of C, each with its opposite -v, since the rectifier behind would keep one side of it
only; all as long as the random ones are on average. The others stay random, which leaves training
more to choose from (`docs/researcher/covey.md` has the measurements). Then the next layer's
patches. A stage of it has no local loss (rounds = 0) and comes first. Shared: encoder. Local:
nothing. Eigenvectors differ in how much they say: normalise all of a layer's maps together,
`normalisation = "layer"`.
Sources: networks of principal components: Chan et al., "PCANet", IEEE TIP 2015 (arXiv 1404.3606),
section II; filters in opposite pairs: Shang, Sohn, Almeida and Lee, ICML 2016 (CReLU, arXiv
1603.05201); as a start of training: Krähenbühl, Doersch, Donahue and Darrell, "Data-dependent
Initializations of Convolutional Neural Networks", ICLR 2016 (arXiv 1511.06856), section 3.1. From
the sites' sums: ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from common.config.parameters import NoParameters
from common.models.encoders import Encoder
from common.solvers.base import Patches, Statistic, Sums
from common.solvers.frozen import Frozen
from common.solvers.projection import with_fixed_signs
from common.utils.errors import UserError


@dataclass(frozen=True)
class Parameters:
    """`share` of a layer's filters that are set; `widest`: layers with more numbers in a patch
    stay as they are (a site sends as many, squared)."""

    share: float = 0.5
    widest: int = 1152


class PatchPCA(Frozen):
    """An encoder whose convolutions are set from the sums of all sites' patches."""

    name = "patch-pca"
    parameters_type = Parameters

    def __init__(self, encoder: Encoder, parameters: Parameters, clusters: int) -> None:
        if not 0 < parameters.share <= 1:
            raise UserError(f"patch-pca: the share {parameters.share:g} is not in (0, 1]")
        super().__init__(encoder, NoParameters(), clusters)
        self.share = parameters.share
        self._layers = [
            layer
            for layer in encoder.modules()
            if isinstance(layer, nn.Conv2d)
            and layer.groups == 1
            and not isinstance(layer.padding, str)
            and patch_width(layer) <= parameters.widest
        ]

    def statistics(self) -> Mapping[str, Statistic]:
        """One for each layer, since each one's input depends on those before it."""
        return {
            f"patches.{number}": Patches(
                patch_width(layer), partial(self.solve_layer, layer), layer
            )
            for number, layer in enumerate(self._layers, start=1)
        }

    def solve_layer(self, layer: nn.Conv2d, sums: Sums) -> None:
        """Set a share of the layer's filters from the `gram` of all sites."""
        weight = layer.weight
        pairs = int(self.share * len(weight)) // 2
        with torch.no_grad():
            found = leading(sums["gram"], pairs).float()
            both = torch.cat([found, -found]).view(-1, *weight.shape[1:])
            weight[: len(both)] = weight.flatten(1).norm(dim=1).mean() * both


def patch_width(layer: nn.Conv2d) -> int:
    """Numbers in a patch that one filter of the layer sees."""
    return layer.weight[0].numel()


def leading(gram: Tensor, count: int) -> Tensor:
    """The `count` leading eigenvectors (count, d), or all d, of the covariance behind `gram`
    (d + 1, d + 1), float64 (see above); largest first, each one's largest entry positive.
    `ValueError` for sums of no images."""
    images = gram[-1, -1]
    if not images > 0:
        raise ValueError("patches of no images")
    mean = gram[:-1, -1] / images
    covariance = gram[:-1, :-1] / images - torch.outer(mean, mean)
    _, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    return with_fixed_signs(vectors.flip(1)[:, :count]).T
