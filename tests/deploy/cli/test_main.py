"""The `covey` command: one name per option, one line per mistake, tables and JSON."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.config.options import RUN_OPTIONS, STAGE_OPTIONS
from tests.deploy.helpers import covey

TINY = [
    *("--images", "120", "--sites", "2", "--rounds", "1"),
    *("--local-epochs", "1", "--batch-size", "32"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished simulation, with its JSON beside it."""
    folder = tmp_path_factory.mktemp("cli") / "a run"
    command = [sys.executable, "-m", "deploy.cli.main", "simulate", "fedsimclr", *TINY]
    command += ["--run-folder", str(folder), "--json", str(folder.parent / "run.json")]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**_environment(), "COLUMNS": "80"}
    )
    (folder.parent / "output.txt").write_text(done.stdout)
    assert done.stderr == ""
    return folder


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}


def test_a_simulation_ends_in_a_table_a_report_and_json(run: Path) -> None:
    output = (run.parent / "output.txt").read_text()
    assert "representation" in output and "NMI" in output and "report.html" in output
    assert (run / "report.html").exists() and (run / "map.json").exists()
    (stage,) = json.loads((run.parent / "run.json").read_text())["stages"]
    assert 0 <= stage["nmi"] <= 1 and stage["bytes_up_per_round"] > 0


def test_no_line_of_output_is_wider_than_a_terminal(run: Path) -> None:
    lines = (run.parent / "output.txt").read_text().splitlines()
    assert all(len(line) <= 80 for line in lines if "report" not in line)
    assert not any(line.strip() in ("MB", "kB") for line in lines)  # wrapped


def test_evaluate_prints_the_figures_of_the_pooled_data(run: Path, capsys, tmp_path: Path) -> None:
    code, out, _ = covey(capsys, "evaluate", str(run), "--json", str(tmp_path / "e.json"))
    figures = json.loads((tmp_path / "e.json").read_text())
    assert code == 0 and "k-means, pooled" in out
    assert figures["images"] + figures["held_out"] == 120
    assert all(0 <= figures[key] <= 1 for key in ("knn", "linear"))
    assert figures["kmeans"]["nmi"] > 0


def test_report_writes_the_report_anew(run: Path, capsys) -> None:
    (run / "report.html").unlink()
    code, out, _ = covey(capsys, "report", str(run))
    assert code == 0 and (run / "report.html").exists() and "report.html" in out


@pytest.mark.parametrize("command", ["run", "simulate"])
def test_every_run_option_has_its_one_name_on_the_command_line(command: str, capsys) -> None:
    _, out, _ = covey(capsys, command, "--help")
    for name in (*RUN_OPTIONS, *STAGE_OPTIONS):
        assert f"--{name}" in out, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "fedsimcrl"], "unknown recipe 'fedsimcrl': did you mean 'fedsimclr'?"),
        (["simulate", "--round", "3"], "--rounds"),
        (["simulate", "--dataset", "fashionmnist"], "did you mean 'fashion-mnist'?"),
        (["simulate", "--sites", "0"], "sites: input should be greater than or equal to 1"),
        (["simulate", "--encoder", "resnet19"], "did you mean 'resnet18'?"),
        (["simulate", "--partition", "dirichelt(0.1)"], "did you mean 'dirichlet'?"),
        (["simulate", "--views", "digit"], "did you mean 'digits'?"),
        (["simulate", "--engine", "rai"], "did you mean 'ray'?"),
        (["simulate", "covey", "--rounds", "1,2"], "2 values for the recipe's 3 stages"),
        (["simulate", "--rounds", "1,2"], "2 values for the recipe's one stage"),
        (["simulate", "--rounds", "3"], "is solved, not trained: rounds must be 0, not 3"),
        (["simulate", "--device", "abacus"], "device 'abacus'"),
        (["run", "--resume", "/nowhere"], "/nowhere holds no run"),
        (["evaluate", "/nowhere"], "/nowhere holds no run"),
        (["audit-forgetting", "/nowhere", "/here"], "/nowhere holds no run"),
        (["report", "/nowhere"], "/nowhere holds no run"),
        (["simulate", "--dataset", "./nothing"], "nothing"),
        (["rnu"], "run"),
    ],
)
def test_a_mistake_is_one_line_with_exit_code_2(arguments, message, capsys, tmp_path) -> None:
    if arguments[0] in ("simulate", "run") and "--resume" not in arguments:
        arguments = [*arguments, "--run-folder", str(tmp_path / "run")]
    code, _, err = covey(capsys, *arguments)
    assert code == 2, err
    assert err.startswith("covey: ") and err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "run").exists()  # nothing is left of a run that never began


