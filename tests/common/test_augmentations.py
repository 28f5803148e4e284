"""Views: chance of each image's own, the same bytes from a seed, the maths of a slow loop."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import functional as torchvision

from common.augmentations import PRESETS, Augmentation, Preset, build_augmentation
from common.augmentations import operations as ops
from common.utils.errors import UserError

IDENTITY = Preset()
LUMA = torch.tensor([0.299, 0.587, 0.114])


def random_images(count: int, channels: int, height: int, width: int = 0) -> Tensor:
    shape = (count, channels, height, width or height)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(7))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(count: int = 1, **given: float) -> ops.Draws:
    """Draws that leave everything in the middle (no shift, no angle, no change), except `given`."""
    return ops.Draws(*(torch.full((count,), given.get(f, 0.5)) for f in ops.Draws._fields))


def seen_slowly(image: Tensor, window: Tensor) -> Tensor:
    """One image (C, S, S) through one window, pixel by pixel, zero outside."""
    side = image.shape[-1]
    view = torch.zeros_like(image)
    for i in range(side):
        for j in range(side):
            centre = torch.tensor([(2 * j + 1) / side - 1, (2 * i + 1) / side - 1, 1.0])
            x, y = (((window @ centre) + 1) * side / 2 - 0.5).tolist()
            for row in (math.floor(y), math.floor(y) + 1):
                for column in (math.floor(x), math.floor(x) + 1):
                    if 0 <= row < side and 0 <= column < side:
                        weight = (1 - abs(y - row)) * (1 - abs(x - column))
                        view[:, i, j] += weight * image[:, row, column]
    return view


@pytest.mark.parametrize("preset", PRESETS)
@given(
    count=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    side=st.integers(8, 41),
)
@settings(max_examples=15, deadline=None)
def test_a_view_is_a_square_float_image_in_0_1_whatever_the_image(
    preset: str, count: int, channels: int, height: int, width: int, side: int
) -> None:
    images = random_images(count, channels, height, width)
    for view in Augmentation(PRESETS[preset], side).pair(images, seeded(1)):
        assert view.shape == (count, channels, side, side)
        assert view.dtype == torch.float32
        assert view.min() >= 0 and view.max() <= 1


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("channels", [1, 3])
def test_the_same_image_gives_a_different_view_at_each_place_of_the_batch(
    preset: str, channels: int
) -> None:
    images = random_images(1, channels, 29).repeat(8, 1, 1, 1)
    a, b = build_augmentation(preset, "digits", 29).pair(images, seeded(3))
    views = torch.cat([a, b]).flatten(1)
    distances = torch.cdist(views, views) + torch.eye(16)
    assert distances.min() > 0.1


@pytest.mark.parametrize(
    ("preset", "makes_them_differ"),
    [
        (Preset(crop=(0.3, 1.0)), True),
        (Preset(rotation=30.0), True),
        (Preset(flip=0.5), True),
        (Preset(jitter=0.8, brightness=0.4), True),
        (Preset(jitter=0.8, contrast=0.4), True),
        (Preset(jitter=0.8, saturation=0.4), True),
        (Preset(jitter=0.8, hue=0.1), True),
        (Preset(grayscale=0.5), True),
        (Preset(blur=0.5), True),
        (Preset(noise=0.1), True),
        (Preset(brightness=0.4, contrast=0.4, hue=0.1), False),  # strengths without jitter
        (Preset(blur=0.5, blur_above=24), False),
    ],
)
def test_each_operation_alone_changes_images_and_not_all_alike(
    preset: Preset, makes_them_differ: bool
) -> None:
    images = random_images(1, 3, 24).repeat(32, 1, 1, 1)
    views = Augmentation(preset, 24)
    distinct = {view.numpy().tobytes() for view in views(images, seeded(0))}
    assert (len(distinct) > 1) is makes_them_differ


@pytest.mark.parametrize("preset", PRESETS)
def test_a_seed_repeats_the_bytes_and_a_generator_moves_on(preset: str) -> None:
    images, views, generator = (
        random_images(6, 3, 48),
        build_augmentation(preset, "", 48),
        seeded(5),
    )
    first, second = views(images, generator), views(images, generator)
    assert torch.equal(first, views(images, seeded(5)))
    assert not torch.equal(first, second)


def test_views_are_made_in_full_precision_inside_autocast() -> None:
    images, views = random_images(4, 3, 48), build_augmentation("natural", "", 48)
    outside = views(images, seeded(2))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(views(images, seeded(2)), outside)


def test_images_after_the_first_chunk_are_augmented_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.augmentations.CPU_CHUNK", 2 * 3 * 16**2)
    images = random_images(1, 3, 16).repeat(7, 1, 1, 1)
    views = build_augmentation("natural", "", 16)(images, seeded(0))
    assert len({view.numpy().tobytes() for view in views}) == 7


@pytest.mark.parametrize("channels", [1, 3])
def test_the_preset_that_changes_nothing_returns_the_images(channels: int) -> None:
    images = random_images(5, channels, 17)
    view = Augmentation(IDENTITY, 17)(images, seeded(0))
    torch.testing.assert_close(view, images / 255, atol=1e-6, rtol=0)
    assert torch.equal(view, Augmentation(PRESETS["natural"], 17).plain(images))


def test_the_whole_window_shows_the_whole_image() -> None:
    image = random_images(1, 3, 33) / 255
    window = ops.crop_windows(IDENTITY, draws())
    for padding in ("zeros", "reflection"):
        shown = ops.sample_windows(image, window, padding)
        torch.testing.assert_close(shown, image, atol=2e-5, rtol=0)


@given(seed=st.integers(0, 1000), side=st.integers(5, 12))
@settings(max_examples=15, deadline=None)
def test_crop_flip_and_rotation_are_those_of_a_loop_over_pixels(seed: int, side: int) -> None:
    preset = Preset(crop=(0.2, 1.0), aspect=(3 / 4, 4 / 3), flip=0.5, rotation=40.0)
    images = random_images(2, 3, side) / 255
    windows = ops.crop_windows(preset, ops.Draws.of(2, seeded(seed)))
    fast = ops.sample_windows(images, windows, "zeros")
    slow = torch.stack([seen_slowly(i, w) for i, w in zip(images, windows, strict=True)])
    torch.testing.assert_close(fast, slow, atol=2e-5, rtol=0)


def test_rotation_is_torchvisions_and_turns_by_the_angle_of_the_preset() -> None:
    image = random_images(1, 1, 21) / 255
    windows = ops.crop_windows(Preset(rotation=30.0), draws(angle=1.0))
    bilinear = torchvision.InterpolationMode.BILINEAR
    wanted = torchvision.rotate(image, 30.0, interpolation=bilinear)
    # torchvision masks half-covered border pixels: compare the disc that never leaves the image.
    shown = ops.sample_windows(image, windows, "zeros")
    torch.testing.assert_close(shown[..., 5:16, 5:16], wanted[..., 5:16, 5:16], atol=1e-4, rtol=0)


def test_a_flip_mirrors_left_and_right() -> None:
    image = random_images(1, 3, 10) / 255
    windows = ops.crop_windows(Preset(flip=0.5), draws(flip=0.49))
    shown = ops.sample_windows(image, windows, "zeros")
    torch.testing.assert_close(shown, image.flip(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PRESETS)
def test_images_are_flipped_only_where_the_preset_says(name: str) -> None:
    windows = ops.crop_windows(PRESETS[name], ops.Draws.of(2000, seeded(0)))
    share = (windows[:, 0, 0] < 0).float().mean().item()
    assert share == pytest.approx(PRESETS[name].flip, abs=0.05)
    assert PRESETS["digits"].flip == 0


@given(
    low=st.floats(0.05, 1.0),
    narrowest=st.floats(0.3, 1.0),
    widest=st.floats(1.0, 3.0),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_a_crop_lies_inside_the_image_and_keeps_to_the_presets_areas_and_aspects(
    low: float, narrowest: float, widest: float, seed: int
) -> None:
    preset = Preset(crop=(low, 1.0), aspect=(narrowest, widest))
    windows = ops.crop_windows(preset, ops.Draws.of(64, seeded(seed)))
    width, height, centre = windows[:, 0, 0], windows[:, 1, 1], windows[:, :, 2]
    assert ((width * height >= low - 1e-5) & (width * height <= 1 + 1e-5)).all()
    assert ((width / height >= narrowest - 1e-5) & (width / height <= widest + 1e-4)).all()
    size = torch.stack([width, height], dim=1)
    assert (centre.abs() + size <= 1 + 1e-5).all()


def test_the_areas_of_crops_are_spread_evenly_over_the_presets_range() -> None:
    windows = ops.crop_windows(PRESETS["natural"], ops.Draws.of(20_000, seeded(0)))
    areas = (windows[:, 0, 0] * windows[:, 1, 1]).abs()
    quartiles = torch.quantile(areas, torch.tensor([0.25, 0.5, 0.75]))
    torch.testing.assert_close(quartiles, torch.tensor([0.4, 0.6, 0.8]), atol=0.02, rtol=0)


JITTER = Preset(jitter=1.0, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)


def test_brightness_contrast_and_saturation_are_torchvisions_in_this_order() -> None:
    image = random_images(1, 3, 12) / 255 * 0.4 + 0.3  # nothing leaves [0, 1], so nothing clamps
    drawn = draws(brightness=0.7, contrast=0.3, saturation=0.9)
    wanted = torchvision.adjust_brightness(image, 1.16)
    wanted = torchvision.adjust_contrast(wanted, 0.84)
    wanted = torchvision.adjust_saturation(wanted, 1.32)
    fast = ops.recolour(image, JITTER, drawn, ops.colour_basis())
    torch.testing.assert_close(fast, wanted, atol=1e-3, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_changes_its_share_of_the_images_and_no_others(channels: int) -> None:
    images = random_images(400, channels, 8)
    view = Augmentation(replace(JITTER, jitter=0.8), 8)(images, seeded(0))
    kept = (view - images / 255).abs().amax((1, 2, 3)) < 1e-5
    assert kept.float().mean().item() == pytest.approx(0.2, abs=0.06)


def test_hue_turns_the_colours_and_leaves_luma_and_gray_alone() -> None:
    image, half_turn = random_images(1, 3, 12) / 255, replace(JITTER, hue=0.5)
    turned = ops.recolour(image, half_turn, draws(hue=1.0), ops.colour_basis())
    luma = torch.einsum("nchw,c->nhw", image, LUMA)
    torch.testing.assert_close(torch.einsum("nchw,c->nhw", turned, LUMA), luma)
    torch.testing.assert_close(turned - luma, luma - image)  # half a turn: the opposite colours
    gray = torch.full((1, 3, 4, 4), 0.6)
    torch.testing.assert_close(ops.recolour(gray, JITTER, draws(hue=0.9), ops.colour_basis()), gray)


def test_one_channel_is_jittered_as_three_equal_ones() -> None:
    images, preset = random_images(6, 1, 15), replace(JITTER, noise=0.0)
    one = Augmentation(preset, 15)(images, seeded(4))
    three = Augmentation(preset, 15)(images.repeat(1, 3, 1, 1), seeded(4))
    torch.testing.assert_close(one.expand_as(three), three, atol=1e-5, rtol=0)


def test_grayscale_makes_the_channels_equal_to_luma_for_its_share_of_images() -> None:
    images = random_images(400, 3, 8)
    view = Augmentation(Preset(grayscale=0.25), 8)(images, seeded(0))
    gray = (view - view[:, :1]).abs().amax((1, 2, 3)) < 1e-6
    assert gray.float().mean().item() == pytest.approx(0.25, abs=0.06)
    luma = torch.einsum("nchw,c->nhw", images[gray] / 255, LUMA)
    torch.testing.assert_close(view[gray][:, 0], luma, atol=1e-5, rtol=0)
    torch.testing.assert_close(view[~gray], images[~gray] / 255, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [21, 40])
def test_each_image_is_blurred_with_its_own_sigma_as_torchvision_would(side: int) -> None:
    images, preset = random_images(4, 3, side) / 255, Preset(blur=0.5)
    drawn = draws(4)._replace(
        blur=torch.tensor([0.0, 0.2, 0.4, 0.5]), sigma=torch.tensor([0.1, 0.5, 1.0, 1.0])
    )
    kernels = ops.blur_kernels(preset, drawn, side)
    blurred = ops.gaussian_blur(images, kernels)
    for index, sigma in enumerate([0.29, 1.05, 2.0]):
        wanted = torchvision.gaussian_blur(images[index], kernels.shape[1], sigma)
        torch.testing.assert_close(blurred[index], wanted, atol=1e-5, rtol=0)
    torch.testing.assert_close(blurred[3], images[3], atol=1e-6, rtol=0)


def test_noise_has_a_standard_deviation_of_each_images_own_up_to_the_presets() -> None:
    images = torch.full((200, 1, 32, 32), 128, dtype=torch.uint8)
    view = Augmentation(Preset(noise=0.1), 32)(images, seeded(0))
    deviations = (view - 128 / 255).flatten(1).std(dim=1)
    assert deviations.max() < 0.11
    assert deviations.mean().item() == pytest.approx(0.05, abs=0.01)


def test_an_operation_that_is_off_does_not_change_what_the_others_draw() -> None:
    images, flips = random_images(16, 3, 12), Preset(flip=0.5)
    flipped = Augmentation(flips, 12)(images, seeded(9))
    same = Augmentation(replace(flips, blur=0.9, blur_above=12, brightness=0.5), 12)(
        images, seeded(9)
    )
    assert torch.equal(flipped, same)


def test_auto_takes_the_kind_of_the_data_set_and_a_name_goes_before_it() -> None:
    assert build_augmentation("auto", "garments", 28).preset == PRESETS["garments"]
    assert build_augmentation("digits", "garments", 28).preset == PRESETS["digits"]
    with pytest.raises(UserError, match="unknown augmentation 'digit': did you mean 'digits'"):
        build_augmentation("digit", "natural", 28)


@pytest.mark.parametrize(
    "images",
    [torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8).byte(), torch.zeros(2, 4, 8, 8).byte()],
)
def test_images_that_are_not_a_uint8_batch_are_refused_with_their_shape(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 .* not torch\."):
        build_augmentation("natural", "", 8)(images, seeded(0))
