"""Data taken back over real processes: the site says what leaves, the coordinator makes the run."""

import sys

import pytest

from common.record.reader import read_settings
from tests.builders.withdrawing import QUICK, joined, never_had, same
from tests.deploy.helpers import until

pytestmark = [
    pytest.mark.federation,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]
GONE = {"north": ["3", "50", "77"]}


@pytest.fixture
def covey(tmp_path):
    with joined(tmp_path) as commands:
        yield commands


def assigned(folder, run_name):
    lines = (folder / "covey-site-south" / run_name / "assignments.csv").read_text().splitlines()
    return [line.rsplit(",", 1) for line in lines[1:]]


def test_a_site_takes_back_files_another_a_cluster_and_a_third_leaves(covey, tmp_path):
    runs = tmp_path / "server" / "runs"
    first = runs / "first"
    covey.run("submit", *QUICK, "--server", "server", "--run-folder", str(first))
    forget = ("forget", "first", "--server", "server", "--site", "north", "--yes")

    # Nothing was taken back yet: one line, and nothing has changed.
    said = covey.run(*forget, expect=1)
    assert "site north has taken back no image since first: nothing to forget" in said
    assert [path.name for path in runs.iterdir()] == ["first"]

    site = ("--folder", "covey-site-north", "--yes")
    said = covey.run("client", "forget", "101", *site, expect=2)
    assert "'101' is not among the site's data" in said
    said = covey.run("client", "forget", *GONE["north"], *site)
    assert "taken back: 3 images, chosen by name" in said
    said = covey.run("client", "forget", *GONE["north"], *site, expect=2)
    assert "nothing to do: these 3 images have been taken back before" in said
    assert "taken back: 3 images" in covey.run("client", "status", "covey-site-north")

    said = covey.run(*forget)
    second = runs / "first-without-1"
    assert f"in the place of {first}" in said and "north: 3" not in said.partition("start")[0]
    assert same(second, never_had(tmp_path, second, GONE)) and not same(second, first)
    record = read_settings(second)
    assert record.forgetting.images == {"north": 3} and record.forgetting.method == "exact"
    assert record.sites["north"].withdrawn == 3 and record.sites["north"].examples == 97
    assert read_settings(first).superseded == second.name
    delivered = tmp_path / "covey-site-east" / second.name / "model.covey"
    until(delivered.exists)
    assert "first-without-1 is in its place" in covey.run(*forget, expect=2)
    assert "is in its place" in covey.run(
        "submit", "--server", "server", "--resume", str(first), expect=2
    )

    # A cluster of another site, in the run that is in the first one's place.
    cluster = assigned(tmp_path, second.name)[0][1]
    gone = [name for name, found in assigned(tmp_path, second.name) if found == cluster]
    covey.run("client", "forget", "--cluster", cluster, "--folder", "covey-site-south", "--yes")
    covey.run("forget", second.name, "--server", "server", "--site", "south", "--yes")
    third = runs / "first-without-2"
    assert same(third, never_had(tmp_path, third, GONE | {"south": gone}))
    assert read_settings(third).forgetting.images == {"south": len(gone)}

    # A whole site, which is online all the same.
    covey.run("forget", third.name, "--server", "server", "--site", "east", "--all", "--yes")
    fourth = runs / "first-without-3"
    assert same(fourth, never_had(tmp_path, fourth, GONE | {"south": gone}))
    record = read_settings(fourth)
    assert set(record.sites) == {"north", "south"} and record.forgetting.gone == ("east",)
    assert not (tmp_path / "covey-site-east" / fourth.name).exists()

    # What was taken back stays so when the site joins again, until it is remembered.
    covey.interrupt("north")
    covey.start("north", "client", "join", "north.covey", "--data", "north.npz")
    covey.until("north", "joined")
    assert "3 images are left out: withdrawn" in covey.said("north")
    assert "3 images take part again" in covey.run("client", "remember", "--all", *site)
