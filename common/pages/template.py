"""A page from a template: every text in it is escaped."""

from collections.abc import Mapping
from typing import Any

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'
{%- if pictures is defined and pictures %}; img-src data:{% endif %}">
<title>{{ page_title }}</title>
<style>
{{ style }}
</style>
</head>
"""
"""What every page begins with that loads nothing and runs nothing: a template sets `page_title` and
includes `head`. With `pictures` it may show those that it holds itself."""


def fill(page: str, style: str, context: Mapping[str, Any]) -> str:
    """A template of ours with its style and its context, every text of which is escaped."""
    environment = Environment(
        loader=DictLoader({"page": page, "head": HEAD}),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    own = Markup(style)  # noqa: S704 (a constant of ours)
    return environment.get_template("page").render(style=own, **context)
