"""The models that the files of a folder define, by name: a method is added by adding a file."""

import inspect
from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

from common.models.model import Model

Kind = TypeVar("Kind", bound=Model)


def in_folder(package: str, path: Iterable[str], base: type[Kind]) -> dict[str, type[Kind]]:
    """Every subclass of `base` with a name of its own in the modules of `package`, by its name."""
    found: dict[str, type[Kind]] = {}
    for file in iter_modules(path):
        module = import_module(f"{package}.{file.name}")
        for kind in filter(inspect.isclass, vars(module).values()):
            if issubclass(kind, base) and "name" in vars(kind):
                found[kind.name] = kind
    return found
