"""The benchmark of all methods: a tiny matrix of it, and how rounds are shared."""

import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.config import recipes
from common.record.reader import read_run
from common.utils.errors import UserError
from tests.benchmarks.scripts import script

TINY = {
    "recipes": "fedsimclr,standalone",
    "datasets": "digits",
    "images": 120,
    "sites": 2,
    "partitions": "iid",
    "seeds": "0",
    "rounds": 1,
    "batch_size": 64,
    "held_out": 50,
}
COLUMNS = (
    "recipe,dataset,images,partition,sites,participation,seed,rounds,local_steps,encoder,"
    "acc,nmi,ari,knn,linear,bytes,seconds,purity,pooled_acc,pooled_nmi,std,test_acc,test_nmi,commit"
)


methods, run = script("methods"), script("_methods_run")


def call(folder: Path, **options) -> None:
    methods.main(**{**TINY, **options}, runs=folder / "runs", csv=folder / "methods.csv")


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "methods.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def matrix(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("matrix")
    call(folder)
    return folder


def test_a_matrix_leaves_a_row_for_each_run(matrix: Path) -> None:
    assert (matrix / "methods.csv").read_text().splitlines()[0] == COLUMNS
    rows = {row["recipe"]: row for row in read(matrix)}
    assert set(rows) == {"fedsimclr", "standalone"}
    for row in rows.values():
        assert (row["images"], row["sites"], row["rounds"]) == ("120", "2", "1")
        assert row["local_steps"] == "1"  # 48 training images of a site in batches of 64
        for score in ("acc", "nmi", "ari", "purity", "knn", "linear", "pooled_acc", "pooled_nmi"):
            assert -1 <= float(row[score]) <= 1
        assert int(row["bytes"]) > 0 and float(row["seconds"]) > 0 and float(row["std"]) > 0


def test_the_figures_are_those_of_the_runs_own_record(matrix: Path) -> None:
    (row,) = (row for row in read(matrix) if row["recipe"] == "fedsimclr")
    (folder,) = (matrix / "runs").glob("fedsimclr-*")
    record = read_run(folder)
    (trained,), (stage,) = record.rounds, record.stages
    assert float(row["nmi"]) == round(stage.figures["nmi"], 6)
    assert int(row["bytes"]) == sum(e.bytes_down + e.bytes_up for e in (trained, stage))
    assert float(row["seconds"]) == pytest.approx(2 * trained.seconds["train"], abs=1e-6)


def test_a_site_alone_is_judged_on_everybodys_images(matrix: Path) -> None:
    (row,) = (row for row in read(matrix) if row["recipe"] == "standalone")
    assert (row["acc"], row["nmi"]) == (row["pooled_acc"], row["pooled_nmi"])
    plan = cell("standalone", seed=1).plan
    assert plan.alone == 2 and plan.recipe == "fedsimclr"


def test_a_second_call_runs_nothing(matrix: Path, monkeypatch) -> None:
    before = (matrix / "methods.csv").read_bytes()

    def unexpected(*_arguments) -> None:
        raise AssertionError("a finished run was run again")

    monkeypatch.setattr(run, "simulate", unexpected)
    call(matrix)
    assert (matrix / "methods.csv").read_bytes() == before


def test_what_has_a_row_is_not_run_again_though_its_folder_is_gone(tmp_path: Path) -> None:
    call(tmp_path, recipes="pixels")
    (row,) = read(tmp_path)
    shutil.rmtree(tmp_path / "runs")
    call(tmp_path, recipes="pixels")
    assert not (tmp_path / "runs").exists()
    call(tmp_path, recipes="pixels", anew=True)
    assert len(list((tmp_path / "runs").glob("pixels-*"))) == 1
    assert [r["nmi"] for r in read(tmp_path)] == [row["nmi"]]


def test_a_finished_run_keeps_its_figures_and_not_its_states(matrix: Path) -> None:
    for folder in (matrix / "runs").glob("*-digits-*"):
        names = {path.name for path in folder.iterdir()}
        assert {"figures.json", "metrics.jsonl", "run.json", "encoder.safetensors"} <= names
        assert not names & set(run.NOT_NEEDED)


def test_the_page_shows_every_recipe_and_stands_alone(matrix: Path) -> None:
    text = (matrix / "methods.html").read_text()
    for name in ("fedsimclr", "standalone"):
        assert f'<th scope="row">{name}</th>' in text
    assert "<script" not in text and "http://" not in text and "https://" not in text
    assert text.count("<svg") == 2  # NMI against bytes, and against seconds
    for part in (
        "python benchmarks/methods.py --datasets digits",
        "--images 120",
        "--local-epochs 1",
    ):
        assert f"<span>{part}</span>" in text
    assert "CPU cores" in text


