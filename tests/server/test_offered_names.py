"""What a site calls its clusters, from its operator's word to the other sites' models."""

import json
from pathlib import Path

import pytest

from client.gallery import behind
from client.storage.names import OFFERED, write_names
from common.config import recipes
from common.learned.file import read_learned
from common.record.reader import read_run, read_settings
from common.utils.errors import UserError
from deploy.coordinator.naming import accept, called
from deploy.engines.simulate import simulate
from deploy.site.offering import take_back, to_offer
from deploy.using.naming import Said, say
from server import app
from tests.deploy.helpers import covey as command

OPTIONS = {
    "dataset": "digits", "images": 160, "sites": 2, "clusters": 4, "encoder": "small-convnet",
    "device": "cpu", "rounds": 1, "local-epochs": 1,
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch) -> Path:
    """A run whose sites are treated as those of other machines, and have folders as those have."""
    monkeypatch.setattr(app, "SIMULATED", ())
    monkeypatch.setattr(behind, "draw", lambda *_: None)
    folder = meet(tmp_path / "run")
    for site in ("site-0", "site-1"):
        private = folder / "sites" / site / "private"
        private.mkdir()
        (private / "site").write_text(site)
    return folder


def meet(folder: Path) -> Path:
    """The run, or its sites once more."""
    simulate(recipes.load("fedsimclr").plan(OPTIONS), folder)
    return folder


def model(run: Path, site: str) -> Path:
    return run / "sites" / site / "run" / "model.covey"


def names(path: Path) -> tuple[str, ...]:
    return read_learned(path).facts.names


def told(run: Path, site: str) -> list[dict]:
    """What the site's log says of the names that left."""
    lines = (run / "sites" / site / "left.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if "names of clusters" in line["parts"]]


def test_from_a_sites_word_to_every_model_and_gallery(run: Path, capsys) -> None:
    theirs = names(run / "model.covey")
    say(model(run, "site-0"), Said(names={1: "scratch", 3: "dent"}))
    say(model(run, "site-1"), Said(names={3: "mine"}))
    offer = to_offer(model(run, "site-0"))
    assert offer.names == ("", "scratch", "", "dent")  # what it was sent is nothing of its own
    meet(run)
    assert not called(run).offers and not told(run, "site-0")  # nothing leaves before it is said

    code, said, _ = command(capsys, "client", "offer-names", str(model(run, "site-0")), "--yes")
    assert code == 0 and "scratch" in said and "nothing else" in said
    meet(run)
    assert called(run).offers == {"site-0": offer.names}
    assert [line["kind"] for line in told(run, "site-0")] == ["hello"]
    assert told(run, "site-0")[0]["parts"] == {"names of clusters": [4]}
    assert not told(run, "site-1")
    assert names(run / "model.covey") == theirs  # an offer alone changes nothing

    arguments = ("names", str(run), "--accept", "site-0", "--set", "0=<b>smooth</b>")
    code, out, said = command(capsys, *arguments)
    assert code == 0 and "scratch" in out
    now = ("<b>smooth</b>", "scratch", theirs[2], "dent")
    assert names(run / "model.covey") == now
    report = (run / "report.html").read_text()
    assert "<td>scratch</td>" in report and "<b>smooth" not in report
    meet(run)
    assert names(model(run, "site-0")) == now
    assert names(model(run, "site-1")) == (*now[:3], "mine")  # its own stays
    assert read_run(run).up_to_date == ("site-0", "site-1")
    assert read_run(run).named.sites == ("site-0",)
    meet(run)
    kinds = (run / "sites" / "site-1" / "left.jsonl").read_text().count('"deliver"')
    assert kinds == 2  # once more, for the names, and no third time


def test_an_offer_can_be_withdrawn_and_a_damaged_one_does_not_leave(run: Path) -> None:
    say(model(run, "site-0"), Said(names={1: "scratch"}))
    path = to_offer(model(run, "site-0")).write()
    assert path.stat().st_mode & 0o777 == 0o600
    assert take_back(model(run, "site-0")) and not take_back(model(run, "site-0"))
    path.write_text("{")
    meet(run)
    write_names(path, ["a\nb", "", "", ""])
    meet(run)
    assert not called(run).offers and not told(run, "site-0")
    assert path.name == OFFERED


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("x" * 81, "has 81 characters: at most 80 may leave"),
        ("IMG_0001.JPG", "looks like the name of a file"),
        ("/home/anna/photos", "looks like the name of a file"),
        ("C:\\\\photos", "looks like the name of a file"),
    ],
)
def test_what_is_no_name_is_not_offered(run: Path, name: str, why: str) -> None:
    say(model(run, "site-0"), Said(names={1: name}))
    with pytest.raises(UserError, match=why):
        to_offer(model(run, "site-0"))


def test_mistakes_are_told_in_one_line(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no names"):
        to_offer(model(run, "site-0"))
    with pytest.raises(UserError, match="is no site's folder"):
        to_offer(run / "model.covey")
    with pytest.raises(UserError, match="unknown site with an offer 'site-1'"):
        accept(run, ["site-1"], {})
    with pytest.raises(UserError, match="there is no cluster 9"):
        accept(run, [], {9: "x"})
    assert read_settings(run).status == "finished" and read_run(run).named is None
