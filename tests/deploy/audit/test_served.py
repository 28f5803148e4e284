"""An audit over sites that hold their own images: runs again, digests, and what the sites tell."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from client.app import build_app
from client.site import Site, open_site
from client.storage.exclusions import Exclusions
from client.workbench import Workshop
from common.config.options import Plan
from common.data.identity import identities
from common.data.npz import read_npz
from common.membership import FEW
from common.record.reader import read_run, read_settings
from common.utils.errors import UserError
from deploy.audit import served
from deploy.audit.found import Audit
from deploy.audit.report import as_json, write_report
from deploy.audit.served import audit_served, clear, pair_of
from deploy.coordinator.folder import ServerFolder
from deploy.forgetting import served as forgetting
from deploy.forgetting.served import forget_served, plan_served
from deploy.questions import following
from server.app import run
from server.run.folder import RunFolder
from tests.builders.runs import plan
from tests.builders.sites import CPU
from tests.builders.withdrawing import SITES, write_images
from tests.server.fleet import Fleet

QUIET = Console(quiet=True)
TRAINED = {"sites": 3, "rounds": 1, "min-count": 5, "images": 0, "dataset": "elsewhere"}
GONE = 30


class Federation:
    """Three sites of 100 digits, each with a list of what it has taken back, in this process, and
    what of the coordinator's side goes on without a server."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.runs = folder, folder / "runs"
        self.runs.mkdir()
        write_images(folder)
        self.sites: dict[str, Site] = {}
        for name in SITES:
            self.start(name)
        self.server = ServerFolder(folder)
        self.ran: list[str] = []
        for module in (served, following, forgetting):
            monkeypatch.setattr(module, "submit_run", self.submit)

    def start(self, name: str) -> None:
        """As if it had just joined."""
        spec, home = self.folder / f"{name}.npz", self.folder / f"covey-site-{name}"
        data = read_npz(spec)
        assert data is not None
        exclusions = Exclusions(home, str(spec))
        self.sites[name] = open_site(name, data, home, Workshop(CPU), 5, exclusions=exclusions)

    def take_back(self, name: str, count: int, **allowed: bool) -> None:
        spec = str(self.folder / f"{name}.npz")
        images = identities(spec, [str(number) for number in range(count)])
        home = self.folder / f"covey-site-{name}"
        home.mkdir(exist_ok=True)
        Exclusions(home, spec).add(images, "name", **allowed)

    def grid(self) -> Fleet:
        def app(site: Site):
            return build_app(lambda _context, record: site.handle(record))

        return Fleet({name: app(site) for name, site in self.sites.items()})

    def submit(self, _server: object, order: object, _console: object) -> dict[str, object]:
        folder = order.resume  # type: ignore[attr-defined]
        self.ran.append(folder.name)
        run(self.grid(), RunFolder(folder).plan(), RunFolder(folder), "in-process")
        return {}

    def first(self, recipe: str = "fedsimclr", **options: object) -> Path:
        the_plan: Plan = plan(recipe, **{**TRAINED, **options})
        run(self.grid(), the_plan, RunFolder(self.runs / "first"), "in-process")
        return self.runs / "first"

    def forget(self, site: str = "north", everything: bool = False, method: str = "") -> Path:
        asked = plan_served(self.runs / "first", site, everything, method)
        forget_served(self.server, asked, QUIET)
        return asked.folder

    def audit(self, forgotten: Path, say: Callable[[str], None] = lambda _: None) -> Audit:
        pair = pair_of(self.runs / "first", forgotten)
        return audit_served(self.server, pair, 2, QUIET, say)


@pytest.fixture
def federation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Federation]:
    monkeypatch.setattr(forgetting, "conclude", lambda *_: {})
    monkeypatch.setattr(ServerFolder, "link_logs", lambda *_: None)
    yield Federation(tmp_path, monkeypatch)


