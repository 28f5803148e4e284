"""A finished run is asked later: its clusters are what pooled images would give, from sums."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import covey
from common.clustering.centroids import unit
from common.data import load
from common.learned.file import FILE, read_learned
from common.record.follow_up import FollowUp
from common.record.reader import read_run
from common.record.schema import ChoiceEvent, SplitEvent
from common.utils.errors import UserError
from deploy.engines.simulate import simulate
from deploy.questions.following import follow_here, plan_following
from deploy.using.naming import read_said, say
from server.conversation.asking import Asking
from server.run.folder import RunFolder
from server.strategy import CoveyStrategy
from tests.builders.runs import plan

QUIET = Console(quiet=True)
SPLIT = FollowUp(of="run", kind="split", cluster=0, parts=2)
CHOICE = FollowUp(of="run", kind="choose-k", low=2, high=6)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return load("digits").images[:300]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "before"
    options = {"images": 300, "clusters": 4, "rounds": "", "encoder": "", "min-count": 1}
    simulate(plan("fedkmeans-pixels", **options), folder)
    return folder


def follow(run: Path, asked: FollowUp) -> Path:
    following = plan_following(run, asked)
    follow_here(following, QUIET)
    return following.folder


def told(folder: Path, kind: type) -> object:
    return next(e for e in reversed(read_run(folder).events) if isinstance(e, kind))


def of_the_run(folder: Path) -> np.ndarray:
    """The images that the run had, as its model embeds them."""
    plan = read_run(folder).run.settings()
    data = load("digits", images=plan.images, seed=plan.seed)
    return covey.load(folder, "cpu").embed(data.images)


def test_a_split_is_k_means_of_the_pooled_images_of_that_cluster(before: Path) -> None:
    named = read_said('{"names": {"0": "round", "1": "thin"}}')
    say(before, named)
    after = follow(before, SPLIT)
    old, new = read_learned(before / FILE), read_learned(after / FILE)
    points = of_the_run(before)
    was, now = (m.part("centroids")["points"] for m in (old, new))
    assert len(now) == 5 and np.array_equal(now[1:4], was[1:])
    inside = points[(points @ was.T).argmax(1) == 0]
    parts = now[[0, 4]]
    member = (inside @ parts.T).argmax(1)
    for number, centre in enumerate(parts):  # settled: each is the direction of its images' sum
        wanted = unit(inside[member == number].sum(0)[None])[0]
        assert np.allclose(centre, wanted, atol=1e-4)
    event = told(after, SplitEvent)
    assert isinstance(event, SplitEvent)
    assert event.parts == (0, 4) and event.sizes == tuple(np.bincount(member))
    assert event.sizes[0] >= event.sizes[1] and 0 < event.tighter < 1
    assert new.facts.names[1] == "thin" and new.facts.names[0] != "round"
    assert sum(new.facts.sizes) == 300 and new.facts.clusters == 5
    assert covey.load(after, "cpu").predict(load("digits").images[:9]).max() <= 4
    page = (after / "report.html").read_text()
    assert "split of 0" in page and "covey split before" in page and "--into 2" in page


def test_a_split_run_can_be_split_again(before: Path) -> None:
    after = follow(follow(before, SPLIT), FollowUp(of="run", kind="split", cluster=4, parts=2))
    assert after.name.endswith("-split-4")
    assert read_learned(after / FILE).facts.clusters == 6
    names = [event.stage_name for event in read_run(after).stages]
    assert names == ["clusters", "split of 0", "split of 4"]


def test_an_answer_that_was_interrupted_is_not_asked_for_twice(
    before: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = follow(before, SPLIT)
    model = (after / FILE).read_bytes()
    asked: list[str] = []
    hold = Asking.hold

    def held(self, grid, state, question):
        asked.append(question.kind)
        return hold(self, grid, state, question)

    monkeypatch.setattr(Asking, "hold", held)
    simulate(RunFolder(after).plan(), after)
    assert not asked
    assert read_learned(after / FILE).part("centroids")["points"].tobytes() in model


class Killed(BaseException):
    """As if the process was gone."""


@pytest.mark.parametrize(
    ("asked", "kind"), [(SPLIT, SplitEvent), (CHOICE.model_copy(update={"take": 3}), ChoiceEvent)]
)
def test_an_answer_that_was_killed_before_its_state_was_kept_is_told_once(
    before: Path, monkeypatch: pytest.MonkeyPatch, asked: FollowUp, kind: type
) -> None:
    advance = CoveyStrategy.advance

    def killed(self, state):
        if state.closed > 1:
            raise Killed
        advance(self, state)

    following = plan_following(before, asked)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(CoveyStrategy, "advance", killed)
        follow_here(following, QUIET)
    assert not (following.folder / FILE).exists()
    simulate(following.order.plan, following.folder)
    events = read_run(following.folder).events
    assert [event.event for event in events if isinstance(event, kind)] == [events[-2].event]
    assert len(read_run(following.folder).stages) == 2
    assert (following.folder / FILE).exists()


def test_what_is_weighed_is_what_pooled_images_say(before: Path) -> None:
    after = follow(before, CHOICE)
    event = told(after, ChoiceEvent)
    assert isinstance(event, ChoiceEvent)
    assert [each.clusters for each in event.candidates] == [2, 3, 4, 5, 6]
    assert event.suggested in range(2, 7) and event.doubt
    spreads = [each.spread for each in event.candidates]
    assert spreads == sorted(spreads, reverse=True)
    assert all(0 <= each.merge_cost < 1 and each.stability <= 1 for each in event.candidates)
    assert not (after / FILE).exists()  # nothing was learned
    page = (after / "report.html").read_text()
    assert "How many clusters?" in page and "<script" not in page


def test_the_number_that_is_taken_is_a_model_with_the_silhouette_that_was_told(
    before: Path,
) -> None:
    after = follow(before, CHOICE.model_copy(update={"take": 5}))
    model = read_learned(after / FILE)
    assert model.facts.clusters == 5 and sum(model.facts.sizes) == 300
    near = np.sort(1 - of_the_run(before) @ model.part("centroids")["points"].T, axis=1)
    silhouette = ((near[:, 1] - near[:, 0]) / near[:, 1]).mean()
    event = told(after, ChoiceEvent)
    assert isinstance(event, ChoiceEvent)
    assert event.candidates[3].silhouette == pytest.approx(silhouette, abs=1e-4)
    assert model.facts.figures["silhouette"] == pytest.approx(silhouette, abs=1e-4)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (SPLIT.model_copy(update={"cluster": 4}), "there is no cluster 4: .* has 4"),
        (SPLIT.model_copy(update={"parts": 999}), "too few for 999 parts"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    before: Path, asked: FollowUp, why: str
) -> None:
    earlier = set(before.parent.iterdir())
    with pytest.raises(UserError, match=why):
        follow(before, asked)
    assert set(before.parent.iterdir()) == earlier


@pytest.mark.parametrize("bound", [5, 40, 60])
def test_a_site_tells_nothing_of_fewer_images_than_its_bound(
    before: Path, bound: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from client import leaving  # noqa: PLC0415

    smallest: list[int] = []
    check = leaving._check_counts

    def checked(where, counts, least):
        smallest.extend(counts[counts > 0].tolist())
        check(where, counts, least)

    monkeypatch.setattr(leaving, "_check_counts", checked)
    folder = tmp_path / "run"
    options = {"images": 300, "clusters": 2, "rounds": "", "encoder": "", "min-count": bound}
    simulate(plan("fedkmeans-pixels", **options), folder)
    smallest.clear()
    following = plan_following(folder, SPLIT)
    try:
        follow_here(following, QUIET)
    except UserError as error:
        assert "tell of no fewer than min-count" in str(error)
        assert not following.folder.exists()  # it can be asked again
    assert smallest and min(smallest) >= bound


def test_statistics_that_stay_at_a_site_are_those_that_it_ended_the_run_with(
    tmp_path: Path,
) -> None:
    run, options = tmp_path / "run", {"batchnorm": "local", "images": 160, "clusters": 3}
    simulate(plan("fedsimclr", rounds=1, **options), run)
    ended = assigned(run, "run")
    asked = FollowUp(of="run", kind="split", cluster=int(np.bincount(ended).argmax()))
    first = follow(run, asked)
    kept = ended != asked.cluster
    parts = assigned(first, first.name)
    assert (parts[kept] == ended[kept]).mean() > 0.9  # a part may be nearer now, and few are
    assert set(parts[~kept]) >= {asked.cluster, 3}
    again = follow(first, FollowUp(of=first.name, kind="choose-k", low=2, high=3, take=2))
    assert len(read_run(again).stages[-1].cluster_sizes) == 2


def test_a_site_without_such_statistics_says_so(tmp_path: Path) -> None:
    run = tmp_path / "run"
    simulate(plan("fedsimclr", rounds=1, batchnorm="local", images=160, clusters=3), run)
    shutil.rmtree(run / "sites")
    with pytest.raises(UserError, match="has kept nothing of the run that run-split-0 is about"):
        follow(run, FollowUp(of="run", kind="split", cluster=0))


def assigned(run: Path, name: str) -> np.ndarray:
    """The cluster of each of its sites' images."""
    found = []
    for path in sorted(run.glob(f"sites/*/{name}/assignments.csv")):
        with path.open(newline="") as file:
            found += [int(row["cluster"]) for row in csv.DictReader(file)]
    return np.array(found)
