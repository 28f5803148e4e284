"""Colours of views: jitter, hue, grey and blur are what torchvision makes of them."""

from dataclasses import replace

import pytest
import torch
from torchvision.transforms import functional as torchvision

from common.augmentations import Augmentation, Preset
from common.augmentations import operations as ops
from tests.builders.images import draws, random_images, seeded

LUMA = torch.tensor([0.299, 0.587, 0.114])
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
