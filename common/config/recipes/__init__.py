"""Recipes: named lists of stages, as TOML files beside this one.

A recipe's top level may set any option of a run; each `[[stages]]` table any option of a stage;
`[about]` says what the method is. A method is data wherever it can be.

Those in `published/` are called `published/<name>`: a paper's whole protocol (data, network, sites,
rounds), for who wants its numbers and has a GPU. Each of their numbers says where it is from.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config.options import RUN_OPTIONS, Plan
from common.config.settle import settle
from common.utils.errors import UserError, unknown
from common.utils.names import label, place

FOLDER = Path(__file__).parent
DEFAULT = "covey-exact"  # where a command names no recipe; why: docs/results/training.md
LONGEST_NAME = 100  # characters of a recipe's name that a file gives it
PUBLISHED = "published/"  # what the names of published protocols begin with


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
    """The recipes that ship with Covey, sorted; the published protocols come last."""
    paths = [*sorted(FOLDER.glob("*.toml")), *sorted(FOLDER.glob(f"{PUBLISHED}*.toml"))]
    return [path.relative_to(FOLDER).with_suffix("").as_posix() for path in paths]


def file_name(recipe: str) -> str:
    """What stands for `recipe`, a name or a `.toml` file, within the name of a folder."""
    return Path(recipe).stem if recipe.endswith(".toml") else recipe.replace("/", "-")


def load(name: str) -> Recipe:
    """The recipe called `name`, or the one in the file `name` if that ends in `.toml`."""
    own_file = name.endswith(".toml")
    path = place(name) if own_file else FOLDER / f"{name}.toml"
    if not own_file and name not in names():
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
        name=label(path.stem, LONGEST_NAME) if own_file else name,
        title=about.get("title", path.stem),
        family=about.get("family", ""),
        shared=about.get("shared", ""),
        source=about.get("source", ""),
        document=document,
    )
