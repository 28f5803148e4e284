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
from tests.builders.images import draws, random_images, seeded

IDENTITY = Preset()


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
