"""What a site would have the federation call its clusters: a name for each, "" where it has none.

Both sides ask it: a site before a name leaves, and the server before a name is written anywhere.
Imports no torch.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import TypeGuard

from common.data.listing import SUFFIXES
from common.learned.facts import MOST_CLUSTERS
from common.utils.errors import UserError, plain

LONGEST = 80  # characters of a name that is offered
PATH = re.compile(r"(~|\.{0,2})/|.*(\\|/.*/)")


def complaint(name: str) -> str:
    """Why this may be no name that leaves a site; "" where it may."""
    if len(name) > LONGEST:
        return f"has {len(name)} characters: at most {LONGEST} may leave"
    if not name.isprintable():
        return "is not one printable line"
    if PATH.match(name) or PurePosixPath(name.strip()).suffix.lower() in SUFFIXES:
        return "looks like the name of a file"
    return ""


def check_names(names: Sequence[str]) -> None:
    """`UserError` for the first name that may not leave."""
    for cluster, name in enumerate(names):
        why = complaint(name)
        if why:
            raise UserError(f"cluster {cluster}: the name {plain(name, LONGEST)!r} {why}")


def are_names(value: object) -> TypeGuard[list[str]]:
    """Whether this is a list of names each of which may have left a site."""
    if not isinstance(value, list) or not 1 <= len(value) <= MOST_CLUSTERS:
        return False
    return all(isinstance(name, str) and not complaint(name) for name in value)
