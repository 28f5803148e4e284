"""When a round closes before its deadline."""

from collections.abc import Collection, Set
from dataclasses import dataclass

GRACE = 2.0  # times what the others took: so long is a site waited for that missed a deadline
SHORTEST = 10.0  # seconds of it; Flower's own SuperNode looks for messages every 3 seconds
HANDED_OVER = 60.0  # the same where a model is handed over: 6 MB on a line of 1 Mbit/s


@dataclass
class Closing:
    """The rule of one exchange.

    It is over as soon as `wanted` sites have answered. `tardy` sites missed their last deadline:
    they are waited for only as long as the others make it `GRACE` times, or `shortest` seconds, if
    `least` answers are there without them.
    """

    wanted: int
    least: float
    tardy: Set[str] = frozenset()
    shortest: float = SHORTEST
    others_took: float | None = None

    def due(self, seconds: float, answered: Collection[str], waiting: Collection[str]) -> bool:
        """Whether the exchange is over `seconds` after it was opened."""
        if len(answered) >= self.wanted:
            return True
        if len(answered) < self.least or not self.tardy >= set(waiting):
            return False
        if self.others_took is None:
            self.others_took = seconds
        return seconds >= max(self.shortest, GRACE * self.others_took)
