"""At its end a run hands the model to its sites: they keep it, use it, and name its clusters."""

import csv
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import covey
from client.gallery import behind
from client.tasks import TASKS
from common.config import recipes
from common.data import load
from common.data.partition import Partition
from common.learned.file import read_learned
from common.record.follow_up import FollowUp
from common.record.reader import read_run
from common.utils.errors import UserError
from deploy.engines import simulate as simulation
from deploy.engines.in_process import sites_of
from deploy.engines.simulate import simulate
from deploy.questions.following import follow_here, plan_following
from deploy.using.naming import Said, say
from server import app
from server.run.folder import RunFolder
from tests.deploy.helpers import until

OPTIONS = {
    "dataset": "digits", "images": 160, "sites": 2, "rounds": 1, "local-epochs": 1,
    "batch-size": 32, "encoder": "small-convnet", "device": "cpu",
}  # fmt: skip
SITES = ("site-0", "site-1")


@pytest.fixture(autouse=True)
def over_a_network(monkeypatch) -> None:
    """The sites of the simulation are treated as those of other machines."""
    monkeypatch.setattr(app, "SIMULATED", ())
    monkeypatch.setattr(behind, "PAUSE", 0.0)


def ran(folder: Path, **options: object) -> Path:
    simulate(recipes.load("fedsimclr").plan({**OPTIONS, **options}), folder)
    return folder


def sites_in(home: Path, data, partition, _folder: Path, *more):
    """The sites of a simulation in folders that they have already."""
    return sites_of(data, partition, home, *more)


def of_site(run: Path, site: str) -> Path:
    return run / "sites" / site / run.name


def asked(run: Path, site: str) -> list[str]:
    lines = (run / "sites" / site / "left.jsonl").read_text().splitlines()
    return [json.loads(line)["kind"] for line in lines]


def assigned(run: Path, site: str) -> list[int]:
    with (of_site(run, site) / "assignments.csv").open(newline="") as file:
        return [int(row["cluster"]) for row in csv.DictReader(file)]


def images(run: Path, number: int) -> np.ndarray:
    """Those of a site."""
    part = Partition.load(run / "partition.json").sites[number]
    return load("digits", images=160, seed=0).images[part]


def test_each_site_has_the_runs_model_and_a_page_of_its_own_clusters(tmp_path: Path) -> None:
    run = ran(tmp_path / "run")
    whole = read_learned(run / "model.covey")
    for number, site in enumerate(SITES):
        path = of_site(run, site) / "model.covey"
        assert path.read_bytes() == (run / "model.covey").read_bytes()
        assert covey.load(path, "cpu").predict(images(run, number)).tolist() == assigned(run, site)
        assert asked(run, site)[-1] == "deliver" and asked(run, site).count("deliver") == 1
        page = of_site(run, site) / "clusters.html"
        until(page.exists)
        here = len(assigned(run, site))
        assert f"<dd>{here:,}</dd>" in page.read_text() and "data:image/" in page.read_text()
    assert whole.facts.images == 160 and whole.facts.sites == 2 and sum(whole.facts.sizes) == 160
    told = read_run(run).delivered
    assert told is not None and told.answered == SITES and told.bytes_down > 2 * 4 * 10**4
    assert "2 of 2 sites have the model." in (run / "report.html").read_text()


def test_a_site_that_was_away_gets_it_when_the_run_is_gone_on_with(tmp_path, monkeypatch) -> None:
    def refuses(task):
        if task.data.site == "site-1":
            raise UserError("no room")
        return TASKS["deliver"](task)

    with monkeypatch.context() as context:
        context.setattr("client.trainer.TASKS", {**TASKS, "deliver": refuses})
        run = ran(tmp_path / "run")
    told = read_run(run).delivered
    assert told is not None and told.answered == ("site-0",) and "site-1" in told.refused
    assert read_run(run).run.status == "finished"
    assert "not site-1: `covey submit --resume RUN`" in told.text
    assert not (of_site(run, "site-1") / "model.covey").exists()
    before = (run / "model.covey").read_bytes()
    ran(run)
    told = read_run(run).delivered
    assert told is not None and told.answered == SITES and not told.refused and not told.missing
    assert asked(run, "site-0").count("deliver") == 1  # once
    assert (of_site(run, "site-1") / "model.covey").read_bytes() == before


def test_names_that_the_coordinator_gave_stay_when_the_run_is_gone_on_with(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(behind, "draw", lambda *_: None)
    run = ran(tmp_path / "run")
    say(run / "model.covey", Said.model_validate({"names": {"2": "scratches"}, "split": [1]}))
    simulate(RunFolder(run).plan(), run)
    facts = read_learned(run / "model.covey").facts
    assert facts.names[2] == "scratches" and facts.split == (1,)


def test_names_that_a_site_gave_stay_when_the_model_comes_again(tmp_path: Path) -> None:
    run = ran(tmp_path / "run")
    path = of_site(run, "site-0") / "model.covey"
    say(path, Said(names={3: "scratches"}))
    metrics = run / "metrics.jsonl"
    kept = [line for line in metrics.read_text().splitlines() if '"delivered"' not in line]
    metrics.write_text("".join(f"{line}\n" for line in kept))  # as if killed before it was noted
    ran(run)
    assert asked(run, "site-0").count("deliver") == 2
    assert read_learned(path).facts.shown(3) == "scratches"


def test_statistics_that_stay_at_a_site_are_in_its_own_file(tmp_path: Path) -> None:
    run = ran(tmp_path / "run", batchnorm="local")
    assert covey.load(run, "cpu").centroids is None
    for number, site in enumerate(SITES):
        path = of_site(run, site) / "model.covey"
        assert read_learned(path).facts.own_statistics
        found = covey.load(path, "cpu").predict(images(run, number))
        assert found.tolist() == assigned(run, site)
    first, second = (of_site(run, site) / "model.covey" for site in SITES)
    assert first.read_bytes() != second.read_bytes()


def test_a_simulation_keeps_one_model_in_its_own_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(app, "SIMULATED", ("in-process",))
    run = ran(tmp_path / "run")
    assert (run / "model.covey").exists() and read_run(run).delivered is None
    assert not (of_site(run, "site-0") / "model.covey").exists()


def test_after_a_split_a_site_keeps_the_names_of_clusters_that_are_the_same(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(behind, "draw", lambda *_: None)  # nobody waits for these pages here
    run = ran(tmp_path / "run", clusters=4)
    given = {str(number): f"mine {number}" for number in range(4)}
    said = Said.model_validate({"names": given})
    say(of_site(run, "site-0") / "model.covey", said)
    following = plan_following(run, FollowUp(of="run", kind="split", cluster=1))
    monkeypatch.setattr(simulation, "sites_of", partial(sites_in, run / "sites"))
    follow_here(following, Console(quiet=True))
    home = run / "sites"
    first, second = (
        read_learned(home / site / following.folder.name / "model.covey") for site in SITES
    )
    names = list(first.facts.names)
    assert names[0] == "mine 0" and names[2:4] == ["mine 2", "mine 3"]
    assert names[1] != "mine 1" and len(names) == 5
    assert "mine 0" not in second.facts.names
