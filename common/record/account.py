"""What became of every file of a folder: none is left out without a word.

Names stay where the files are; `counts` is what may be told.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from common.utils.names import printable

NAMED = 5  # files of a kind that are named in a line
SUFFIXES = 8  # of other kinds that are named


class Kind(Enum):
    """Why a file that could be an image is none."""

    UNREADABLE = "unreadable"
    TOO_LARGE = "too large"
    DUPLICATE = "duplicate"
    LINK = "link"


@dataclass(frozen=True)
class LeftOut:
    """A file that is left out. `name`: relative to the folder; `why`: half a sentence."""

    name: str
    kind: Kind
    why: str = ""


COUNTS = (
    "used", "copies", "unreadable", "too_large", "duplicates", "links", "other", "hidden",
    "undrawn",
)  # fmt: skip
"""The numbers of an account, in the order in which a site tells them. `copies` are among those that
are used: all others are disjoint."""


@dataclass(frozen=True)
class Account:
    """The files of a folder. They sum up: `used`, `left_out`, of `other` kinds by suffix, `hidden`
    (and what systems leave behind), and `undrawn`. `copies`: those of the used ones that have the
    content of another; `notes`: what else is to be said of those that are used."""

    used: int = 0
    copies: int = 0
    left_out: tuple[LeftOut, ...] = ()
    other: Mapping[str, int] = field(default_factory=dict)
    hidden: int = 0
    undrawn: int = 0
    notes: tuple[str, ...] = ()

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Names of what could not be used, sorted; copies of what is used are none of them."""
        return tuple(sorted(each.name for each in self.left_out if each.kind is not Kind.DUPLICATE))

    @property
    def counts(self) -> tuple[int, ...]:
        """How many files there are of each of `COUNTS`."""
        kinds = Counter(each.kind for each in self.left_out)
        return (
            self.used,
            self.copies,
            kinds[Kind.UNREADABLE],
            kinds[Kind.TOO_LARGE],
            kinds[Kind.DUPLICATE],
            kinds[Kind.LINK],
            sum(self.other.values()),
            self.hidden,
            self.undrawn,
        )

    def lines(self) -> list[str]:
        """The whole account for who owns the files: nothing where every file is used."""
        told = in_words(self.counts)
        lines = [f"files: {told}"] if told else []
        lines += [f"  {kind.value}: {_named(group)}" for kind in Kind if (group := self._of(kind))]
        if self.other:
            lines.append(f"  other kinds: {_by_suffix(self.other)}")
        notes = [COPIES.format(f"{self.copies:,}")] if self.copies else []
        return lines + [f"  {note}" for note in (*notes, *self.notes)]

    def _of(self, kind: Kind) -> list[LeftOut]:
        return [each for each in self.left_out if each.kind is kind]


DUPLICATES = "duplicates"
WORDS = (
    "unreadable", "too large", f"{DUPLICATES} left out", "links that are not followed",
    "of other kinds", "hidden", "not drawn",
)  # fmt: skip
COPIES = "duplicates are used all the same (--copies drop leaves them out): {}"
SINGLE = {
    DUPLICATES: "duplicate",
    f"{DUPLICATES} left out": "duplicate left out",
    "links that are not followed": "link that is not followed",
    "of other kinds": "of another kind",
}


def in_words(counts: Iterable[int]) -> str:
    """ "12 used (2 duplicates among them), 3 unreadable", of `COUNTS`; "" where all are used, and
    differ."""
    used, copies, *others = counts
    said = f"{used:,} used" + (f" ({_counted(copies, DUPLICATES)} among them)" if copies else "")
    parts = [_counted(n, words) for n, words in zip(others, WORDS, strict=True) if n]
    return ", ".join([said, *parts]) if copies or parts else ""


def _counted(count: int, words: str) -> str:
    return f"{count:,} {SINGLE.get(words, words) if count == 1 else words}"


def _named(group: list[LeftOut]) -> str:
    """Files by why: "3 it is cut (a.png, b.png, c.png)"."""
    reasons: dict[str, list[str]] = {}
    for each in group:
        reasons.setdefault(each.why, []).append(printable(each.name))
    return "; ".join(
        f"{_list(names)} ({why})" if why else _list(names) for why, names in reasons.items()
    )


def _list(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _by_suffix(other: Mapping[str, int]) -> str:
    ranked = sorted(other.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = [f"{count:,} {printable(suffix)}" for suffix, count in ranked[:SUFFIXES]]
    more = sum(count for _, count in ranked[SUFFIXES:])
    return ", ".join(shown) + (f", {more:,} more" if more else "")