def test_an_unfinished_run_is_not_evaluated(run: Path, capsys, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    (half / "run.json").write_text((run / "run.json").read_text())
    code, _, err = covey(capsys, "evaluate", str(half))
    assert code == 2 and "has not finished" in err


def test_a_folder_that_holds_a_run_is_not_overwritten(run: Path, capsys) -> None:
    code, _, err = covey(capsys, "simulate", "--run-folder", str(run))
    assert code == 2 and "--resume" in err


@pytest.mark.parametrize("what", ["recipes", "datasets"])
def test_lists_are_tables_and_json(what: str, capsys, tmp_path: Path) -> None:
    every = ["--all"] if what == "recipes" else []
    code, out, _ = covey(capsys, what, *every, "--json", str(tmp_path / "list.json"))
    rows = json.loads((tmp_path / "list.json").read_text())
    assert code == 0 and len(rows) >= 3
    assert all(row["name"] in out for row in rows)


def test_json_on_standard_output_has_nothing_else_beside_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.cli.main", "simulate", "fedsimclr", *TINY]
    command += ["--run-folder", str(tmp_path / "run"), "--json", "-"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=_environment())
    assert [row["stage"] for row in json.loads(done.stdout)["stages"]] == ["representation"]
    assert "1/1 representation" in done.stderr and "report: " in done.stderr


def test_runs_on_this_machine_are_listed_with_their_whole_names(
    run: Path, capsys, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "20261128-084001-fedsimclr-projection-with-a-name-that-is-longer-than-a-terminal-is"
    (tmp_path / "runs").mkdir()
    shutil.copytree(run, tmp_path / "runs" / name)
    (tmp_path / "runs" / "no run").mkdir()
    code, out, _ = covey(capsys, "runs", "--json", str(tmp_path / "runs.json"))
    assert code == 0 and name in out and "no run" not in out
    (line,) = json.loads((tmp_path / "runs.json").read_text())
    assert (line["id"], line["status"], line["rounds"], line["planned"]) == (name, "finished", 1, 1)


def test_where_there_is_nothing_yet_a_line_says_how_to_begin(
    capsys, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = covey(capsys, "runs")
    assert code == 0 and out.startswith("there is no run: covey run, covey simulate")
    code, _, err = covey(capsys, "client", "status")
    assert code == 2 and "no site's folder is here: name it, or join first" in err
    code, _, err = covey(capsys, "stop", "x")
    assert code == 2 and "is no server's folder: name another, or make one with" in err
    covey(capsys, "server", "init", "served", "--address", "localhost:8443")
    code, out, _ = covey(capsys, "server", "sites", "served")
    assert code == 0 and "nobody is invited yet: covey server invite DIR NAME" in out
    code, _, err = covey(capsys, "stop", "x", "--server", "served")
    assert code == 2 and err == "covey: unknown run 'x': known: none\n"


def test_what_is_missing_is_told_with_the_command_that_explains_it(capsys) -> None:
    code, _, err = covey(capsys, "server", "init")
    assert code == 2 and err == "covey: Missing argument 'DIR'. (see covey server init -h)\n"
