"""What is said of a measured quantity."""

from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Metric:
    """A measured quantity. `name`: what tables call it; `unit`: "" for a plain number; `better`:
    which way is; `about`: a sentence that says what it means; `share`: it lies in [0, 1] or near,
    and is written with three decimals; `labels`: whether it needs labels at a site."""

    key: str
    name: str
    unit: str
    better: Direction
    about: str
    share: bool = False
    labels: bool = False

    @property
    def title(self) -> str:
        """The name as a heading: "Evenness", but "kNN"."""
        return self.name[:1].upper() + self.name[1:] if self.name.islower() else self.name
