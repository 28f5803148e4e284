"""Mistakes of a user, told in one line.

A `UserError` is the only exception that the command line prints without a traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST = 300  # characters of a line that another machine has a say in


def plain(text: str, most: int = LONGEST) -> str:
    """`text` as one printable line of at most `most` characters: what comes from another machine
    goes to screens and logs, where control characters would be obeyed."""
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: most + 1])
    return line if len(line) <= most else line[: most - 1] + "…"


class UserError(ValueError):
    """A mistake that the user can mend; its text is one clear line."""


class RunFailed(Exception):
    """A run that ended without a result; its text says why and where to read more."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not in `known`: it offers the nearest one, or all of them.

    `kind` is what the name should have been: "recipe", "data set", "option".
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    return UserError(f"unknown {kind} {name!r}: {hint}")
