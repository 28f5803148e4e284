"""Recipes: named lists of stages, as TOML files beside this one.

A recipe's top level may set any option of a run; each `[[stages]]` table any option of a stage;
`[about]` says what the method is. A method is data wherever it can be.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import UserError, unknown
from common.options import RUN_OPTIONS, Plan, settle

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Recipe:
    """A method as data: what it is, and the options it sets."""

    name: str
    title: str
    family: str
    shared: str
    source: str
    document: Mapping[str, Any]

    def plan(self, overrides: Mapping[str, Any] | None = None) -> Plan:
        """The recipe with every option settled; `UserError` for a bad override."""
        return settle(self.name, self.document, overrides or {})


def names() -> list[str]:
    """The recipes that ship with Covey, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Recipe:
    """The recipe called `name`, or the one in the file `name` if that ends in `.toml`."""
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not name.endswith(".toml") and name not in names():
        raise unknown("recipe", name, names())
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no recipe file {path}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"recipe {path}: {error}") from None
    about = document.pop("about", {})
    for key in document:
        if key != "stages" and key not in RUN_OPTIONS:
            raise unknown(f"option in recipe {path.name}", key, [*RUN_OPTIONS, "stages"])
    if not document.get("stages"):
        raise UserError(f"recipe {path}: it has no [[stages]]")
    return Recipe(
        name=path.stem,
        title=about.get("title", path.stem),
        family=about.get("family", ""),
        shared=about.get("shared", ""),
        source=about.get("source", ""),
        document=document,
    )
