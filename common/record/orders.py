"""What a run's folder was made for, as a file in it: `forgetting.json`, `follow-up.json`."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from common.utils.errors import UserError
from common.utils.files import write_atomic

Kind = TypeVar("Kind", bound=BaseModel)


def writer_of(order: BaseModel) -> Callable[[Path], None]:
    """What writes it, whole, to a path."""
    note = order.model_dump_json(by_alias=True, indent=2).encode()
    return lambda path: write_atomic(path, note)


def read_note(path: Path, kind: type[Kind]) -> Kind | None:
    """Read it; None where there is none, `UserError` where it is damaged."""
    if not path.exists():
        return None
    try:
        return kind.model_validate_json(path.read_bytes())
    except (ValidationError, OSError):
        raise UserError(f"{path} is damaged") from None
