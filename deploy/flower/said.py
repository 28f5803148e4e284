"""What a request of the calls for whole messages says, or a refusal."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import HTTPException
from google.protobuf.message import DecodeError
from starlette.requests import Request

from deploy.flower.whole import WAIT

P = TypeVar("P", bound=Any)


def seconds_held(request: Request, most: float) -> float:
    """Seconds for which this question may be held, at most `most`."""
    try:
        wait = float(request.headers.get(WAIT, "0"))
    except ValueError:
        wait = -1.0
    if not wait >= 0:
        raise HTTPException(400, f"{WAIT} is a number of seconds")
    return min(wait, most)


def parse(kind: Callable[[], P], body: bytes) -> P:
    """The message of this kind that a body is."""
    message = kind()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise HTTPException(400, f"not a {type(message).__name__}") from None
    return message
