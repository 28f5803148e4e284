"""An objective around another one: a term more, or its loss over other pairs of views.

A wrapper overrides what it changes. Every other method of an objective is passed on to the one
inside: those of `Objective` and `Model` are found below, so that one which is added there needs
nothing here.
"""

from collections.abc import Callable
from inspect import isfunction
from typing import Any

from common.models.model import Model
from common.objectives.base import Objective


class Wrapper(Objective):
    """An objective around `inner`: everything is `inner`'s but what a subclass overrides."""

    def __init__(self, inner: Objective) -> None:
        super().__init__()
        self.inner = inner
        self.prepares, self.aggregation = inner.prepares, inner.aggregation
        self.encoder = inner.encoder
        self.projector = inner.projector


PASSED_ON = tuple(
    name
    for kind in (Model, Objective)
    for name, found in vars(kind).items()
    if isfunction(found) and not name.startswith("_")
)
"""The methods that an objective has for others to call."""


def _passed_on(name: str) -> Callable[..., Any]:
    def method(wrapper: Wrapper, *arguments: Any, **named: Any) -> Any:
        return getattr(wrapper.inner, name)(*arguments, **named)

    return method


for _name in PASSED_ON:
    setattr(Wrapper, _name, _passed_on(_name))
