"""`covey forget` of what does not fit, and killed at each step: nothing is half forgotten."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from common.record.reader import read_settings
from common.utils.errors import UserError
from deploy.forgetting import here, preparing
from deploy.forgetting.choosing import Wish, read_list
from deploy.forgetting.here import forget_here, plan_here
from server.run.folder import RunFolder
from tests.builders.forgetting import (
    QUICK,
    QUIET,
    SITE,
    assigned,
    never_had,
    planned,
    random_files,
    same,
)


def wishes_of(**more: object) -> Callable[[Path], here.Forgotten]:
    given = {"site": SITE, "wish": Wish(everything=True), **more}
    return lambda folder: plan_here(folder, **given)


def going_on(folder: Path) -> None:
    with RunFolder(folder).held():
        plan_here(folder, SITE, Wish(everything=True))


def unfinished(folder: Path) -> None:
    preparing.write_settings(
        folder, read_settings(folder).model_copy(update={"status": "failed", "reason": "power"})
    )
    plan_here(folder, SITE, Wish(everything=True))


def all_but_one(folder: Path) -> None:
    plan_here(folder, SITE, Wish(names=tuple(name for name, _ in assigned(folder))[1:]))


BAD = {
    "unknown site": (wishes_of(site="site-9"), "unknown site 'site-9': did you mean"),
    "unknown file": (wishes_of(wish=Wish(names=("x",))), "no image 'x' in this run"),
    "unknown cluster": (wishes_of(wish=Wish(cluster=99)), "no image in cluster 99: it has some in"),
    "unknown method": (wishes_of(method="noise"), "unknown method 'noise'"),
    "trains nothing": (wishes_of(method="exact-sums"), "fedkmeans-pixels trains nothing"),
    "all but one": (all_but_one, "1 of the site's 75 images would be left"),
    "going on": (going_on, "is going on: wait until it has ended"),
    "not finished": (unfinished, "has not finished, it is failed"),
    "no run": (lambda folder: wishes_of()(folder.parent), "holds no run"),
}


def test_whatever_does_not_fit_is_one_line_and_changes_nothing(
    finished: Callable[..., Path],
) -> None:
    before = finished(QUICK)
    there = {path: path.read_bytes() for path in before.rglob("*.json")}
    for name, (wish, said) in BAD.items():
        with pytest.raises(UserError, match=said) as error:
            wish(before)
        assert "\n" not in str(error.value), name
        changed = {"run.json"} if name == "not finished" else set()
        assert {p.name for p, text in there.items() if p.read_bytes() != text} == changed
        preparing.write_settings(before, read_settings(before).model_copy(update=FINISHED))
        assert [path.name for path in before.parent.iterdir()] == ["before"]


FINISHED = {"status": "finished", "reason": None}


def test_of_a_run_with_one_site_not_everything_can_be_forgotten(
    finished: Callable[..., Path],
) -> None:
    before = finished(QUICK, sites=1)
    with pytest.raises(UserError, match="nothing would be left"):
        plan_here(before, "site-0", Wish(everything=True))


@pytest.mark.parametrize("cut", [" ", "\n\n"])
def test_a_list_without_a_name_is_refused(tmp_path: Path, cut: str) -> None:
    (tmp_path / "list").write_text(cut)
    with pytest.raises(UserError, match="names no file"):
        read_list(tmp_path / "list")
    with pytest.raises(UserError, match="which images"):
        Wish(cluster=1, everything=True)


class Killed(BaseException):
    """As if the process was gone."""


def killed(*_: object, **__: object) -> None:
    raise Killed


KILLS = {
    "before the folder is there": (Path, "rename"),
    "before the run begins": (here, "simulate_watched"),
    "when the run has begun": (RunFolder, "log"),
    "when the state is written": (RunFolder, "write"),
    "before the report": (here, "write_report"),
    "before the earlier run is marked": (preparing, "write_settings"),
    "before its report": (preparing, "write_report"),
}


@pytest.mark.parametrize("kill", KILLS)
def test_killed_at_any_step_the_same_command_goes_on(
    finished: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: str
) -> None:
    before = finished(QUICK, images=120)
    wish = random_files(before, 4)
    settings = read_settings(before)
    asked = partial(plan_here, before, SITE, wish)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(*KILLS[kill], killed)
        forget_here(asked(), QUIET)
    assert read_settings(before) == settings  # nothing has changed yet
    after = before.parent / "before-without-1"
    assert forget_here(asked(), QUIET) == after
    never = never_had(planned(QUICK, images=120), set(wish.names), tmp_path / "never")
    assert same(after, never)
    assert read_settings(before).superseded == after.name
    assert after.name in (before / "report.html").read_text()
    assert sorted(path.name for path in before.parent.iterdir()) == ["before", after.name]