def test_a_run_that_fails_is_one_line_and_the_others_go_on(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    original = run.simulate

    def failing(plan, folder):
        if plan.alone:
            raise UserError("no power\nat all")
        original(plan, folder)

    monkeypatch.setattr(run, "simulate", failing)
    with pytest.raises(methods.typer.Exit) as exit_:
        call(tmp_path, recipes="standalone,pixels")
    assert exit_.value.exit_code == 1
    assert "standalone digits iid seed 0: FAILED: UserError: no power\n" in capsys.readouterr().out
    assert [row["recipe"] for row in read(tmp_path)] == ["pixels"]


def test_a_child_process_that_dies_is_one_line(tmp_path: Path, monkeypatch) -> None:
    dying = [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]
    original = subprocess.Popen
    monkeypatch.setattr(methods.subprocess, "Popen", lambda _, **how: original(dying, **how))
    ((_, reason),) = methods.results([cell("fedbyol")], tmp_path, jobs=2, threads=1)
    assert reason == "the process ended with -9"


def test_an_interrupted_matrix_ends_its_processes(tmp_path: Path, monkeypatch) -> None:
    waiting = [sys.executable, "-c", "import time; time.sleep(60)"]
    started, original = [], subprocess.Popen

    def start(_, **how):
        started.append(original(waiting, **how))
        return started[-1]

    def interrupted(_):
        while len(started) < 2:
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(methods.subprocess, "Popen", start)
    monkeypatch.setattr(methods, "as_completed", interrupted)
    cells = [cell("fedbyol", seed=seed) for seed in range(5)]
    with pytest.raises(KeyboardInterrupt):
        list(methods.results(cells, tmp_path, jobs=2, threads=1))
    assert [process.wait(5) for process in started] == [-15, -15]


def test_the_options_of_a_child_process_are_its_cell(monkeypatch) -> None:
    cells = []
    monkeypatch.setattr(methods, "results", lambda given, *_: cells.extend(given) or iter(()))
    app = methods.typer.Typer()
    app.command()(methods.main)
    one = cell("fedbyol", seed=3)
    app([*one.options(), "--no-tables"], standalone_mode=False)
    assert cells == [one]


def cell(name: str, seed: int = 0, rounds: int = 3, partition: str = "iid"):
    scale = run.Scale(120, 3, rounds, 2, 64, "small-convnet", 1.0, 50)
    return run.Cell.of(scale, name, "digits", partition, seed)


@pytest.mark.parametrize(
    ("own", "rounds", "shares"),
    [
        ([12], 5, [5]),
        ([8, 4], 12, [8, 4]),
        ([8, 4], 15, [10, 5]),
        ([8, 4], 1, [1, 0]),
        ([8, 4], 2, [1, 1]),
        ([12, 0], 7, [7, 0]),
        ([0], 7, [0]),
        ([10, 1, 1], 3, [1, 1, 1]),
        ([10, 1, 1], 6, [4, 1, 1]),
        ([1, 1, 1], 5, [2, 2, 1]),
    ],
)
def test_stages_share_the_rounds_in_proportion(own, rounds, shares) -> None:
    assert run.share_rounds(own, rounds) == shares


@pytest.mark.parametrize("name", [n for n in methods.RECIPES if methods.is_there(n)])
def test_every_recipe_has_equal_rounds_epochs_batches_and_encoder(name: str) -> None:
    one = cell(name, rounds=12)
    plan, setting = one.plan, one.setting
    if name == "covey-sync":  # 120 images, 3 sites: a pass of one's own is a step of all
        assert (plan.rounds, plan.stages[1].batch_size, setting["rounds"]) == (24, 192, 12)
        return
    assert plan.rounds == (0 if name in ("pixels", "covey-exact") else 12)  # they train nothing
    assert setting["rounds"] == plan.rounds
    assert {(s.local_epochs, s.batch_size) for s in plan.stages} == {(2, 64)}
    own = {"pixels": "pixels", "covey-exact": "noise-filters"}
    assert plan.encoder == own.get(name, "small-convnet")


def test_steps_of_all_sites_need_a_number_of_images() -> None:
    scale = run.Scale(0, 3, 12, 2, 64, "small-convnet", 1.0, 50)
    with pytest.raises(UserError, match="covey-sync: --images says how many"):
        _ = run.Cell.of(scale, "covey-sync", "digits", "iid", 0).plan


def test_every_recipe_of_the_project_is_in_the_list() -> None:
    listed = {run.Cell.recipe_of(name) for name in methods.RECIPES} | set(methods.RECIPES)
    own_scale = [name for name in recipes.names() if name.startswith(recipes.PUBLISHED)]
    files = {"covey-pretrained"}  # it is for weights from a file: benchmarks/pretrained.py
    assert set(recipes.names()) - set(own_scale) - files <= listed


def test_two_settings_never_share_a_folder() -> None:
    cells = [
        cell("fedbyol"),
        cell("fedbyol", seed=1),
        cell("fedbyol", rounds=4),
        cell("fedbyol", partition="p-skew(0.5)"),
        cell("fedsimclr"),
        cell("centralised"),
        cell("standalone"),
    ]
    assert len({one.folder(Path()) for one in cells}) == len(cells)
    assert cell("centralised", partition="p-skew(0.5)") == cell("centralised")


def test_an_unknown_recipe_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fedsimclrr"):
        call(tmp_path, recipes="fedsimclrr")
