"""What a run records of the files and the window that its images come from."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import covey
from common.config import recipes
from common.record.reader import read_settings
from deploy.engines.simulate import simulate
from server.report import write_report


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two classes of pictures of 12 bits, and what else lies in a folder."""
    folder = tmp_path / "scans"
    rng = np.random.default_rng(0)
    for number in range(24):
        place = folder / ("dark", "light")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        values = rng.integers(0, 1000, (16, 16)) + 3000 * (number % 2)
        Image.fromarray(values.astype(np.uint16)).save(place / f"{number}.png")
    (folder / "dark" / "broken.png").write_text("no picture")
    (folder / "dark" / "notes.txt").write_text("x")
    return folder


def test_the_record_the_report_and_the_model_know_window_and_files(
    scans: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    options = {"dataset": str(scans), "sites": 2, "rounds": 1, "partition": "iid", "min-count": 1}
    said: list[str] = []
    simulate(recipes.load("fedsimclr").plan(options), run, say=said.append)
    assert said[0] == "files: 24 used, 1 unreadable, 1 of another kind"
    record = read_settings(run)
    low, high = map(float, record.plan["window"].split(":"))
    assert "window" in record.settled and 0 <= low < 100 and 3900 < high < 4000
    assert record.files is not None
    assert (record.files.used, record.files.unreadable, record.files.other) == (24, 1, 1)
    assert all(site.files is None for site in record.sites.values())
    page = write_report(run).read_text()
    assert "Files: 24 used, 1 unreadable, 1 of another kind." in page
    assert "broken.png" not in page and "broken.png" not in (run / "run.json").read_text()

    model = covey.load(run)
    dark = model.read(scans).pixels
    assert (dark.min(), dark.max()) == (0, 255)
    (scans / "dark").rename(tmp_path / "dark")  # other values: the window is still the model's
    light = model.read(scans)
    rows = [name.startswith("light") for name in model.read(scans).names]
    assert np.array_equal(light.pixels, dark[12:]) and all(rows)
