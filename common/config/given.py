"""A method's own parameters as they are given: on a command line, in a recipe."""

from common.utils.errors import UserError

Scalar = str | int | float | bool


def parse_parameters(text: str) -> dict[str, Scalar]:
    """`"temperature=0.2 symmetric=true"` -> `{"temperature": 0.2, "symmetric": True}`."""
    parameters: dict[str, Scalar] = {}
    for item in text.split():
        key, equals, value = item.partition("=")
        if not key or not equals or not value:
            raise UserError(f"parameters: {item!r} is not of the form name=value")
        parameters[key] = _scalar(value)
    return parameters


def _scalar(text: str) -> Scalar:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
