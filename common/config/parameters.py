"""A method's own parameters: a frozen dataclass of numbers with defaults, filled from a plan."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from common.config.given import Scalar
from common.config.images import kebab
from common.utils.errors import UserError, unknown


@dataclass(frozen=True)
class NoParameters:
    """A method without parameters of its own."""


def read_parameters(kind: type[Any], given: Mapping[str, Scalar], method: str) -> Any:
    """Fill the dataclass `kind` from kebab-case names; `UserError` for an unknown name or type, of
    a `method` such as "objective 'byol'"."""
    known = {kebab(f.name): f for f in fields(kind)}
    values: dict[str, Scalar] = {}
    for name, value in given.items():
        if name not in known:
            raise unknown(f"parameter of {method}", name, known)
        wanted: type[Any] = type(known[name].default)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not isinstance(value, wanted) and not (wanted is float and number):
            raise UserError(f"parameters: {name} must be {wanted.__name__} (got {value!r})")
        values[known[name].name] = wanted(value)
    return kind(**values)
