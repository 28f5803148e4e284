"""Three folders of photographs, from joining to a table of named clusters, over real processes."""

import csv
import sys

import pytest

from common.learned.file import read_learned
from common.record.reader import read_run, read_settings
from deploy.processes.supervisor import free_port
from tests.builders.attics import COUNTS, SHAPES, attic
from tests.deploy.helpers import covey as command
from tests.deploy.machines import Covey

pytestmark = [
    pytest.mark.federation,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]
SITES = ("east", "north", "west")  # the last one comes when the run is over


def join(covey, name):
    covey.start(name, "client", "join", f"{name}.covey", "--data", f"photos/{name}")
    covey.until(name, "joined")


@pytest.fixture
def covey(tmp_path):
    for seed, name in enumerate(SITES):
        attic(tmp_path / "photos" / name, seed)
    with Covey(tmp_path) as commands:
        commands.run("server", "init", "server", "--address", f"127.0.0.1:{free_port()}")
        for name in SITES:
            commands.run("server", "invite", "server", name)
        commands.start("server", "server", "start", "server")
        commands.until("server", "ready")
        for name in SITES[:2]:
            join(commands, name)
        yield commands


def test_from_joining_to_a_table_of_named_clusters(covey, tmp_path, capsys):
    said = covey.said("north")
    assert (
        "files: 51 used (1 duplicate among them), 2 unreadable, 1 too large, 2 of other kinds, "
        "1 hidden"
    ) in said
    assert "cut.jpg (it is cut)" in said and "1 .mov, 1 .txt" in said and "--largest 400" in said

    runs = tmp_path / "server" / "runs"
    over = ("--server", "server")
    first = str(runs / "first")
    covey.run(
        "submit", "fedkmeans-pixels", *over, "--run-folder", first, "--side", "16",
        "--clusters", "3", "--window", "0:4080",
    )  # fmt: skip
    run = read_run(runs / "first").run
    assert {name: facts.examples for name, facts in run.sites.items()} == {"east": 51, "north": 51}
    assert run.sites["north"].files.model_dump(exclude_defaults=True) == COUNTS

    said = covey.run("choose-k", "first", *over, "--range", "2:6", "--take", "4")
    assert "clusters are suggested" in said
    four = read_learned(tmp_path / "covey-site-north" / "first-choose-k" / "model.covey")
    assert four.facts.clusters == 4

    covey.interrupt("north")  # a site that goes and comes again gets what comes after that
    join(covey, "north")
    sizes = read_run(runs / "first").stages[-1].cluster_sizes
    covey.run("split", "first", *over, "--cluster", str(sizes.index(max(sizes))))
    record = split_run(runs)
    split = [tmp_path / f"covey-site-{name}" / record.name / "model.covey" for name in SITES]
    assert read_learned(split[0]).identity == read_learned(split[1]).identity
    assert read_learned(split[0]).facts.clusters == 4

    # A site that comes when it is over is handed what it missed.
    assert not split[2].exists()
    join(covey, "west")
    said = covey.run("submit", *over, "--resume", str(record))
    assert "3 of 3 sites have the model" in said
    assert read_learned(split[2]).identity == read_learned(split[0]).identity
    assert read_run(record).delivered.answered == ("east", "north", "west")
    assert read_settings(record).status == "finished"

    use(str(split[2]), tmp_path / "photos/west", tmp_path, capsys)

    # What one site calls the clusters, all may call them.
    offered = [name for name in read_learned(split[2]).facts.names if name in SHAPES]
    covey.run("client", "offer-names", str(split[2]), "--yes")
    said = covey.run("names", record.name, *over)
    assert "west" in said and all(name in said for name in offered)
    assert not set(offered) & set(read_learned(split[0]).facts.names)
    said = covey.run("names", record.name, *over, "--accept", "west")
    assert "3 of 3 sites have the model" in said
    assert set(offered) <= set(read_learned(split[0]).facts.names)
    assert offered[0] in (record / "report.html").read_text()
    assert "names of clusters 4" in covey.run("client", "log", "covey-site-west")


def use(model, photos, folder, capsys):
    """Look at a site's photographs by its model, name the clusters, and hand the model on."""

    def run(*arguments):
        code, _, said = command(capsys, *arguments)
        assert code == 0, said

    run("gallery", model, str(photos), "--output", str(folder / "west.html"))
    page = (folder / "west.html").read_text()
    assert "Central" in page and "Doubtful" in page and "https://" not in page
    table = folder / "west.csv"
    run("assign", model, str(photos), "--output", str(table))
    left_out = (folder / "west.unreadable.txt").read_text().split()
    assert left_out == ["cut.jpg", "empty.png", "scan.png"]
    shapes = {}
    for row in rows(table):  # each cluster is called after the shape that most of its pictures have
        shapes.setdefault(row["cluster"], []).append(row["file"].partition("-")[0])
    run("name", model, *(f"{k}={max(set(found), key=found.count)}" for k, found in shapes.items()))
    run("assign", model, str(photos), "--output", str(table))
    found = [row for row in rows(table) if row["file"].startswith(SHAPES)]
    right = sum(row["file"].startswith(row["name"]) for row in found)
    assert len(found) == 48 and right >= 0.7 * len(found)
    run("export", model, "--to", "safetensors", "--output", str(folder / "exported"))
    assert "disc" in (folder / "exported" / "README.md").read_text()


def split_run(runs):
    (found,) = [path for path in runs.iterdir() if "-split-" in path.name]
    return found


def rows(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))
