"""Convolutions set from the sums of everybody's patches."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from client.statistics.solving import patch_moments
from common.augmentations import PRESETS, Augmentation
from common.config import recipes
from common.data import load
from common.models.encoders import build_encoder
from common.solvers.patch_pca import Parameters, PatchPCA, leading, patch_width
from common.utils.errors import UserError
from deploy.engines.simulate import simulate

IMAGES = torch.from_numpy(load("digits", images=40).images)
VIEWS = Augmentation(PRESETS["digits"], 8)


def built(encoder: str = "small-convnet", **parameters) -> PatchPCA:
    return PatchPCA(build_encoder(encoder, 1, 8, 0), Parameters(**parameters), 3)


def moments(solver: PatchPCA, asked: str, rows: Tensor | None = None) -> Tensor:
    rows = torch.arange(len(IMAGES)) if rows is None else rows
    found = patch_moments(
        solver, VIEWS, IMAGES, rows, solver.statistics()[asked], torch.device("cpu")
    )
    return torch.from_numpy(found)


def slow_patches(image: Tensor, layer: nn.Conv2d) -> Tensor:
    """(L, d): every window that the layer's filters see, cut out one by one."""
    (down, across), (pad, _), (step, _) = layer.kernel_size, layer.padding, layer.stride
    padded = F.pad(image, (pad, pad, pad, pad))
    return torch.stack(
        [
            padded[:, y : y + down, x : x + across].flatten()
            for y in range(0, padded.shape[1] - down + 1, step)
            for x in range(0, padded.shape[2] - across + 1, step)
        ]
    )


def seen_by(solver: PatchPCA, asked: str) -> Tensor:
    """What goes into a layer, by running those before it."""
    maps = (IMAGES.float() / 255 - 0.5) / 0.25
    for layer in solver.encoder.network:
        if layer is solver.statistics()[asked].layer:
            return maps
        maps = layer(maps)
    raise AssertionError


@pytest.mark.parametrize("asked", ["patches.1", "patches.2", "patches.3"])
def test_a_sites_sum_is_of_every_images_patches_each_image_counting_the_same(asked: str) -> None:
    solver = built().eval()
    layer = solver.statistics()[asked].layer
    with torch.no_grad():
        wanted = torch.zeros(patch_width(layer) + 1, patch_width(layer) + 1)
        for image in seen_by(solver, asked):
            patches = slow_patches(image, layer)
            patches = patches / patches.norm()
            x = torch.cat([patches, torch.full((len(patches), 1), len(patches) ** -0.5)], dim=1)
            wanted += x.T @ x
    found = moments(solver, asked)
    assert torch.allclose(found.float(), wanted, atol=1e-4)
    assert found[-1, -1] == pytest.approx(len(IMAGES), rel=1e-6)
    assert found.diagonal()[:-1].sum() == pytest.approx(len(IMAGES), rel=1e-5)


def test_the_filters_are_the_principal_components_as_a_decomposition_of_all_patches_has_them():
    solver = built()
    layer = solver.statistics()["patches.1"].layer
    patches = []
    for image in seen_by(solver, "patches.1"):
        raw = slow_patches(image, layer)
        patches.append(raw / raw.norm())
    points = torch.cat(patches).double()
    _, _, vectors = torch.linalg.svd(points - points.mean(dim=0), full_matrices=False)
    before = layer.weight.detach().clone().flatten(1)
    solver.statistics()["patches.1"].solve({"gram": moments(solver, "patches.1")})
    after = layer.weight.detach().flatten(1)
    assert torch.equal(after[16:], before[16:]) and torch.equal(after[8:16], -after[:8])
    length = before.norm(dim=1).mean()
    for filter_, vector in zip(after[:8], vectors, strict=False):
        assert float(filter_.norm()) == pytest.approx(float(length), rel=1e-5)
        assert abs(float(filter_.double() @ vector)) == pytest.approx(float(length), rel=1e-3)


def test_it_does_not_depend_on_how_images_are_spread() -> None:
    solver = built()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    pooled = moments(solver, "patches.2")
    for sizes in ([20, 20], [1, 38, 1]):
        parts = [moments(solver, "patches.2", rows) for rows in order.split(sizes)]
        assert torch.allclose(sum(parts), pooled, atol=1e-4)


def test_each_layer_is_asked_for_once_in_the_order_of_the_network_and_wide_ones_stay() -> None:
    asked = built().statistics()
    assert list(asked) == ["patches.1", "patches.2", "patches.3"]
    assert [statistic.width for statistic in asked.values()] == [16, 512, 1024]
    assert list(built(widest=600).statistics()) == ["patches.1", "patches.2"]
    assert built("pixels").statistics() == {}
    widths = [statistic.width for statistic in built("resnet18").statistics().values()]
    assert len(widths) == 13 and max(widths) == 1152


def test_what_cannot_be_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"patch-pca: the share 1.5 is not in \(0, 1\]"):
        built(share=1.5)
    with pytest.raises(ValueError, match="patches of no images"):
        leading(torch.zeros(4, 4).double(), 2)


def test_a_federation_starts_as_one_site_with_everything_does(tmp_path) -> None:
    """But for the images that each site holds out, and for the components with nearly equal shares
    of the variance, whose order is chance."""
    options = {"dataset": "digits", "encoder": "small-convnet", "rounds": "0"}
    options |= {"evaluation-share": 0.01}
    encoders = {}
    for sites in (1, 10):
        plan = recipes.load("covey").plan(options | {"sites": sites, "partition": "p-skew(1.0)"})
        simulate(plan, tmp_path / str(sites))
        encoders[sites] = load_file(tmp_path / str(sites) / "encoder.safetensors")
    initial = build_encoder("small-convnet", 1, 8, 0).state_dict()
    share = Parameters().share
    for key, pooled in encoders[1].items():
        if pooled.ndim == 4:
            count = int(share * len(pooled))
            assert torch.equal(pooled[count:], initial[key][count:])
            both = pooled[:4].flatten(1), encoders[10][key][:4].flatten(1)
            assert (F.cosine_similarity(*both) > 0.99).all()
            assert (F.cosine_similarity(both[0], initial[key][:4].flatten(1)).abs() < 0.9).all()
