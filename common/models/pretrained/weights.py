"""Weights of a network in a safetensors file: read, compared with the network, taken over."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from common.models.pretrained.encoder import Pretrained
from common.models.pretrained.library import NOT_STATED, shapes
from common.utils.errors import UserError, plain
from common.utils.files import utf8_path

PICKLES = (b"PK\x03\x04", b"\x80")  # how torch's own files begin
AVERAGED = "num_batches_tracked"


def fill_from(
    encoder: Pretrained, path: Path, name: str, classifier: tuple[str, ...], called: str
) -> None:
    """Give the encoder, which is called `name`, the weights in the file; those of the `classifier`
    are left out. `UserError` in one line where the file, which is `called` so, is none, or is
    another network's."""
    _check_kind(path, called)
    network = encoder.whole
    wanted = shapes(network)
    try:
        with utf8_path(path) as place, safe_open(place, framework="pt") as file:
            there = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
            _compare(called, name, {k: tuple(v) for k, v in wanted.items()}, there, classifier)
            state = network.state_dict()
            with torch.no_grad():
                for key in wanted:
                    values = file.get_tensor(key)
                    if not bool(torch.isfinite(values.float()).all()):
                        raise UserError(f"{called}: {plain(key, 80)} has NaN or infinite values")
                    state[key].copy_(values)
    except FileNotFoundError:
        raise UserError(f"there is no file {called}") from None
    except (SafetensorError, ValueError, OSError) as error:
        if isinstance(error, UserError):
            raise
        why = plain(str(error).partition("\n")[0])
        raise UserError(f"{called} is no safetensors file, or is damaged: {why}") from None
    encoder.loaded = True


def licence_in(path: Path) -> str:
    """What the file's own header says of its licence."""
    try:
        with utf8_path(path) as place, safe_open(place, framework="pt") as file:
            facts = file.metadata() or {}
    except (SafetensorError, OSError, ValueError):
        return NOT_STATED
    return plain(facts.get("license") or facts.get("licence") or NOT_STATED, 60)


def _check_kind(path: Path, called: str) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise UserError(f"{called}: {error.strerror or error}") from None
    if start.startswith(PICKLES):
        raise UserError(
            f"{called} is a pickle, whatever its name: Covey reads safetensors alone "
            "(docs/researcher/pretrained.md says how it is converted)"
        )


def _compare(
    called: str,
    name: str,
    wanted: dict[str, tuple[int, ...]],
    there: dict[str, tuple[int, ...]],
    classifier: tuple[str, ...],
) -> None:
    """`UserError` for the first tensor that is missing, of another shape, or not of the network."""
    prefixes = tuple(f"{each}." for each in classifier)
    known = wanted.keys() & there.keys()
    if not known:
        some = plain(next(iter(sorted(there)), "nothing"), 80)
        raise UserError(f"{called} holds no weights of {name}: none of its names is there ({some})")
    for key, shape in wanted.items():
        if key not in there:
            raise UserError(f"{called} holds other weights than {name}'s: {key} is missing")
        if there[key] != shape:
            raise UserError(
                f"{called} holds other weights than {name}'s: {key} is {there[key]}, "
                f"expected {shape}"
            )
    for key in sorted(there.keys() - known):
        if not key.startswith(prefixes) and not key.endswith(AVERAGED):
            raise UserError(
                f"{called} holds other weights than {name}'s: {plain(key, 80)} is none of them"
            )
