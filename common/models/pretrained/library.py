"""Networks of other libraries by name, without weights: nothing is ever fetched."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from common.config.encoder import LARGEST_SIDE, LIBRARIES, Interpolation, library_of
from common.utils.errors import UserError, unknown

NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
"""Of a network: no address of a hub, which timm would fetch from."""
Three = tuple[float, float, float]
INTERPOLATIONS: Mapping[str, Interpolation] = {
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
}
NOT_STATED = "not stated"


@dataclass(frozen=True)
class Architecture:
    """A network (N, 3, side, side) -> (N, `width`) without its classifier.

    `classifier`: what the names of the classifier's tensors begin with, which a file may have and
    nobody needs; `side`, `mean`, `std`, `interpolation`: what its library evaluates it with;
    `fixed`: whether it takes no other side; `licence`: of its library's own weights.
    """

    network: nn.Module
    width: int
    classifier: tuple[str, ...]
    side: int
    mean: Three
    std: Three
    interpolation: Interpolation
    fixed: bool = False
    licence: str = NOT_STATED


def architecture(encoder: str) -> Architecture:
    """The network called "timm:NAME" or "torchvision:NAME", with random weights. `UserError` for a
    name that is none, and where the library is missing."""
    library, name = library_of(encoder)
    if library not in BUILDERS:
        raise unknown("library", library, LIBRARIES)
    if not NAME.fullmatch(name):
        raise UserError(f"encoder {encoder!r}: {name!r} is no name of a network")
    return BUILDERS[library](name)


def networks(library: str) -> list[str]:
    """The names that `architecture` takes of a library; none where it is not installed."""
    try:
        return [f"{library}:{name}" for name in NAMES[library]()]
    except UserError:
        return []


def _timm(name: str) -> Architecture:
    timm = _import_timm()
    if not timm.is_model(name.partition(".")[0]):
        raise unknown("network of timm", name, timm.list_models())
    try:
        network: Any = timm.create_model(name, pretrained=False, num_classes=0)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        why = str(error).partition("\n")[0]
        raise UserError(f"encoder timm:{name} cannot be built: {why}") from None
    facts: Mapping[str, Any] = network.pretrained_cfg
    classifier = facts.get("classifier") or ()
    size = facts.get("input_size") or (3, 224, 224)
    if size[0] != 3:
        raise UserError(f"encoder timm:{name} takes {size[0]} channels, not 3")
    return Architecture(
        network=network,
        width=int(getattr(network, "head_hidden_size", None) or network.num_features),
        classifier=(classifier,) if isinstance(classifier, str) else tuple(classifier),
        side=min(int(size[-1]), LARGEST_SIDE),
        mean=_three(facts.get("mean"), 0.0),
        std=_three(facts.get("std"), 1.0),
        interpolation=INTERPOLATIONS.get(str(facts.get("interpolation")), "bicubic"),
        fixed=bool(facts.get("fixed_input_size")),
        licence=str(facts.get("license") or NOT_STATED),
    )


def _import_timm() -> Any:
    try:
        import timm  # noqa: PLC0415 (an extra, and seconds)
    except ImportError:
        raise UserError("encoders of timm need timm: pip install 'covey[pretrained]'") from None
    return timm


def _torchvision(name: str) -> Architecture:
    from torchvision import models  # noqa: PLC0415 (1.6 s, for who needs it)

    known = models.list_models(module=models)
    if name not in known:
        raise unknown("network of torchvision", name, known)
    network = models.get_model(name, weights=None)
    own = next(iter(models.get_model_weights(name)), None)
    how: Any = own.transforms() if own is not None else None
    last = [path for path, module in network.named_modules() if isinstance(module, nn.Linear)][-1:]
    if not last or how is None:
        raise UserError(f"encoder torchvision:{name}: its classifier or its pictures are not known")
    above, _, own_name = last[0].rpartition(".")
    width = network.get_submodule(last[0]).in_features
    setattr(network.get_submodule(above), own_name, nn.Identity())
    return Architecture(
        network=network,
        width=int(width),
        classifier=(last[0], "AuxLogits", "aux"),
        side=int(how.crop_size[0]),
        mean=_three(how.mean, 0.0),
        std=_three(how.std, 1.0),
        interpolation=INTERPOLATIONS.get(str(how.interpolation.value), "bilinear"),
        fixed=name.startswith("vit_"),
    )


def _three(given: Any, default: float) -> Three:
    values = [float(one) for one in given or (default,) * 3]
    red, green, blue = values * 3 if len(values) == 1 else values
    return red, green, blue


def _names_of_torchvision() -> list[str]:
    from torchvision import models  # noqa: PLC0415 (see above)

    return list(models.list_models(module=models))


BUILDERS: Mapping[str, Callable[[str], Architecture]] = {"timm": _timm, "torchvision": _torchvision}
NAMES: Mapping[str, Callable[[], list[str]]] = {
    "timm": lambda: list(_import_timm().list_models()),
    "torchvision": _names_of_torchvision,
}


def numbers(module: nn.Module) -> int:
    """Parameters of a module."""
    return sum(p.numel() for p in module.parameters())


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    """The tensors that a file must have, by name; counters of batches may be missing."""
    state = module.state_dict()
    return {name: t.shape for name, t in state.items() if not name.endswith("num_batches_tracked")}
