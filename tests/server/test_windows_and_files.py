"""What a run records of the files and the window that its images come from."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import covey
from common.config import recipes
from common.record.reader import read_settings
from common.record.schema import SiteFacts
from deploy.engines.simulate import simulate
from server.conversation.registration import SiteInfo
from server.report import write_report
from server.settling import settle_clusters, settle_window
from tests.deploy.helpers import covey as covey_command
from tests.server.sample_run import SampleRun


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


def test_a_folder_without_classes_is_spread_by_chance_and_says_so(
    scans: Path, tmp_path: Path, capsys
) -> None:
    options = (
        "--sites",
        "2",
        "--rounds",
        "1",
        "--min-count",
        "1",
        "--dataset",
        str(scans / "dark"),
    )
    code, out, _ = covey_command(
        capsys, "simulate", "fedsimclr", "--run-folder", str(tmp_path / "run"), *options
    )
    assert code == 0
    said = " ".join(out.split())
    assert f"{scans / 'dark'} has no labels: its images are spread iid over the sites" in said
    assert "files: 12 used, 1 unreadable, 1 of another kind" in said
    record = read_settings(tmp_path / "run")
    assert record.plan["partition"] == "iid" and record.plan["clusters"] == 10
    run = covey.simulate(
        "fedsimclr", scans / "dark", sites=2, rounds=1, min_count=1, folder=tmp_path / "again"
    )
    assert run.options["partition"] == "iid"
    skewed = (*options, "--partition", "p-skew(0.5)")
    code, _, err = covey_command(capsys, "simulate", "fedsimclr", *skewed)
    assert code == 2 and "needs labels" in err


def test_classes_at_one_site_do_not_decide_the_number_of_clusters() -> None:
    plan = recipes.load("fedsimclr").plan({})
    facts = SiteFacts(examples=9)
    north = SiteInfo("north", 9, 1, 8, ("a", "b", "c"), facts)
    south = SiteInfo("south", 9, 1, 8, (), facts)
    said: list[str] = []
    assert settle_clusters(plan, [north], None, said.append) == 3
    assert settle_clusters(plan, [south], None, said.append) == 10
    assert said == []
    assert settle_clusters(plan, [north, south], None, said.append) == 10
    assert said == [
        "1 of 2 sites have classes (north: 3), which are not all there may be: 10 clusters; "
        "--clusters 3 chooses as many as there are classes"
    ]
    begun = plan.model_copy(update={"clusters": 7})  # of the run that goes on
    assert settle_clusters(plan, [north, south], begun, said.append) == 7
    chosen = plan.model_copy(update={"clusters": 4})
    assert settle_clusters(chosen, [north, south], None, said.append) == 4


def test_windows_that_differ_are_named_and_one_that_all_have_is_the_plans() -> None:
    plan = recipes.load("fedsimclr").plan({})

    def site(name: str, window: str | None) -> SiteInfo:
        return SiteInfo(name, 9, 1, 8, (), SiteFacts(examples=9, window=window))

    said: list[str] = []
    same, settled = settle_window(plan, [site("a", "0:9"), site("b", None)], said.append)
    assert (same.window, settled, said) == ("0:9", ("window",), [])
    assert settle_window(plan, [site("b", None)], said.append) == (plan, ())
    assert settle_window(plan, [site("a", "0:9"), site("b", "0:8")], said.append) == (plan, ())
    assert said == [
        "the sites' windows differ (a 0:9, b 0:8): --window LOW:HIGH gives all the same"
    ]
    given = plan.model_copy(update={"window": "1:2"})
    assert settle_window(given, [site("a", "0:9")], said.append) == (given, ())


def test_the_report_has_each_sites_files_where_each_has_its_own(tmp_path: Path) -> None:
    sample = SampleRun(rounds=2)
    del sample.run["partition"]
    first, *_ = sample.run["sites"]
    sample.run["sites"][first]["files"] = {"used": 120, "unreadable": 3, "too_large": 1}
    page = write_report(sample.write(tmp_path / "run")).read_text()
    assert f"Files of {first}: 120 used, 3 unreadable, 1 too large." in page
    assert page.count("Files of") == 1
