"""Every option of a stage: its one name, default, bounds and help (`common/config/options.py`)."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from common.config.earlier import stage_of_today
from common.config.given import Scalar, parse_parameters
from common.config.images import Options
from common.utils.errors import UserError


class Stage(Options):
    """A number of rounds with one objective, or one solver; one aggregation, one centroid rule.

    On the command line an option of a stage takes one value for every stage, or one per stage
    separated by commas (`--rounds 8,4`).
    """

    name: str = Field(description="what the tables call this stage")
    objective: str = Field(
        default="", description="what is trained: a local loss (`common/objectives/`)"
    )
    solver: str = Field(
        default="",
        description="instead of an objective, what is solved from sums over all sites when the "
        "stage begins (`common/solvers/`); such a stage has no rounds",
    )
    rounds: int = Field(
        default=10,
        ge=0,
        le=100_000,
        description="rounds of this stage; 0: no training, only what the stage concludes",
    )
    local_epochs: int = Field(
        default=1, ge=1, le=10_000, description="passes over a site's images in one round"
    )
    local_steps: int = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="steps at a site in one round, however many images it has; 0: whole passes, "
        "`local-epochs` of them",
    )
    synchronous: bool = Field(
        default=False,
        description="each round is one step on a batch of all sites' images: the sites send its "
        "gradient, the server has the optimiser",
    )
    gradients: Literal["float32", "int16", "int8"] = Field(
        default="float32",
        description="how gradients of a synchronous stage are sent, and what its steps change: as "
        "they are, or as whole numbers of so many bits with an exponent for each 64",
    )
    batch_size: int = Field(
        default=128, ge=2, le=65_536, description="images in one step (each is seen in two views)"
    )
    optimiser: Literal["adam", "sgd"] = Field(
        default="adam",
        description="at the sites, or at the server of a synchronous stage: AdamW, or SGD with "
        "momentum",
    )
    learning_rate: float = Field(default=1e-3, gt=0, le=100, description="its step size")
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="of the step size: constant, or down to 0 over the stage"
    )
    momentum: float = Field(default=0.0, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(
        default=1e-5,
        ge=0,
        le=1,
        description="of the parameters: decoupled with adam, added to the gradient with sgd",
    )
    proximal: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="weight of FedProx's pull towards the received parameters",
    )
    merge: Literal["replace", "fedu", "fedema", "fedema-constant"] = Field(
        default="replace", description="how a site takes the global model over (`client/merge.py`)"
    )
    merge_strength: float = Field(
        default=0.7, ge=0, description="the merge rule's own number: a threshold, τ or λ"
    )
    aggregation: Literal[
        "mean",
        "l-dawa",
        "l-dawa-normalised",
        "mgda",
        "orchestra",
        "median",
        "trimmed-mean",
        "norm-clipping",
        "geometric-median",
        "krum",
        "multi-krum",
    ] = Field(
        default="mean",
        description="how the server makes one model of the sites' (`server/aggregation/`); from "
        "median on, rules that withstand Byzantine sites",
    )
    server_optimiser: Literal["none", "momentum", "adam"] = Field(
        default="none", description="what the server does with the mean update: FedAvgM, FedAdam"
    )
    server_learning_rate: float = Field(default=1.0, gt=0, le=100, description="its step size")
    centroids: Literal["k-means", "k-fed", "lloyd", "robust-k-means", "robust-lloyd"] = Field(
        default="k-means",
        description="how a stage's global centroids are made (`server/clustering/rules.py`)",
    )
    contrastive_weight: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="weight of the contrastive regulariser added to a non-contrastive objective",
    )
    clusters_from: Literal["centroids", "head"] = Field(
        default="centroids",
        description="what assigns images to clusters: nearest centroid, or the cluster head",
    )
    embedding: Literal["encoder", "projector"] = Field(
        default="encoder", description="the output that centroids and probes are computed on"
    )
    features: Literal["anew", "kept"] = Field(
        default="anew",
        description="encoder outputs that a solver sums up: anew for each exchange; or kept: made "
        "once, rounded so that sums are exact, with views drawn by image",
    )
    wire: Literal["exact", "half", "compact"] = Field(
        default="exact",
        description="sums over all sites as they travel: exact: float64; half: float64, of what is "
        "symmetric half of it; compact: that half in float32",
    )
    parameters: dict[str, Scalar] = Field(
        default_factory=dict,
        description="the method's own parameters, as 'temperature=0.2 momentum=0.99'",
    )

    @model_validator(mode="before")
    @classmethod
    def _read(cls, given: object) -> object:
        """Parameters may come as text, names as an earlier version had them."""
        if not isinstance(given, Mapping):
            return given
        found = dict(given)
        if isinstance(found.get("parameters"), str):
            found["parameters"] = parse_parameters(found["parameters"])
        found = stage_of_today(found)
        if found.get("solver"):
            found.setdefault("rounds", 0)
        return found

    @model_validator(mode="after")
    def _of_one_method(self) -> "Stage":
        if bool(self.objective) == bool(self.solver):
            has = "both an objective and a solver" if self.solver else "no objective and no solver"
            raise UserError(f"stage {self.name!r} has {has}")
        return self

    def passes(self, images: int) -> int:
        """The most passes over so many images that a site makes in a round."""
        if not self.local_steps:
            return self.local_epochs
        return min(self.local_steps, -(-self.local_steps * self.batch_size // images))

    @property
    def method(self) -> str:
        """The name of what is trained or solved."""
        return self.objective or self.solver
