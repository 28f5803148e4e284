"""Functions that are found by their names in a folder's files."""

from collections.abc import Container, Iterable
from importlib import import_module
from inspect import isfunction
from pkgutil import iter_modules
from typing import Any


def functions_in(package: str, path: Iterable[str], names: Container[str]) -> dict[str, Any]:
    """name -> function, of every function that a file of `package` defines under one of `names`;
    `ValueError` where two files define the same one."""
    found: dict[str, Any] = {}
    for file in iter_modules(path):
        module = import_module(f"{package}.{file.name}")
        for name, value in vars(module).items():
            own = isfunction(value) and value.__module__ == module.__name__
            if not own or name not in names:
                continue
            if name in found:
                raise ValueError(f"{package}: two functions are called {name}")
            found[name] = value
    return found
