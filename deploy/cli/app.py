"""What all commands have in common: `-h`, and a text for every argument.

click from 8.4 on has a help of its own for arguments and sets it to none after typer has set it, so
that `covey run -h` would not say what RECIPE is: it is taken from the command's signature again.
"""

import inspect
import shutil
from collections.abc import Callable
from typing import Any

import click
import typer
from rich.markup import escape
from typer.core import TyperArgument, TyperCommand, TyperGroup
from typer.models import ArgumentInfo

NARROW = 80  # columns below which a frame's columns would cut the names of options
LONGEST = 1000  # characters of a command's one-line help: all of it
HELP = ("-h", "--help")


class Group(TyperGroup):
    """A group of commands whose help is never cut."""

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """In frames, or as plain lines on a terminal too narrow for them."""
        if _is_narrow():
            _write_plain(self, ctx, formatter)
        else:
            super().format_help(ctx, formatter)


class Command(TyperCommand):
    """A command whose arguments have their help, which is never cut."""

    def __init__(self, name: str | None, **attributes: Any) -> None:
        super().__init__(name, **attributes)
        written = inspect.unwrap(self.callback) if self.callback else None
        for parameter in self.params:
            if written and isinstance(parameter, TyperArgument) and not parameter.help:
                parameter.help = _help_of(written, parameter.name or "")

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """In frames, or as plain lines on a terminal too narrow for them."""
        if _is_narrow():
            _write_plain(self, ctx, formatter)
        else:
            super().format_help(ctx, formatter)


class App(typer.Typer):
    """A group of commands."""

    def __init__(self, about: str, name: str | None = None) -> None:
        super().__init__(
            name=name,
            cls=Group,
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


def _is_narrow() -> bool:
    return shutil.get_terminal_size().columns < NARROW


def _write_plain(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """The help as definitions, whose names stand on lines of their own where they are long."""
    command.format_usage(ctx, formatter)
    command.format_help_text(ctx, formatter)
    sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record:
            kind = "Options" if isinstance(parameter, click.Option) else "Arguments"
            sections[kind].append((record[0], record[1].replace("\\[", "[")))
    if isinstance(command, click.Group):
        below = [(name, command.commands[name]) for name in command.list_commands(ctx)]
        sections["Commands"] = [(name, each.get_short_help_str(LONGEST)) for name, each in below]
    for title, rows in sections.items():
        if rows:
            with formatter.section(title):
                formatter.write_dl(rows)


def _help_of(function: Callable[..., Any], name: str) -> str | None:
    parameter = inspect.signature(function, eval_str=True).parameters.get(name)
    facts = getattr(parameter.annotation, "__metadata__", ()) if parameter else ()
    return next((fact.help for fact in facts if isinstance(fact, ArgumentInfo)), None)
