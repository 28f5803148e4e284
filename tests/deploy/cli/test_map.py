"""The map of embeddings comes when the result has been told, and takes nothing from it."""

import re
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from common.record.reader import read_run
from common.utils.errors import UserError
from deploy.cli import main as cli
from deploy.evaluation import data_map
from server.report import write_report
from tests.common.record.test_earlier import FIRST

DRAWING = "drawing the map of embeddings into the report; Ctrl-C: without it"


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(FIRST / "finished", tmp_path / "run"))
    (folder / "map.json").unlink()
    return folder


def concluded(folder: Path, monkeypatch, write_map) -> str:
    """What the terminal shows of the run's end."""
    console = Console(width=80, record=True)
    monkeypatch.setattr(cli, "console", console)
    monkeypatch.setattr(data_map, "write_map", lambda folder: write_map(folder, console))
    cli._conclude(folder, folder / "figures.json")
    return console.export_text()


def test_the_result_is_told_first_and_the_report_is_whole_without_it(finished, monkeypatch) -> None:
    def watched(folder: Path, console: Console) -> None:
        said = console.export_text(clear=False)
        assert "representation" in said and "report: " in said
        assert said.splitlines()[-1] == DRAWING
        html = (folder / "report.html").read_text()
        assert html.rstrip().endswith("</html>") and "Map of embeddings" not in html
        assert (folder / "figures.json").exists()
        original(folder)

    original = data_map.write_map
    concluded(finished, monkeypatch, watched)
    assert "Map of 60 embeddings" in (finished / "report.html").read_text()


def test_who_does_not_wait_for_it_has_the_result(finished, monkeypatch) -> None:
    def interrupted(_folder: Path, _console: Console) -> None:
        raise KeyboardInterrupt

    text = concluded(finished, monkeypatch, interrupted)
    assert text.splitlines()[-1] == DRAWING
    assert "Map of" not in (finished / "report.html").read_text()


def test_what_hinders_it_is_said_in_a_line(finished, monkeypatch) -> None:
    def hindered(_folder: Path, _console: Console) -> None:
        raise UserError("the encoder's outputs are not finite: the run has diverged")

    text = concluded(finished, monkeypatch, hindered)
    assert "warning no map of embeddings: the encoder's outputs are not finite" in text
    assert (finished / "report.html").exists()


def test_the_report_shows_pictures_of_each_cluster_and_loads_nothing(finished) -> None:
    data_map.write_map(finished)
    html = write_report(finished).read_text()
    addresses = re.findall(r'<img src="([^"]*)"', html)
    record = read_run(finished)
    assert record.map is not None
    assert addresses == [address for shown in record.map.central for address in shown]
    assert 10 <= len(addresses) <= data_map.PICTURES
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert "style-src 'unsafe-inline'; img-src data:\"" in html


def test_an_address_that_leads_elsewhere_is_refused(finished) -> None:
    data_map.write_map(finished)
    text = (finished / "map.json").read_text()
    (finished / "map.json").write_text(text.replace("data:image/png", "https://evil.example/"))
    assert "map.json is damaged" in read_run(finished).damaged[0]
    assert "<img" not in write_report(finished).read_text()
