"""The schema of `map.json`: a run's images as points in the plane."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, NonNegativeInt, model_validator

from common.record.base import Counts, Number, Part

Address = Annotated[str, Field(pattern=r"^data:image/(png|webp);base64,[A-Za-z0-9+/=]*$")]


class DataMap(Part):
    """`map.json`: images as points in the plane, of a local federation alone; their clusters, and
    their classes where there are labels. `images`: how many; `central`: by cluster, pictures
    nearest to its centre, as `data:` addresses."""

    model_config = ConfigDict(populate_by_name=True)

    method: str
    images: NonNegativeInt
    x: tuple[Number, ...]
    y: tuple[Number, ...]
    cluster: Counts
    classes: Counts | None = Field(default=None, alias="class")
    central: tuple[tuple[Address, ...], ...] = ()

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if not all(
            len(column) == self.images
            for column in (self.x, self.y, self.cluster, self.classes)
            if column is not None
        ):
            raise ValueError("its columns are not of one length")
        return self

    def to_json(self) -> str:
        """As the file has it."""
        return self.model_dump_json(by_alias=True)
