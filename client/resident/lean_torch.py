"""The trainer without torch's compiler, which it does not use.

The first optimiser of a process imports `torch._dynamo`, a second of CPU time and 150 MB, to ask it
for two things that do nothing outside compiled code: `disable` (of torch 2.14's
`torch/_compile.py`) and `graph_break` (`torch/optim/optimizer.py`). `leave_compiler_out` puts a
module in its place that has those two; whatever else is looked for in it loads the real one, once,
and is found there. A torch that asks for something else therefore works as ever, and is only as
large as ever.
"""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch

NAME = "torch._dynamo"


class _Stand(ModuleType):
    """In the place of `torch._dynamo` until somebody wants more than these two."""

    @staticmethod
    def disable(
        function: Callable[..., Any], _recursive: bool = True, *, wrapping: bool = True
    ) -> Callable[..., Any]:
        """What is not compiled is not compiled anyway."""
        return function

    @staticmethod
    def graph_break() -> None:
        """There is no graph."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
            importlib.import_module(NAME)
        return getattr(sys.modules[NAME], name)


def leave_compiler_out() -> None:
    """From here on an optimiser of this process costs no import of `torch._dynamo`; nothing to do
    where it has been imported."""
    if NAME not in sys.modules:
        stand = _Stand(NAME)
        sys.modules[NAME] = stand
        torch._dynamo = stand
