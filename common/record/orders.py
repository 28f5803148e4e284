"""What a run's folder was made for, as a file in it: `forgetting.json`, `follow-up.json`."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from common.utils.errors import UserError
from common.utils.files import write_atomic

Kind = TypeVar("Kind", bound=BaseModel)


def write_note(path: Path, order: BaseModel) -> None:
    """Write it whole."""
    write_atomic(path, order.model_dump_json(by_alias=True, indent=2).encode())


def read_note(path: Path, kind: type[Kind]) -> Kind | None:
    """Read it; None where there is none, `UserError` where it is damaged."""
    if not path.exists():
        return None
    try:
        return kind.model_validate_json(path.read_bytes())
    except (ValidationError, OSError):
        raise UserError(f"{path} is damaged") from None
