"""`-h` of every command: each argument and option has its text, and its default; what a shell
offers after Tab."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from common.augmentations import PRESETS
from common.config import recipes
from common.config.options import ENCODERS, RUN_OPTIONS, STAGE_OPTIONS, VIEWS
from common.data import DATASETS
from common.data.partition import parse
from common.data.splits import SPLITS
from common.models import encoders
from deploy.cli.completion import PARTITIONS
from deploy.cli.main import app
from deploy.coordinator.options import NOT_OF_SUBMIT
from tests.deploy.helpers import covey

ROOT = Path(__file__).parents[3]
OF_TYPER = ("install_completion", "show_completion", "help")
UNSAID = (None, False, (), "", 0, 0.0)  # defaults that a text need not say


def commands() -> Iterator[tuple[str, click.Command]]:
    """(what is typed, command) of every command and group."""

    def below(
        command: click.Command, words: tuple[str, ...]
    ) -> Iterator[tuple[str, click.Command]]:
        yield " ".join(words), command
        for name, each in getattr(command, "commands", {}).items():
            yield from below(each, (*words, name))

    yield from below(typer.main.get_command(app), ())


COMMANDS = dict(commands())


@pytest.mark.parametrize("words", COMMANDS)
def test_on_a_narrow_terminal_no_name_of_an_option_is_cut(words: str) -> None:
    found = CliRunner().invoke(app, [*words.split(), "-h"], env={"COLUMNS": "60"})
    assert found.exit_code == 0
    assert "…" not in found.output and "\\[" not in found.output
    assert max(map(len, found.output.splitlines())) <= 80
    for parameter in COMMANDS[words].params:
        if not getattr(parameter, "hidden", False):
            shown = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.name
            assert shown in found.output.lower()


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_answers_h_with_a_text_for_each_argument_and_option(words, capsys) -> None:
    code, out, err = covey(capsys, *words.split(), "-h")
    assert (code, err) == (0, "")
    assert f"Usage: covey {words}".strip() in out
    assert "…" not in out and "python" not in out
    for parameter in COMMANDS[words].params:
        if not getattr(parameter, "hidden", False):
            assert getattr(parameter, "help", None), parameter.name
    said = " ".join(out.replace("│", " ").split())
    for parameter in COMMANDS[words].params:
        given = parameter.default not in UNSAID and not callable(parameter.default)
        if given and parameter.name not in OF_TYPER and not getattr(parameter, "hidden", False):
            assert f"[default: {parameter.default}]" in said, parameter.name


@pytest.mark.parametrize("words", ["run", "simulate", "submit"])
def test_run_options_say_their_defaults_and_submit_offers_what_it_takes(words, capsys) -> None:
    _, out, _ = covey(capsys, words, "-h")
    said = " ".join(out.replace("│", " ").split())
    offered = {name for name in (*RUN_OPTIONS, *STAGE_OPTIONS) if f"--{name} " in said}
    hidden = set(NOT_OF_SUBMIT) if words == "submit" else set()
    assert offered == {*RUN_OPTIONS, *STAGE_OPTIONS} - hidden
    assert "[default: convnet]" in said and "[default: 0.001]" in said
    number = "those that are online" if words == "submit" else "4"
    assert f"[default: {number}]" in said


@pytest.mark.parametrize("name", NOT_OF_SUBMIT)
def test_what_submit_does_not_take_it_says_why(name: str, capsys, tmp_path: Path) -> None:
    code, _, err = covey(capsys, "submit", "--server", str(tmp_path), f"--{name}", "1")
    assert code == 2 and err.startswith(f"covey: --{name} is not an option of submit: ")


def test_the_version_is_one_line(capsys) -> None:
    code, out, _ = covey(capsys, "--version")
    assert code == 0 and out.startswith("covey ") and out.count("\n") == 1


def completed(folder: Path, *words: str, shell: str = "bash") -> list[str]:
    """What a shell offers for the last word; asserts that no torch was imported for it."""
    variables = {
        "_COVEY_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": " ".join(("covey", *words)),
        "COMP_CWORD": str(len(words)),
        "_TYPER_COMPLETE_ARGS": " ".join(("covey", *words)),
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "PYTHONPATH": str(ROOT),
    }
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: print([m for m in ('torch', 'sklearn', 'flwr', 'scipy')"
        " if m in sys.modules], file=sys.stderr))\n"
        "from deploy.cli.main import main\nmain()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "[]\n"
    return done.stdout.split()


def test_a_shell_offers_recipes_data_sets_encoders_partitions_and_runs(tmp_path: Path) -> None:
    for name in ("20260102-covey", "20260101-fedbyol"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text(json.dumps({}))
    (tmp_path / "runs" / "no run").mkdir()
    fed = [name for name in recipes.names() if name.startswith("fedsim")]
    assert completed(tmp_path, "simulate", "fedsim") == fed and len(fed) >= 3
    assert completed(tmp_path, "run", "--dataset", "cifar") == ["cifar10", "cifar100"]
    assert completed(tmp_path, "submit", "--encoder", "res") == ["resnet18", "resnet34", "resnet50"]
    assert completed(tmp_path, "run", "--partition", "dir") == ["dirichlet\\(0.1\\)"]
    assert completed(tmp_path, "run", "--partition", "dir", shell="fish") == ["dirichlet(0.1)"]
    assert completed(tmp_path, "run", "--optimiser", "") == ["adam", "sgd"]
    found = [f"runs/{name}" for name in ("20260102-covey", "20260101-fedbyol")]
    assert completed(tmp_path, "evaluate", "") == found
    assert completed(tmp_path, "run", "--resume", "runs/20260101") == found[1:]
    assert completed(tmp_path, "stop", "2026") == ["20260102-covey", "20260101-fedbyol"]
    assert "--dataset" not in completed(tmp_path, "submit", "--")


def test_what_is_offered_is_what_there_is() -> None:
    assert set(ENCODERS) == set(encoders.ENCODERS)
    assert set(VIEWS) == {"auto", *PRESETS}
    assert {parse(spec).name for spec in PARTITIONS} == set(SPLITS)
    assert "digits" in DATASETS
