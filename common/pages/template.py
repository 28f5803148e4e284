"""A page from a template: every text in it is escaped."""

from collections.abc import Mapping
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup


def fill(page: str, style: str, context: Mapping[str, Any]) -> str:
    """A template of ours with its style and its context, every text of which is escaped."""
    environment = Environment(
        loader=DictLoader({"page": page}),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    own = Markup(style)  # noqa: S704 (a constant of ours)
    return environment.get_template("page").render(style=own, **context)
