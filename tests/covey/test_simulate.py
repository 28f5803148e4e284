"""`covey.simulate` and `covey.runs`: the command's engine and record, as Python has them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import covey
from common.config import recipes
from common.data import load
from common.record.reader import read_run
from common.utils.lock import locked
from deploy.engines import simulate as engine
from server.run.folder import LOCK
from tests.covey.conftest import SMALL

TINY = {**SMALL, "images": 120, "encoder": "small-convnet"}


def test_it_is_the_commands_simulation_to_the_bit(labelled: covey.Run, tmp_path: Path) -> None:
    given = {"sites": "2", "rounds": "1", "local-epochs": "1", "batch-size": "32", "device": "cpu"}
    given |= {"encoder": "small-convnet", "images": "240"}
    engine.simulate(recipes.load("fedsimclr").plan(given), tmp_path)
    for name in ("encoder.safetensors", "centroids.safetensors"):
        assert (tmp_path / name).read_bytes() == (labelled.folder / name).read_bytes()


def test_a_run_has_its_figures_rounds_and_stages_as_the_record_has_them(labelled) -> None:
    record = read_run(labelled.folder)
    (stage,), (round_,) = labelled.stages, labelled.rounds
    assert labelled.status == "finished" and labelled.recipe == "fedsimclr"
    assert labelled.figures == record.stages[0].figures and 0 < labelled.figures["nmi"] < 1
    assert (stage.name, stage.rounds, stage.by) == ("representation", 1, "centroids")
    assert stage.sizes == tuple(stage.table.sum(axis=1)) and sum(stage.sizes) == 240
    assert (round_.number, round_.stage) == (1, "representation")
    assert round_.loss["loss"] == record.rounds[0].loss["loss"]
    assert round_.seconds > 0 and round_.bytes_up == record.rounds[0].bytes_up > 0
    assert round_.answered == ("site-0", "site-1")
    assert labelled.sites.keys() == {"site-0", "site-1"} and sum(labelled.sites.values()) == 240
    assert labelled.options["encoder"] == "small-convnet"
    assert labelled.options["stages"][0]["local-epochs"] == 1
    assert labelled.report.exists() and (labelled.folder / "map.json").exists()


def test_images_and_labels_in_memory_are_kept_with_the_run(tmp_path: Path, capfd) -> None:
    digits = load("digits")
    images, labels = digits.images[:120, 0], digits.labels[:120]
    options = {**SMALL, "encoder": "small-convnet", "parameters": {"temperature": 0.25}}
    run = covey.simulate("fedsimclr", (images, labels), folder=tmp_path / "run", **options)
    assert capfd.readouterr() == ("", "")  # it is a library
    assert run.options["stages"][0]["parameters"]["temperature"] == 0.25
    assert run.classes == tuple("0123456789") and sum(run.sites.values()) == 120
    again = covey.simulate(
        "fedsimclr", tmp_path / "run" / "data.npz", folder=tmp_path / "again", **options
    )
    assert again.figures == run.figures
    plain = covey.simulate(
        "fedkmeans-pixels", images, folder=tmp_path / "plain", sites=2, partition="iid"
    )
    assert plain.classes == () and "agreement" in plain.figures


def test_progress_is_said_where_it_is_asked_for(tmp_path: Path, capfd) -> None:
    covey.simulate("fedsimclr", folder=tmp_path / "run", progress=True, **TINY)
    out, err = capfd.readouterr()
    assert out == ""
    assert "1/1 representation" in err and "end of representation" in err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipe": "fedsimcrl"}, "unknown recipe 'fedsimcrl': did you mean 'fedsimclr'?"),
        ({"round": 3}, "unknown option 'round': did you mean 'rounds'?"),
        ({"sites": 0}, "sites: input should be greater than or equal to 1"),
        ({"rounds": [1, 2]}, "rounds: 2 values for the recipe's one stage"),
        ({"data": "digit"}, "unknown data set 'digit': did you mean 'digits'?"),
        ({"data": np.zeros((4, 8, 9), np.uint8)}, "data has shape (4, 8, 9); expected square"),
        ({"data": "digits", "dataset": "digits"}, "give one of them"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(given, message: str, tmp_path: Path) -> None:
    with pytest.raises(covey.Error) as told:
        covey.simulate(**{"recipe": "fedsimclr", "folder": tmp_path / "run", **given})
    assert message in str(told.value) and "\n" not in str(told.value)
    assert not (tmp_path / "run").exists()


def test_runs_are_listed_oldest_first_with_how_they_are(labelled, tmp_path: Path) -> None:
    with pytest.raises(covey.Error, match="there is no folder"):
        covey.runs(tmp_path / "runs")
    text = (labelled.folder / "run.json").read_text()
    created = labelled.created
    for name, day in (("a", "2031"), ("b", "2030")):
        (tmp_path / name).mkdir()
        again = text.replace(created, day + created[4:]).replace('"finished"', '"running"')
        (tmp_path / name / "run.json").write_text(again)
    (tmp_path / "no run").mkdir()
    shutil.copytree(labelled.folder, tmp_path / "c")
    with locked(tmp_path / "a" / LOCK):
        found = covey.runs(tmp_path)
    assert [(run.name, run.status) for run in found] == [
        *[("c", "finished"), ("b", "stopped"), ("a", "running")]
    ]
    assert found[0].figures == labelled.figures and found[1].figures == {}
    with pytest.raises(covey.Error, match="holds a run already"):
        covey.simulate(folder=tmp_path / "b")
