"""What all parts of a run's record are made of (`common/record/schema.py`)."""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, NonNegativeInt

from common.record.metrics import FIGURES

FORMAT: Final = 1
"""Of both files. Files without one are of Covey 0.1 (`common/record/earlier.py`)."""


class Part(BaseModel):
    """A part of a record: nothing unknown is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


def _known(figures: dict[str, float]) -> dict[str, float]:
    unknown = sorted(figures.keys() - FIGURES.keys())
    if unknown:
        raise ValueError(f"no metric is called {unknown[0]!r}")
    return figures


Number = Annotated[float, BeforeValidator(lambda value: float("nan") if value is None else value)]
Figures = Annotated[dict[str, Number], AfterValidator(_known)]
"""Metric (a key of `common.record.metrics.FIGURES`) -> its value."""
Counts = tuple[NonNegativeInt, ...]


class RecordedEvent(Part):
    """`time`: seconds since 1970, which the writer sets; `round`: after which training round (0:
    before the first)."""

    event: str
    format: Literal[1] = FORMAT
    time: float = 0.0
    round: NonNegativeInt

    def to_json(self) -> str:
        """As the file has it, on one line."""
        return self.model_dump_json(exclude_none=True)


class Held(RecordedEvent):
    """What exchanges took, and who took part. `refused`: site -> why; `seconds`: phase -> mean
    over the sites, with "total" and "wait" of the server."""

    answered: tuple[str, ...]
    missing: tuple[str, ...]
    refused: dict[str, str]
    bytes_down: NonNegativeInt
    bytes_up: NonNegativeInt
    seconds: dict[str, Number]
