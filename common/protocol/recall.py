"""What the exchange `recall` is about, as its message has it (JSON)."""

import json
from dataclasses import asdict, dataclass

from common.utils.errors import UserError

MOST_MODELS = 32
LEAST_MODELS = 4
ORIGINAL, FORGOTTEN, REFERENCE = 1, 2, 3
"""The numbers of the models, in the order in which they are sent: the run that images were taken
back from, the one in its place, and from here on those that never had them."""


@dataclass(frozen=True)
class Recall:
    """Images that were taken back `of` that run are looked for in so many `models`."""

    of: str
    models: int

    def __post_init__(self) -> None:
        if not LEAST_MODELS <= self.models <= MOST_MODELS:
            raise UserError(f"{self.models} models instead of {LEAST_MODELS} to {MOST_MODELS}")

    def to_text(self) -> str:
        """As a message has it."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> "Recall":
        """The inverse; `UserError` for anything else."""
        try:
            told = json.loads(text)
            of, models = told["of"], told["models"]
        except (ValueError, KeyError, TypeError):
            raise UserError("the message does not say what is to be looked for") from None
        if not isinstance(of, str) or type(models) is not int:
            raise UserError("the message does not say what is to be looked for")
        return cls(of, models)
