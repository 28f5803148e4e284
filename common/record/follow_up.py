"""What a finished run is asked later: `follow-up.json` in the folder of the run that answers it,
and a part of `run.json`."""

import shlex
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt

from common.config.options import Plan
from common.record.orders import read_note

FILE = "follow-up.json"
Asks = Literal["split", "choose-k", "audit"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FollowUp(_Part):
    """What is asked of the run `of`. `split`: take `cluster` apart into so many `parts`;
    `choose-k`: cluster anew by `low` to `high` clusters, and end with `take` of them (0: with the
    run's own); `audit`: whether it knows images that were taken back from the run `original` by
    these `sites`, beside models with these `seeds` (`server/questions/recalling.py`)."""

    of: str
    kind: Asks
    cluster: NonNegativeInt = 0
    parts: PositiveInt = 2
    low: PositiveInt = 2
    high: PositiveInt = 30
    take: NonNegativeInt = 0
    original: str = ""
    sites: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """In words."""
        if self.kind == "split":
            return f"cluster {self.cluster} of {self.of} taken apart into {self.parts}"
        if self.kind == "audit":
            return f"whether {self.of} knows what was taken back from {self.original}"
        taken = f"; then {self.take} clusters" if self.take else ""
        return f"how many clusters {self.of} has, tried from {self.low} to {self.high}{taken}"

    @property
    def command(self) -> list[str]:
        """As it is typed, option by option."""
        if self.kind == "audit":
            return [shlex.join(["covey", "audit-forgetting", self.original, self.of])]
        start = shlex.join(["covey", self.kind, self.of])
        if self.kind == "split":
            return [start, f"--cluster {self.cluster}", f"--into {self.parts}"]
        taken = [f"--take {self.take}"] if self.take else []
        return [start, f"--range {self.low}:{self.high}", *taken]


class Order(_Part):
    """What a new folder is made for. `plan`: the earlier run's; `closed`: how many stages that had
    ended; `names`: of its clusters, "" where one has none."""

    plan: Plan
    follow_up: FollowUp
    closed: PositiveInt
    names: tuple[str, ...]


def read_order(folder: Path) -> Order | None:
    """What the folder was made for; None for another run; `UserError` for a damaged file."""
    return read_note(folder / FILE, Order)
