"""What a method of unlearning is: a loss of forgotten and of retained images, at their site.

To add one, write `common/unlearning/<name>.py` with a subclass of `Unlearning`, and name it in
`common/unlearning/__init__.py`: `covey forget --method` knows it by that. The site calls `terms`
for each step with a batch of the images that it takes back and one of those that it keeps, which is
drawn anew for each step (`client/tasks/unlearn.py`).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from common.objectives.base import Objective, Representations
from common.utils.errors import UserError

MOST_EPOCHS, MOST_RETAINED = 100, 32


@dataclass(frozen=True)
class Parameters:
    """`epochs`: the most passes over the images that are forgotten; `retained`: so many steps are
    made with each batch of them, each with another batch of those that are kept."""

    epochs: int = 5
    retained: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.epochs <= MOST_EPOCHS or not 1 <= self.retained <= MOST_RETAINED:
            raise UserError(
                f"epochs {self.epochs} (1 to {MOST_EPOCHS}), retained {self.retained} (1 to "
                f"{MOST_RETAINED})"
            )


class Side(NamedTuple):
    """A batch of N images of one kind: what the networks make of two views of each, and their
    pseudo-labels (N,): clusters of the site's images, made before the pass where the method is
    `by_cluster`, else all 0."""

    seen: Representations
    labels: Tensor


class Unlearning(ABC):
    """A method. `name`: on the command line and in the record; `title`: a line about it;
    `by_cluster`: whether it asks for pseudo-labels."""

    name: ClassVar[str]
    title: ClassVar[str]
    parameters_type: ClassVar[type[Any]] = Parameters
    by_cluster: ClassVar[bool] = False

    def __init__(self, parameters: Any) -> None:
        self.parameters = parameters

    @abstractmethod
    def terms(self, objective: Objective, forgotten: Side, retained: Side) -> dict[str, Tensor]:
        """Name -> weighted scalar; what is minimised is their sum. `objective`: the one that the
        encoder was trained with; what it has to see of `retained` it is shown last."""


def utility(objective: Objective, retained: Side) -> dict[str, Tensor]:
    """The loss that trained the encoder, on images that are kept."""
    return {f"retained {name}": term for name, term in objective.terms(retained.seen).items()}
