"""Aggregation by a rule that needs all updates at once (median, trimmed mean, Krum, clipping).

All updates are kept until the last has arrived: 4 bytes a number and site, where the mean keeps 16
a number in all. They are put in an order of their own before the rule sees them, so that rounding
and ties do not know the order of arrival.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from common.protocol.layout import BUFFERS
from common.protocol.messages import Floats, Groups
from common.utils.errors import UserError
from server.aggregation.mean import Check
from server.aggregation.rows import Rows, Rule


@dataclass
class Suspects:
    """At most `assumed` sites are Byzantine. Those whose answers were refused for what was in them
    are of these: only `left` can be among the others."""

    assumed: int = 0
    exposed: set[str] = field(default_factory=set)

    @property
    def left(self) -> int:
        """How many of the sites that were not refused may be Byzantine."""
        return max(0, self.assumed - len(self.exposed))

    def expose(self, site: str) -> None:
        """This one is Byzantine, as what it answered shows."""
        self.exposed.add(site)

    def require(self, answers: int, margin: int, rule: str) -> int:
        """The f sites that may be Byzantine; `UserError` with fewer than the 2f + `margin` answers
        that `rule` needs for what it promises."""
        f = self.left
        if answers < 2 * f + margin:
            raise UserError(
                f"{rule}: {answers} answers are too few to withstand {f} Byzantine sites, which "
                f"takes {2 * f + margin}"
            )
        return f


class Collected:
    """Keeps the sites' groups and hands them to `rule`. `margin`: the m of 2f + m answers that the
    rule needs; `name`: what to call it in an error."""

    def __init__(
        self,
        name: str,
        rule: Rule,
        margin: int,
        received: Groups,
        examples: int,
        suspects: Suspects,
    ) -> None:
        self._name, self._rule, self._margin = name, rule, margin
        self._received = received
        self._suspects = suspects
        self._check = Check({name: len(array) for name, array in received.items()}, examples)
        statistics = [name for name in received if name.endswith(BUFFERS)]
        parameters = [name for name in received if name not in statistics]
        self._parts = [names for names in (parameters, statistics) if names]
        self._updates: list[tuple[bytes, list[Floats]]] = []
        self.examples = 0

    def fold(self, groups: Groups, examples: int) -> None:
        """Keep one site's arrays. `ValueError`, before anything is kept, for what does not fit."""
        self._check(groups, examples, self.examples)
        vectors = [joined(groups, names) for names in self._parts]
        digest = hashlib.sha256(b"".join(vector.tobytes() for vector in vectors))
        self._updates.append((digest.digest(), vectors))
        self.examples += examples

    def result(self) -> dict[str, Floats]:
        """The new groups. `ValueError` if nothing was folded; `UserError` if too little was for
        what the rule promises."""
        if not self._updates:
            raise ValueError("nothing to aggregate: no site's update was accepted")
        byzantine = self._suspects.require(len(self._updates), self._margin, self._name)
        self._updates.sort(key=lambda update: update[0])
        parts = [
            Rows([vectors[i] for _, vectors in self._updates], joined(self._received, names))
            for i, names in enumerate(self._parts)
        ]
        new: dict[str, Floats] = {}
        for names, part, change in zip(
            self._parts, parts, self._rule(parts, byzantine), strict=True
        ):
            vector = (part.origin.astype(np.float64) + change).astype(np.float32)
            ends = np.cumsum([len(self._received[name]) for name in names])[:-1]
            new |= dict(zip(names, np.split(vector, ends), strict=True))
        return new


def joined(groups: Groups, names: Sequence[str]) -> Floats:
    """The groups of these names, one behind the other (a copy)."""
    return np.concatenate([groups[name] for name in names])
