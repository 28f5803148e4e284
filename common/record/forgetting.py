"""What a run was made without: `forgetting.json` in its folder, and a part of `run.json`.

It has names of sites and counts of images alone. What was taken back is not described.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt

from common.config.given import Scalar
from common.config.options import Plan
from common.record.orders import read_note
from common.utils.errors import UserError

FILE = "forgetting.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Forgetting(_Part):
    """A run takes the place of the run `of`, by `method` (`server/forgetting/`). `images`: site ->
    how many were taken back there since that run; `gone`: sites that took part in it, and do not
    any more; `parameters`: the method's own; `earlier`: site -> how many had been taken back by the
    run `of`."""

    of: str
    method: str
    images: dict[str, NonNegativeInt] = {}
    gone: tuple[str, ...] = ()
    parameters: dict[str, Scalar] = {}
    earlier: dict[str, NonNegativeInt] = {}

    @property
    def counts(self) -> str:
        """How many images of each site, in words."""
        names = sorted({*self.images, *self.gone})
        told = [f"{name}: {self.images[name]:,}" if name in self.images else name for name in names]
        pairs = zip(names, told, strict=True)
        return ", ".join(f"{text} (all)" if name in self.gone else text for name, text in pairs)

    @property
    def in_all(self) -> dict[str, int]:
        """Site -> how many images it has taken back, from this run and from those before."""
        names = {*self.images, *self.earlier}
        return {name: self.images.get(name, 0) + self.earlier.get(name, 0) for name in names}

    @property
    def text(self) -> str:
        """In words, counts only."""
        return f"images taken back since {self.of}: {self.counts}; method: {self.method}"


class Order(_Part):
    """What a new folder is made for. `plan`: as it is to be run; `key`: the same for the same
    wish, by which a run that was killed is found again. Of real sites: `asked` has said itself
    what it takes back, or leaves; `sites` are to take part (none: all that are there); `before`:
    how many images they had taken back by the earlier run; `alone`: what is begun with is free of
    nobody's images but those of the one that has asked; `reference`: it is made for an audit
    alone, and handed to nobody."""

    plan: Plan
    forgetting: Forgetting
    key: str
    asked: str = ""
    sites: tuple[str, ...] = ()
    before: dict[str, NonNegativeInt] = {}
    alone: bool = False
    reference: bool = False

    def among(self, withdrawn: Mapping[str, int]) -> Forgetting:
        """What is forgotten where real sites have taken back so many images each; `UserError`
        where the one that has asked has taken back none since."""
        forgetting = self.forgetting
        since = {name: withdrawn.get(name, 0) - self.before.get(name, 0) for name in self.sites}
        since = {name: count for name, count in since.items() if count > 0}
        if self.asked and self.asked not in {*since, *forgetting.gone}:
            raise UserError(
                f"site {self.asked} has taken back no image since {forgetting.of}: nothing to "
                "forget (covey client forget at the site)"
            )
        others = sorted(since.keys() - {self.asked})
        if self.alone and others:
            raise UserError(
                f"site {others[0]} has taken back images, too, and may have been there before: "
                "--method retrain forgets both"
            )
        return forgetting.model_copy(update={"images": {**forgetting.images, **since}})


def read_order(folder: Path) -> Order | None:
    """What the folder was made for; None for a run of its own; `UserError` for a damaged file."""
    return read_note(folder / FILE, Order)
