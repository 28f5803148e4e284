"""Methods of unlearning that need the forgotten images, by name: one file each."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from common.config.given import Scalar
from common.config.images import kebab
from common.config.parameters import read_parameters
from common.unlearning.alignment_calibration import AlignmentCalibration
from common.unlearning.base import Unlearning
from common.unlearning.contrastive_unlearning import ContrastiveUnlearning
from common.unlearning.gradient_ascent import GradientAscent
from common.utils.errors import UserError, unknown

UNLEARNING: Mapping[str, type[Unlearning]] = {
    each.name: each for each in (GradientAscent, ContrastiveUnlearning, AlignmentCalibration)
}


def build_unlearning(name: str, given: Mapping[str, Scalar]) -> Unlearning:
    """The method called `name` with its parameters; `UserError` for names that there are not."""
    if name not in UNLEARNING:
        raise unknown("method of unlearning", name, UNLEARNING)
    kind = UNLEARNING[name]
    return kind(read_parameters(kind.parameters_type, given, f"method {name!r}"))


def parameters_of(method: Unlearning) -> dict[str, Scalar]:
    """All its parameters, by their names in a plan."""
    return {kebab(name): value for name, value in asdict(method.parameters).items()}


def to_text(method: Unlearning, of: str) -> str:
    """As a message has it: the name, every parameter written out, and the run that images are taken
    back `of`."""
    told = {"method": method.name, "of": of, "parameters": parameters_of(method)}
    return json.dumps(told, sort_keys=True)


def from_text(text: str) -> tuple[Unlearning, str]:
    """The inverse of `to_text`; `UserError` for anything else."""
    try:
        told = json.loads(text)
        name, of, given = told["method"], told["of"], dict(told["parameters"])
    except (ValueError, KeyError, TypeError):
        raise UserError("the message does not say how to unlearn") from None
    if not isinstance(name, str) or not isinstance(of, str):
        raise UserError("the message does not say how to unlearn")
    return build_unlearning(name, given), of
