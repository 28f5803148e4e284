"""A pretrained network as an encoder: what it sees, what of it is trained, what of it travels."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from common.config.encoder import Network
from common.models.pretrained.encoder import Pretrained
from common.models.pretrained.library import architecture
from common.protocol import layout
from common.utils.errors import UserError

HOW = Network(
    size=1, side=64, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), interpolation="bicubic", crop=1.0
)
NAME = "timm:tf_efficientnet_lite0"


def encoder(train_from: str = "", **how: object) -> Pretrained:
    """With random weights, which it takes for loaded ones."""
    torch.manual_seed(0)
    made = Pretrained(architecture(NAME), HOW.model_copy(update=how), train_from)
    made.loaded = True
    return made.eval()


def test_it_gives_what_the_network_gives_for_pictures_made_as_the_plan_says() -> None:
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    images = torch.rand(3, 3, 40, 40)
    cut = F.interpolate(images[..., 5:35, 5:35], (64, 64), mode="bicubic", antialias=True).clamp(
        0, 1
    )
    mean, std = (torch.tensor(three).view(1, 3, 1, 1) for three in (HOW.mean, HOW.std))
    with torch.no_grad():
        wanted = network((cut - mean) / std)
        assert torch.allclose(encoder(crop=0.75)(images), wanted, atol=1e-5)
        exported = encoder(crop=0.75).as_one()(images)
    assert torch.allclose(exported, wanted, atol=1e-5)


def test_with_root_features_are_square_roots_also_in_other_tools() -> None:
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        wanted = encoder()(images).sqrt()
        assert torch.equal(encoder(root=True)(images), wanted)
        assert torch.equal(encoder(root=True).as_one()(images), wanted)
    assert bool((wanted > 0).any())


def test_grey_images_are_seen_in_three_equal_channels() -> None:
    grey = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(encoder()(grey), encoder()(grey.expand(-1, 3, -1, -1)))


def test_nothing_of_a_frozen_encoder_travels_or_is_kept_or_trained() -> None:
    made = encoder()
    assert not made.state_dict() and not list(made.parameters())
    assert not layout.layout_of({"encoder": made}).groups
    made.train()
    assert not any(module.training for module in made.whole.modules())


def test_from_a_layer_on_it_is_trained_and_only_that_travels() -> None:
    made = encoder("blocks.6").train()
    names = set(made.trained)
    assert names == {"blocks/6", "conv_head", "bn2"}
    trained = {id(p) for p in made.parameters()}
    of_all = {name: id(p) in trained for name, p in made.whole.named_parameters()}
    assert {name.split(".")[0] for name, is_in in of_all.items() if is_in} == {
        "blocks",
        "conv_head",
        "bn2",
    }
    assert not of_all["blocks.5.0.conv_pw.weight"] and of_all["blocks.6.0.conv_pw.weight"]
    norms = {n: m for n, m in made.whole.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms["bn2"].training and not norms["bn1"].training
    made(torch.rand(4, 3, 64, 64)).sum().backward()
    assert all(p.grad is not None for p in made.parameters())
    frozen = [p for p in made.whole.parameters() if id(p) not in trained]
    assert frozen and all(p.grad is None and not p.requires_grad for p in frozen)
    groups = layout.layout_of({"encoder": made})
    assert groups.size("encoder") == sum(p.numel() for p in made.parameters())


def test_a_copy_is_trained_apart_from_its_original() -> None:
    made = encoder("conv_head")
    other = copy.deepcopy(made)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
        assert other(torch.rand(2, 3, 64, 64)).abs().sum() == 0
        assert made(torch.rand(2, 3, 64, 64)).abs().sum() > 0


def test_many_images_go_through_in_parts() -> None:
    """Of 64 images at side 224 the maps alone would be 300 MB; tensors are not Python's, so what is
    counted is the largest batch that the network saw."""
    seen: list[int] = []
    made = encoder(side=224)
    made.whole.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    with torch.no_grad():
        assert made(torch.rand(20, 3, 32, 32)).shape == (20, 1280)
    assert sum(seen) == 20 and max(seen) <= 16


@pytest.mark.parametrize(
    ("layer", "message"),
    [("blocks.9", "no layer 'blocks.9'; layers: conv_stem"), ("head", "no layer 'head'")],
)
def test_a_layer_that_is_none_is_named(layer: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        encoder(layer)


def test_it_says_nothing_before_it_has_its_weights() -> None:
    with pytest.raises(RuntimeError, match="before it had its weights"):
        Pretrained(architecture(NAME), HOW)(torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:tf_efficientnet_lite9", "did you mean 'tf_efficientnet_lite"),
        ("timm:hf-hub:someone/something", "is no name of a network"),
        ("timm:../secret", "is no name of a network"),
        ("torchvision:resnet19", "did you mean 'resnet1"),
        ("keras:resnet18", "unknown library 'keras'"),
    ],
)
def test_names_that_are_none_are_refused_before_anything_is_built(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        architecture(name)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "densenet121"])
def test_a_network_of_torchvision_loses_its_classifier_alone(name: str) -> None:
    built = architecture(f"torchvision:{name}")
    with torch.no_grad():
        assert built.network.eval()(torch.rand(2, 3, 64, 64)).shape == (2, built.width)
    assert (built.side, built.mean[0]) == (224, 0.485)