def test_the_sites_look_themselves_and_what_they_tell_is_in_the_report(
    federation: Federation, tmp_path: Path
) -> None:
    federation.first()
    federation.take_back("north", GONE, audit=True)
    after = federation.forget()
    found = federation.audit(after)
    assert federation.ran == ["first-without-1", *(f"first-without-1-seed-{s}" for s in (0, 1, 2)),
                              "first-without-1-audit"]  # fmt: skip
    names = [each.name for each in found.attacks]
    assert names == ["centroids", "views in the encoder", "views in the projector"]
    assert all(len(each.without) == 2 and 0 <= each.original.auc <= 1 for each in found.attacks)
    assert found.counts.sites == {"north": GONE} and found.counts.stayed == 70
    assert {each.key for each in found.figures} == {"agreement"}  # no site has labels
    assert found.cost.seconds_anew > 0 < found.cost.bytes_anew
    assert not all(each.same for each in found.published)  # the encoder has seen them
    assert [each for each in found.wanting if "Figures on images that no site has" in each]
    page = write_report(found, after).read_text("utf-8")
    assert "images of the same site that stayed" in page and "What could not be had" in page
    assert "<dt>method</dt><dd>exact-sums</dd>" in page
    assert "<script" not in page and str(tmp_path) not in page
    data = json.loads((after / "forget-report.json").read_text("utf-8"))
    assert data["served"] and data == json.loads(json.dumps(as_json(found)))
    assert not (federation.runs / "first-without-1-audit").exists()
    again = federation.audit(after)  # the runs are still there
    assert len(federation.ran) == 6 and again.attacks == found.attacks
    clear(pair_of(federation.runs / "first", after))
    assert sorted(path.name for path in federation.runs.iterdir()) == ["first", after.name]
    assert not (after / "audit").exists()


def test_what_is_retrained_has_the_bits_of_the_run_that_never_had_them(
    federation: Federation,
) -> None:
    federation.first("covey-exact", encoder="noise-filters", rounds=0,
                     parameters="landmarks=40 images=10")  # fmt: skip
    federation.take_back("north", GONE, audit=True)
    found = federation.audit(federation.forget())
    assert found.verdict.outcome == "exact"
    assert all(each.same for each in found.published)
    assert [each.name for each in found.attacks] == ["landmarks"]
    assert any("2 of 2 sums made anew of what is left are" in n for n in found.verdict.notes)


def test_a_site_that_does_not_let_its_images_be_looked_at_is_named(federation: Federation) -> None:
    federation.first()
    federation.take_back("north", GONE)
    found = federation.audit(federation.forget(), print)
    assert not found.attacks and found.verdict.outcome == "no signal"
    assert "Nobody has attacked" in found.verdict.text
    assert any("Attacks at north: " in e and "--may-audit" in e for e in found.wanting)
    assert len(found.figures) == 1 and found.published
    assert "Nobody has looked." in write_report(found, found_folder(federation)).read_text()


def found_folder(federation: Federation) -> Path:
    return federation.runs / "first-without-1"


def test_a_site_that_has_left_cannot_look(federation: Federation) -> None:
    federation.first(deadline=5)
    found = federation.audit(federation.forget("east", everything=True))
    assert any("Attacks at east, which has left" in each for each in found.wanting)
    assert not found.attacks and found.published


def test_a_site_that_starts_anew_on_the_way_is_shown_the_models_again(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation.first()
    federation.take_back("north", FEW, audit=True)
    after = federation.forget()
    handle, seen = Site.handle, []

    def forgetful(self: Site, record: bytes) -> bytes:
        answer = handle(self, record)
        seen.append(self.trainer.site)
        if self.trainer.memory and len([n for n in seen if n == "north"]) % 7 == 0:
            self.trainer.recalled.about = None  # as a new process has it
        return answer

    undisturbed = federation.audit(after)
    monkeypatch.setattr(Site, "handle", forgetful)
    assert federation.audit(after).attacks == undisturbed.attacks


def test_whatever_does_not_fit_is_one_line(federation: Federation) -> None:
    first = federation.first()
    federation.take_back("north", GONE, audit=True)
    after = federation.forget()
    with pytest.raises(UserError, match="was not made by covey forget"):
        pair_of(after, first)
    with pytest.raises(UserError, match="is in the place of first, not of"):
        pair_of(after, after)
    with pytest.raises(UserError, match="at least 2"):
        audit_served(federation.server, pair_of(first, after), 1, QUIET, print)
    federation.take_back("south", 5)
    with pytest.raises(UserError, match="site south does not hold what it held in first-without-1"):
        federation.audit(after)
    assert not list((after / "audit").iterdir())
    (first / "partition.json").write_bytes(b"")
    with pytest.raises(UserError, match="leave out --server"):
        pair_of(first, after)


def test_reference_runs_are_handed_to_nobody(federation: Federation) -> None:
    federation.first()
    federation.take_back("north", GONE, audit=True)
    after = federation.forget()
    federation.audit(after)
    for seed in (0, 1, 2):
        name = f"{after.name}-seed-{seed}"
        record = read_settings(after / "audit" / name)
        assert record.forgetting is not None and record.forgetting.method == "retrain"
        assert read_run(after / "audit" / name).delivered is None
        assert np.isfinite(read_run(after / "audit" / name).stages[-1].figures["agreement"])
