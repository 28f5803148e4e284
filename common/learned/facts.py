"""What `model.covey` says beside its tensors: from which run, for which images, which clusters.

A site gets these facts from its server, and a file may come from anybody: every field has bounds,
and a text is one printable line.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from common.config.options import Plan, one_line
from common.config.preparation import BACKGROUND, Fit, Preparation
from common.data import DATASETS
from common.record.reader import RunRecord
from common.record.schema import Figures, SiteFacts, StageEvent
from common.utils.errors import UserError, plain
from common.utils.names import label
from common.utils.version import covey_version

FORMAT: Final = 1
LONGEST_NAME = 200  # characters of a cluster's name, as of a class's
LONGEST = 1 << 22  # characters of all facts, as JSON
MOST_CLUSTERS = 10_000


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("not one printable line")
    return text


Line = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(_line)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Preprocessing(_Part):
    """How a picture becomes what the encoder takes: (`channels`, `side`, `side`) uint8. `fit`: how
    it becomes a square; `window`: the values that become 0 and 255 in one of more than 8 bits ("":
    the data set's own); `background`: what shows through."""

    channels: Literal[1, 3]
    side: Annotated[PositiveInt, Field(le=4096)]
    fit: Fit = "crop"
    window: Line = ""
    background: Line = BACKGROUND

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        try:
            _ = self.preparation
        except UserError as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def preparation(self) -> Preparation:
        """The same, as a folder is read."""
        return Preparation(
            side=self.side,
            channels=self.channels,
            fit=self.fit,
            window=self.window,
            background=self.background,
        )


class Facts(_Part):
    """What is known of a model.

    `run`, `recipe`, `created`, `covey`: where it is from (`covey`: the version that wrote it).
    `space`: in whose output the clusters are. `names`: of the K clusters, "" where one has none;
    `same`: groups of clusters that a person said are one, `split`: those that hold several things.
    `figures`: as the last stage ended. `sizes`: images of each cluster in the whole federation,
    empty where they are not known; `images`, `sites`: of the federation. `own_statistics`: whether
    the running statistics in it are one site's own (batchnorm = local).
    """

    format: Literal[1] = FORMAT
    run: Line
    recipe: Line
    created: Line
    covey: Line
    plan: Mapping[str, Any]
    space: Literal["encoder", "projector"]
    preprocessing: Preprocessing
    names: tuple[Line, ...]
    same: tuple[tuple[NonNegativeInt, ...], ...] = ()
    split: tuple[NonNegativeInt, ...] = ()
    figures: Figures = {}
    sizes: tuple[NonNegativeInt, ...] = ()
    images: NonNegativeInt = 0
    sites: NonNegativeInt = 0
    own_statistics: bool = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        clusters = len(self.names)
        if not 1 <= clusters <= MOST_CLUSTERS:
            raise ValueError(f"{clusters} clusters")
        if len(self.sizes) not in (0, clusters):
            raise ValueError(f"{len(self.sizes)} sizes of {clusters} clusters")
        told = [*self.split, *(one for group in self.same for one in group)]
        if any(one >= clusters for one in told):
            raise ValueError(f"a cluster beyond the {clusters}")
        return self

    @property
    def clusters(self) -> int:
        """K."""
        return len(self.names)

    def settings(self) -> Plan:
        """The plan; `UserError` where this version of Covey does not know one of its options."""
        return Plan.from_json(json.dumps(dict(self.plan)))

    def shown(self, cluster: int) -> str:
        """What a cluster is called: its name, or the first one of those that are said to be the
        same, or "cluster 3"."""
        group = next((each for each in self.same if cluster in each), (cluster,))
        named = next((self.names[each] for each in group if self.names[each]), "")
        return named or f"cluster {min(group)}"

    def to_json(self) -> str:
        """Canonical JSON: equal facts give equal bytes."""
        return json.dumps(json.loads(self.model_dump_json()), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Facts":
        """The inverse; a `UserError` says what does not fit."""
        if len(text) > LONGEST:
            raise UserError(f"{len(text)} characters of facts, at most {LONGEST}")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise UserError(plain(one_line(error))) from None
        except RecursionError:
            raise UserError("facts: nested too deep") from None


def facts_of(record: RunRecord) -> Facts:
    """What the folder of a finished run says of its model. `UserError` where no site has said what
    its images are like, or the plan does not say how many clusters there are."""
    run = record.run
    plan = run.settings()
    site = shaped(run.sites)
    last = record.stages[-1] if record.stages else None
    by_centroids = last is not None and last.by == "centroids"
    sizes = last.cluster_sizes if last is not None and by_centroids else ()
    is_later = last is not None and last.stage >= len(plan.stages)  # clusters that came afterwards
    clusters = len(sizes) if is_later else plan.clusters
    return Facts(
        run=label(run.id, LONGEST_NAME),
        recipe=label(run.recipe, LONGEST_NAME),
        created=label(run.created, LONGEST_NAME),
        covey=covey_version(),
        plan=portable_plan(plan),
        space=plan.stages[-1].embedding,
        preprocessing=preprocessing_of(plan, site.channels, site.side),
        names=names_of(last, run.classes, clusters),
        figures=dict(last.figures) if last is not None else {},
        sizes=sizes if len(sizes) == clusters else (),
        images=sum(each.examples for each in run.sites.values()),
        sites=len(run.sites),
    )


def preprocessing_of(plan: Plan, channels: int | None, side: int | None) -> Preprocessing:
    """How pictures were prepared in a run of `plan`, whose images have these channels and side."""
    given = {"channels": channels, "side": side, "fit": plan.fit, "window": plan.window}
    return Preprocessing.model_validate({**given, "background": plan.background})


def shaped(sites: Mapping[str, SiteFacts]) -> SiteFacts:
    """A site that has said what its images are like, which all others' are, too."""
    for site in sites.values():
        if site.channels and site.side:
            return site
    raise UserError("no site has said of which shape its images are")


def portable_plan(plan: Plan) -> dict[str, Any]:
    """The plan without the place where the images lay: a path is of one machine."""
    known = plan.dataset if plan.dataset in DATASETS else ""
    written = plan.model_copy(update={"dataset": known})
    return written.model_dump(mode="json", by_alias=True)


def names_of(stage: StageEvent | None, classes: Sequence[str], clusters: int) -> tuple[str, ...]:
    """A name for each of K clusters by the last stage's table of counts: the class that most of its
    images have; "" without one. Where a head assigns images, the table counts its clusters and not
    the centroids'."""
    names = [""] * clusters
    table = stage.table if stage is not None and stage.by == "centroids" else None
    if table is None or len(table) != clusters:
        return tuple(names)
    for number, counts in enumerate(table):
        if sum(counts) and len(counts) == len(classes):
            names[number] = classes[max(range(len(counts)), key=counts.__getitem__)]
    return tuple(names)
