"""What all commands have in common: `-h`, and a text for every argument.

click from 8.4 on has a help of its own for arguments and sets it to none after typer has set it, so
that `covey run -h` would not say what RECIPE is: it is taken from the command's signature again.
"""

import inspect
from collections.abc import Callable
from typing import Any

import typer
from rich.markup import escape
from typer.core import TyperArgument, TyperCommand
from typer.models import ArgumentInfo

HELP = ("-h", "--help")


class Command(TyperCommand):
    """A command whose arguments have their help."""

    def __init__(self, name: str | None, **attributes: Any) -> None:
        super().__init__(name, **attributes)
        written = inspect.unwrap(self.callback) if self.callback else None
        for parameter in self.params:
            if written and isinstance(parameter, TyperArgument) and not parameter.help:
                parameter.help = _help_of(written, parameter.name or "")


class App(typer.Typer):
    """A group of commands."""

    def __init__(self, about: str, name: str | None = None) -> None:
        super().__init__(
            name=name,
            help=about,
            no_args_is_help=True,
            pretty_exceptions_enable=False,
            rich_markup_mode="rich",
            context_settings={"help_option_names": list(HELP)},
        )

    def command(  # type: ignore[override]
        self, name: str | None = None, **attributes: Any
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """As typer's, of our class of commands."""
        return super().command(name, cls=Command, **attributes)


def about(text: str, default: str = "") -> str:
    """A help text with the default that no value shows; as it is, not as markup."""
    return escape(f"{text} [default: {default}]" if default else text)


def _help_of(function: Callable[..., Any], name: str) -> str | None:
    parameter = inspect.signature(function, eval_str=True).parameters.get(name)
    facts = getattr(parameter.annotation, "__metadata__", ()) if parameter else ()
    return next((fact.help for fact in facts if isinstance(fact, ArgumentInfo)), None)
