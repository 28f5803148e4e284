"""The states that a run keeps: no site has had a part in the one that is kept for it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.record.schema import KeptState, Run
from server.run import kept
from tests.builders.records import a_run

ARRIVALS = st.lists(
    st.tuples(st.integers(1, 30), st.lists(st.integers(0, 40), min_size=1, max_size=3)), max_size=12
)


def keep_all(folder: Path, arrivals: list[tuple[int, list[int]]]) -> tuple[Run, dict[str, int]]:
    """A run to which sites came after those rounds, and after which each came first."""
    run, came = a_run(), {}
    checkpoint = folder / "checkpoint.safetensors"
    for number, sites in sorted(arrivals, key=lambda each: each[0]):
        new = sorted({f"site-{site}" for site in sites} - came.keys())
        came |= dict.fromkeys(new, number)
        if new:
            checkpoint.write_text(f"after round {number}")
            state = KeptState(round=number, closed=0, before=tuple(new))
            run = kept.keep(folder, run, checkpoint, state)
            kept.clear(folder, run)
    return run, came


@given(ARRIVALS)
def test_the_state_for_some_sites_is_from_before_all_of_them(tmp_path_factory, arrivals) -> None:
    folder = tmp_path_factory.mktemp("run")
    run, came = keep_all(folder, arrivals)
    assert len(run.kept or ()) <= kept.MOST
    files = {path.read_text() for path in (folder / kept.STATES).glob("*")}
    assert files == {f"after round {state.round}" for state in run.kept or ()}
    for site, number in came.items():
        state = kept.before(run, {site})
        assert state is None or state.round <= number
    first = min(came.values(), default=0)
    everybody = kept.before(run, set(came))
    assert everybody is None or not came or everybody.round <= first
    assert kept.before(run, {*came, "site-of-the-first-hour"}) is None or not came


def test_with_few_arrivals_each_site_has_the_state_right_before_it(tmp_path: Path) -> None:
    run, came = keep_all(tmp_path, [(2, [1]), (5, [2, 3]), (9, [4])])
    for site, number in came.items():
        state = kept.before(run, {site})
        assert state is not None and state.round == number
    both = kept.before(run, {"site-2", "site-4"})
    assert both is not None and both.round == 5


@pytest.mark.parametrize("before", [(), ("late",)])
def test_the_state_after_all_training_is_kept_beside(tmp_path: Path, before) -> None:
    run, _ = keep_all(tmp_path, [(number, [number]) for number in range(1, 9)])
    checkpoint = tmp_path / "checkpoint.safetensors"
    state = KeptState(round=8, closed=0, before=before, trained=True)
    run = kept.keep(tmp_path, run, checkpoint, state)
    last = kept.trained(run)
    assert last is not None and last.round == 8
    assert last.before == (("late", "site-8") if before else ("site-8",))
    assert sum(bool(each.before) for each in run.kept or ()) == kept.MOST
