"""Every option of a run: its one name, default, bounds and help.

The same kebab-case name serves on the command line (`--local-epochs 2`), in a recipe
(`local-epochs = 2`) and in `flwr run --run-config 'local-epochs="2"'`. Nothing else in Covey
invents an option of a run.

A `Plan` is a recipe with all options settled. It travels to the sites with every message and is
written to `run.json`. This file imports no torch: the command line and the client's shim read it.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from common.config.encoder import DIGEST, ENCODERS, EncoderOptions, Network
from common.config.images import kebab
from common.config.stage import Stage
from common.utils.errors import UserError

__all__ = [
    "ENCODERS",
    "MIN_COUNT",
    "RUN_OPTIONS",
    "STAGE_OPTIONS",
    "VIEWS",
    "Plan",
    "Stage",
    "one_line",
]

VIEWS = ("auto", "digits", "garments", "natural")
MIN_COUNT = 5  # images behind a count, a sum or a centroid that may leave a site


class RunOptions(EncoderOptions):
    """The options that hold for a whole run: those of its images, its encoder, and these."""

    sites: int = Field(default=4, ge=1, le=100_000, description="sites of a local federation")
    alone: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="1, 2, ...: only this site of the partition takes part; 0: all",
    )
    partition: str = Field(
        default="p-skew(0.75)",
        description="how a local federation's images are spread over the sites: "
        "iid, dirichlet(0.1), p-skew(0.75), shards(2)",
    )
    size_skew: float = Field(
        default=0.0, ge=0, description="Dirichlet parameter of the sites' sizes; 0: equal sizes"
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="decides every random choice")
    views: str = Field(
        default="auto",
        description="augmentation of the two views: digits, garments, natural; auto: by data set",
    )
    clusters: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="number of clusters; 0: as many as classes, where every site has some, or 10",
    )
    normalisation: Literal["batch", "group", "layer"] = Field(
        default="batch",
        description="of the encoder and the heads: BatchNorm, or GroupNorm of 8 groups or of all "
        "maps (layer), which does not mix the images of a batch",
    )
    head_normalisation: Literal["same", "batch", "group", "layer"] = Field(
        default="same",
        description="of what stands behind the encoder alone, where it is not to be the same",
    )
    batchnorm: Literal["average", "local"] = Field(
        default="average", description="running statistics of BatchNorm: averaged, or kept local"
    )
    participation: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="client fraction: share of the sites that take part in a round",
    )
    over_sampling: float = Field(
        default=1.0,
        ge=1,
        le=10,
        description="ask this many times the sites of participation, and close the round when as "
        "many as those have answered",
    )
    quorum: float = Field(
        default=0.5, gt=0, le=1, description="share of a round's sites without which it fails"
    )
    byzantine: int = Field(
        default=0,
        ge=0,
        le=50_000,
        description="sites that may answer anything at all: how many a robust aggregation and "
        "robust centroids withstand",
    )
    deadline: float = Field(
        default=600.0, gt=0, description="seconds after which a round closes with who answered"
    )
    min_count: int = Field(
        default=MIN_COUNT,
        ge=1,
        description="a site does not send counts below this, nor below its own bound (privacy)",
    )
    evaluation_share: float = Field(
        default=0.2, gt=0, lt=1, description="share of a site's images kept for kNN and probe"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, ...")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="auto: bfloat16 on a GPU, float32 on a CPU"
    )


class Plan(RunOptions):
    """A recipe with every option settled."""

    recipe: str
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    network: Network | None = None
    """Of a pretrained encoder: settled with its file, whose SHA-256 is `weights` then."""

    @model_validator(mode="after")
    def _of_weights(self) -> "Plan":
        if self.network is not None and not DIGEST.fullmatch(self.weights):
            raise UserError("a pretrained encoder is settled, and weights is no SHA-256")
        return self

    @property
    def rounds(self) -> int:
        """Training rounds over all stages."""
        return sum(stage.rounds for stage in self.stages)

    @property
    def expected_sites(self) -> int:
        """Sites that are to take part."""
        return 1 if self.alone else self.sites

    @property
    def by_image(self) -> bool:
        """Whether what a site draws is drawn for each image from what the image is, so that it does
        not depend on who holds it."""
        return any(stage.synchronous and stage.objective for stage in self.stages)

    def share(self, sites: int) -> int:
        """Of so many sites, how many a round wants: `participation`, at least one."""
        return max(1, round(self.participation * sites))

    def rounds_before(self, stage: int) -> int:
        """Training rounds of all stages before `stage`."""
        return sum(earlier.rounds for earlier in self.stages[:stage])

    def stage_of(self, round_number: int) -> tuple[int, int]:
        """(stage index, round within the stage from 1) of a training round counted from 1."""
        left = round_number
        for index, stage in enumerate(self.stages):
            if left <= stage.rounds:
                return index, left
            left -= stage.rounds
        raise ValueError(f"round {round_number} is past the plan's {self.rounds} rounds")

    def to_json(self) -> str:
        """Canonical JSON: the same plan gives the same bytes."""
        return self.model_dump_json(by_alias=True)

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """The inverse of `to_json`; a `UserError` says what does not fit."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise UserError(one_line(error)) from None


RUN_OPTIONS: dict[str, Any] = {kebab(k): f for k, f in RunOptions.model_fields.items()}
STAGE_OPTIONS: dict[str, Any] = {kebab(k): f for k, f in Stage.model_fields.items() if k != "name"}


def one_line(error: ValidationError) -> str:
    """The first complaint of a pydantic error as one line that names the option and the value."""
    first = error.errors()[0]
    own = first.get("ctx", {}).get("error")
    if isinstance(own, UserError):
        return str(own)
    where = ".".join(kebab(str(part)) for part in first["loc"]) or "options"
    return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]} (got {first['input']!r})"
