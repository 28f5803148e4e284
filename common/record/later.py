"""What is told of a finished run that was asked something later (`common/record/follow_up.py`)."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from common.record.base import Counts, Held, Number, Part, RecordedEvent

STABLE, DOUBTFUL = 0.8, 0.4
"""Agreement beyond chance (Cohen's kappa): "almost perfect" and better, and what is less than
"moderate" (Landis and Koch, Biometrics 1977)."""


class SplitEvent(RecordedEvent):
    """A cluster was taken apart. `parts`: the numbers of its parts among the clusters that there
    are then, `sizes`: their images; `tighter`: by how much of it the distances inside it are
    smaller; `stability`: how well two views of an image agree on the part, 0 by chance; `stage`:
    which stage's end it is told with."""

    event: Literal["split"] = "split"
    cluster: NonNegativeInt
    parts: Counts
    sizes: Counts
    tighter: Number
    stability: Number
    stage: NonNegativeInt | None = None

    @property
    def text(self) -> str:
        """In words."""
        told = ", ".join(
            f"{n:,} images in {part}" for part, n in zip(self.parts, self.sizes, strict=True)
        )
        return (
            f"cluster {self.cluster} is now {told}; distances inside are {self.tighter:.0%} "
            f"smaller; {verdict(self.stability)} ({self.stability:.2f})"
        )


class NamesEvent(RecordedEvent):
    """The coordinator has said what the clusters are called: `names` of all of them, "" of one
    without; `sites`: whose offers were accepted."""

    event: Literal["names"] = "names"
    names: tuple[str, ...]
    sites: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """In words."""
        told = f"{sum(map(bool, self.names))} of {len(self.names)} clusters have a name"
        return f"{told}; accepted: {', '.join(self.sites)}" if self.sites else told


def verdict(stability: float) -> str:
    """What it says of parts that two views of an image agree so well on which it is in."""
    if stability >= STABLE:
        return "two views of an image agree on the part"
    if stability >= DOUBTFUL:
        return "two views of an image agree on the part in most cases: look at the pictures"
    return "two views of an image hardly agree on the part: there may be nothing to take apart"


class RecalledEvent(RecordedEvent):
    """Sites have looked for images that they took back in several models: for each site and model
    what it tells, by the names of the exchange `recall`; `refused`: why others did not."""

    event: Literal["recalled"] = "recalled"
    told: dict[str, tuple[dict[str, Number], ...]]
    refused: dict[str, str]

    @property
    def text(self) -> str:
        """In words."""
        found = [f"{site} has looked at {len(models)} models" for site, models in self.told.items()]
        return "; ".join(
            [*found, *(f"{site} has not: {why}" for site, why in self.refused.items())]
        )


class Candidate(Part):
    """One number of clusters that was tried. `spread`: what of all squared distances lies inside
    the clusters; `merge_cost`: by how much of them it would grow with one cluster less;
    `stability`: how well views of an image, and clusterings from other starts, agree, 0 by
    chance."""

    clusters: PositiveInt
    silhouette: Number
    views: Number
    restarts: Number
    merge_cost: Number
    spread: Number

    @property
    def stability(self) -> float:
        """The lesser of the two agreements."""
        return min(self.views, self.restarts)

    @property
    def score(self) -> float:
        """By which candidates are compared: silhouette times stability. Neither tells enough alone:
        few clusters are stable whatever the images, and parts of nothing may lie far apart."""
        return max(self.silhouette, 0.0) * max(self.stability, 0.0)


class ChoiceEvent(Held):
    """Clusterings of several sizes, weighed. `suggested`: one of them; `doubt`: how sure that is,
    in words; `stage`: which stage's end it is told with, where one of them is taken."""

    event: Literal["choice"] = "choice"
    candidates: tuple[Candidate, ...]
    suggested: PositiveInt
    doubt: str
    stage: NonNegativeInt | None = None

    @property
    def text(self) -> str:
        """In words."""
        return f"{self.suggested} clusters are suggested: {self.doubt}"
