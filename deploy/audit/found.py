"""What an audit of forgetting has found, wherever it was made."""

from dataclasses import dataclass

from common.record.reader import RunRecord
from deploy.audit.attack import Attack
from deploy.audit.figures import Figure
from deploy.audit.material import Material
from deploy.audit.same import Same
from deploy.audit.verdict import Verdict
from server.report.accounts import total_bytes, total_seconds


@dataclass(frozen=True)
class Cost:
    """Wall time and bytes, both ways, of forgetting, and of a run from its beginning without the
    data. Bytes of a simulation are counted, not sent."""

    seconds: float
    seconds_anew: float
    bytes: float
    bytes_anew: float

    @classmethod
    def of(cls, forgotten: RunRecord, anew: RunRecord) -> "Cost":
        """Of two runs."""
        return cls(
            total_seconds(forgotten), total_seconds(anew), total_bytes(forgotten), total_bytes(anew)
        )

    @property
    def share(self) -> float:
        """Of the time of a run anew; 0 where that took none."""
        return self.seconds / self.seconds_anew if self.seconds_anew else 0.0


@dataclass(frozen=True)
class Counts:
    """How many images were `forgotten`, are `left`, and are compared with the forgotten: `unseen`
    (that nobody has) or `stayed` (the sites' own); `test`: that figures are of; `sites`: site ->
    forgotten."""

    forgotten: int
    left: int
    sites: dict[str, int]
    unseen: int = 0
    stayed: int = 0
    test: int = 0

    @classmethod
    def of(cls, material: Material) -> "Counts":
        """Of an audit where all images are."""
        return cls(
            forgotten=len(material.gone),
            left=len(material.kept),
            sites=material.counts,
            unseen=len(material.unseen.images),
            test=0 if material.test is None else len(material.test.images),
        )


@dataclass(frozen=True)
class Audit:
    """All that was found of the run `forgotten`, made in the place of `original`. `wanting`: what
    could not be had, and why, a sentence each; `served`: whether sites elsewhere have looked."""

    original: RunRecord
    forgotten: RunRecord
    counts: Counts
    seeds: tuple[int, ...]
    published: tuple[Same, ...]
    sums: tuple[Same, ...]
    attacks: tuple[Attack, ...]
    figures: tuple[Figure, ...]
    cost: Cost
    verdict: Verdict
    wanting: tuple[str, ...] = ()
    served: bool = False
