"""Covey beside Flower's own programs: a stock SuperNode in our federation, and our sites at a stock
SuperLink. Both come to the bits of the in-process engine."""

import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import flwr
import pytest
from rich.console import Console

from client.resident import service
from common.config import recipes
from common.utils.threads import threads
from deploy.engines import run_locally as engine
from deploy.engines.runs import run_config
from deploy.engines.simulate import simulate
from deploy.flower import commands
from tests.builders.records import events
from tests.deploy.helpers import processes, same_results

OPTIONS = {
    "dataset": "digits",
    "images": "120",
    "sites": "2",
    "rounds": "2",
    "local-epochs": "1",
    "encoder": "small-convnet",
}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "run"
    with threads(1):
        simulate(recipes.load("fedsimclr").plan(OPTIONS), folder)
    return folder


def run(folder: Path) -> str:
    """Run it with processes; what the command says."""
    folder.mkdir()
    config = run_config("fedsimclr", OPTIONS, **{"run-folder": str(folder), "engine": "processes"})
    plan = recipes.load("fedsimclr").plan(OPTIONS)
    screen = io.StringIO()
    engine.run_locally(plan, config, folder, Console(file=screen, width=200))
    return screen.getvalue()


@pytest.mark.federation
def test_a_stock_supernode_joins_ours_and_its_trainers_socket_may_be_deleted(
    tmp_path, simulated, monkeypatch
):
    """What a system's cleaner does to the temporary folder after ten days: here before the first
    message, and after each."""
    original = engine.local_site
    monkeypatch.setattr(
        engine,
        "local_site",
        lambda plan, folder, index: replace(original(plan, folder, index), stock=index == 1),
    )
    watched: list[Path] = []
    started = engine.LocalFederation.start

    def start(self, *arguments):
        run_id = started(self, *arguments)
        watched.append(self._sockets)
        shutil.rmtree(self._sockets)
        return run_id

    monkeypatch.setattr(engine.LocalFederation, "start", start)
    run(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run" / "logs").iterdir()} == {
        "superlink.log",
        "superexec.log",
        "site-0-connection.log",
        "site-0-trainer.log",
        "site-1-supernode.log",
        "site-1-superexec.log",
        "site-1-trainer.log",
    }
    assert [event["missing"] for event in events(tmp_path / "run", "round")] == [[], []]
    assert same_results(tmp_path / "run", simulated)
    assert watched and not watched[0].exists()
    assert service.LOOK <= 2.0
    assert processes(str(tmp_path)) == {}


@pytest.mark.federation
@pytest.mark.skipif(
    " " in flwr.__file__,
    reason="Flower's own SuperLink makes no tables under a path with a space (ours does)",
)
def test_our_sites_join_a_stock_superlink_with_flowers_own_calls(tmp_path, simulated, monkeypatch):
    monkeypatch.setattr(commands, "SUPERLINK", ("flower-superlink",))
    run(tmp_path / "run")
    log = (tmp_path / "run" / "logs" / "superlink.log").read_text()
    assert len(re.findall(r"POST /v1/fleet/covey-pull HTTP/1.1. 404", log)) == 2  # once a site
    assert "covey-push" not in log
    assert same_results(tmp_path / "run", simulated)


@pytest.mark.federation
def test_a_flwr_that_lacks_a_name_runs_stock_sites_and_says_so(tmp_path, simulated, monkeypatch):
    why = "this flwr has no x.y: the site runs with Flower's own SuperNode and SuperExec"
    monkeypatch.setattr("deploy.engines.federation.has_to_be_stock", lambda: why)
    assert why in run(tmp_path / "run")
    assert same_results(tmp_path / "run", simulated)
