"""The versions that the tests pass with, as constraints for pip: `make lock`.

    python -m tests.lock        # writes constraints.txt and constraints-torch.txt

They are what this environment has of Covey, of its extras, and of what these bring. They hold for
this Python alone: under another one pip chooses by itself. PyTorch, with what nobody but it needs,
has a file of its own, which `make install` leaves aside where a PyTorch is installed already.
"""

import sys
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK, TORCH_LOCK = ROOT / "constraints.txt", ROOT / "constraints-torch.txt"
TORCH = ("torch", "torchvision")
PINNED = ("sympy", "mpmath")  # by some builds of PyTorch, though others bring them, too
BUILDS = ("cuda-", "nvidia-", "triton")  # what PyTorch pins itself, and each build otherwise
HEAD = """\
# What the tests pass with{what}. Made by `make lock`, for Python {python} alone:
# under another Python pip chooses by itself, within the bounds of pyproject.toml."""


def needed(without: tuple[str, ...] = ()) -> dict[str, str]:
    """Name -> version of all that Covey with its extras brings here, but for what comes with the
    packages `without` alone. What is not installed (the extra of `make bench`) is left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    to_do = [(Requirement(one), ("",)) for one in asked if not one.startswith("covey[")]
    found: dict[str, str] = {}
    seen = set()
    while to_do:
        one, extras = to_do.pop()
        name = canonicalize_name(one.name)
        applies = not one.marker or any(one.marker.evaluate({"extra": e}) for e in extras)
        if not applies or name in without or (name, *one.extras) in seen:
            continue
        seen.add((name, *one.extras))
        with suppress(PackageNotFoundError):
            package = distribution(name)
            found[name] = package.version.partition("+")[0]  # whatever the build
            to_do += [(Requirement(r), ("", *one.extras)) for r in package.requires or ()]
    return {name: found[name] for name in sorted(found) if not name.startswith(BUILDS)}


def constraints(versions: Mapping[str, str], python: str, what: str) -> str:
    """The text of a file."""
    pins = (
        f'{name}=={version} ; python_version == "{python}"' for name, version in versions.items()
    )
    return "\n".join([HEAD.format(what=what, python=python), *pins, ""])


def main() -> None:
    """Write both files."""
    python = ".".join(map(str, sys.version_info[:2]))
    everything, own = needed(), needed(without=TORCH)
    torch = {name: v for name, v in everything.items() if name not in own or name in PINNED}
    own = {name: version for name, version in own.items() if name not in torch}
    LOCK.write_text(constraints(own, python, ", but PyTorch"), encoding="utf-8")
    TORCH_LOCK.write_text(constraints(torch, python, " of PyTorch"), encoding="utf-8")
    print(f"{LOCK.name}: {len(own)} packages, {TORCH_LOCK.name}: {len(torch)}")


if __name__ == "__main__":
    main()
