"""`covey run`, whole: separate processes, TLS, authentication; what it leaves."""

import io
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.numpy import load_file

from common.config import recipes
from deploy.engines import run_locally as engine
from deploy.engines.federation import SiteSpec
from deploy.engines.runs import run_config
from tests.builders.records import events
from tests.deploy.helpers import (
    CoveyRun,
    processes,
)

pytestmark = [
    pytest.mark.federation,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

SMALL = {
    "dataset": "digits",
    "images": "160",
    "sites": "2",
    "rounds": "1",
    "local-epochs": "1",
    "device": "cpu",
}
POISONED = "site-1"


def flags(options: dict[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name}", value)]


@pytest.fixture(scope="module")
def sockets() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cv-"))  # short: a socket's path has 100 bytes
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, sockets: Path
) -> Iterator[tuple[CoveyRun, Path]]:
    """Two runs at once, in a path with a space: one by the command, and one of which a site's
    trainer sends NaN."""
    home = tmp_path_factory.mktemp("two runs")
    files = ["--run-folder", str(home / "plain"), "--json", str(home / "plain.json")]
    plain = CoveyRun(["fedsimclr", *flags(SMALL), *files], sockets / "p", home / "plain.txt")
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(engine, "local_site", poisoning(engine.local_site))
            run_poisoned(home / "poisoned")
        plain.ends()
        yield plain, home
    finally:
        plain.clear_away()


def poisoning(original):
    script = str(Path(__file__).with_name("poisoned_trainer.py"))

    def site(*arguments) -> SiteSpec:
        spec = original(*arguments)
        if spec.name != POISONED:
            return spec
        python, _, _, *rest = spec.trainer_command
        return SiteSpec(spec.name, (python, script, *rest))

    return site


def run_poisoned(folder: Path) -> None:
    folder.mkdir()
    config = run_config("fedsimclr", SMALL, **{"run-folder": str(folder), "engine": "processes"})
    plan = recipes.load("fedsimclr").plan(SMALL)
    engine.run_locally(plan, config, folder, Console(file=io.StringIO()))


def test_a_run_ends_with_a_table_a_report_an_encoder_and_centroids(runs) -> None:
    plain, home = runs
    assert plain.process.returncode == 0, plain.text
    for word in ("1/1", "ACC", "NMI", "representation", "report.html"):
        assert word in plain.text
    assert (home / "plain" / "report.html").stat().st_size > 10_000
    assert load_file(home / "plain" / "centroids.safetensors")["points"].shape == (10, 256)
    assert load_file(home / "plain" / "encoder.safetensors")
    (figures,) = json.loads((home / "plain.json").read_text())["stages"]
    (stage,) = events(home / "plain", "stage")
    assert figures["acc"] == stage["figures"]["acc"] and 0 < figures["nmi"] <= 1
    assert json.loads((home / "plain" / "run.json").read_text())["status"] == "finished"


def test_its_logs_have_no_traceback(runs) -> None:
    _, home = runs
    logs = {path.name: path.read_text() for path in (home / "plain" / "logs").iterdir()}
    assert {"superlink.log", "superexec.log", "site-1-connection.log", "site-1-trainer.log"} <= {
        *logs
    }
    assert [name for name, text in logs.items() if "Traceback" in text] == []
    assert ", ready" in logs["site-1-trainer.log"]


def test_nothing_of_it_goes_on_and_no_socket_or_key_is_left(runs, sockets: Path) -> None:
    _, home = runs
    assert processes(str(home), str(sockets)) == {}
    assert list((sockets / "p").iterdir()) == []
    files = [path for path in home.rglob("*") if path.is_file()]
    assert {path.name for path in (home / "plain" / "federation").iterdir()} == {"bundle"}
    assert [path for path in files if path.suffix in (".key", ".secret", ".db", ".crt")] == []
    assert [path for path in files if b"PRIVATE KEY" in path.read_bytes()] == []


def test_a_site_that_sends_nan_is_refused_by_name_and_the_round_goes_on(runs) -> None:
    folder = runs[1] / "poisoned"
    (trained,) = events(folder, "round")
    assert list(trained["refused"]) == [POISONED]
    assert "has NaN or infinite values" in trained["refused"][POISONED]
    assert trained["answered"] == ["site-0"]
    assert any(f"{POISONED} refused" in event["text"] for event in events(folder, "warning"))
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    assert all(
        abs(array).max() < 1e6 for array in load_file(folder / "encoder.safetensors").values()
    )
