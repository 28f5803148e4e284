"""The verdict says in plain words what was found, and claims nothing that was not."""

import pytest

from common.membership import Success
from deploy.audit.attack import Attack
from deploy.audit.figures import Figure, own_cluster
from deploy.audit.same import Same
from deploy.audit.verdict import conclude
from tests.builders.audits import table_of

NOTHING = Success(0.5, 0.01)


def found(before: float, after: float, name: str = "landmarks") -> Attack:
    return Attack(
        name, "", Success(before, 0.1), Success(after, 0.02), (NOTHING, NOTHING), (0.6, 0.5), 0.02
    )


EQUAL, OTHER = Same("projector", "aa", "bb", "bb"), Same("projector", "aa", "bb", "cc")


@pytest.mark.parametrize(
    ("bits", "attacks", "outcome", "words"),
    [
        (EQUAL, [found(0.8, 0.5)], "exact", "bit for bit"),
        (EQUAL, [found(0.8, 0.8)], "exact", "bit for bit"),
        (OTHER, [found(0.8, 0.51)], "passed", "no proof"),
        (OTHER, [found(0.8, 0.6)], "failed", "failed its own test"),
        (OTHER, [found(0.8, 0.4)], "failed", "known less"),
        (OTHER, [found(0.51, 0.5)], "no signal", "nothing is claimed"),
        (OTHER, [found(0.51, 0.5), found(0.8, 0.5)], "passed", "no proof"),
        (OTHER, [found(0.8, 0.5), found(0.7, 0.7)], "failed", "failed its own test"),
    ],
)
def test_the_outcome(bits: Same, attacks: list[Attack], outcome: str, words: str) -> None:
    verdict = conclude([bits], [], attacks, [])
    assert verdict.outcome == outcome
    assert words in verdict.text
    assert len(verdict.notes) == len(attacks)


def test_nothing_published_is_not_the_same() -> None:
    assert conclude([], [], [found(0.8, 0.8)], []).outcome == "failed"


def test_one_array_that_differs_is_not_exact() -> None:
    assert conclude([EQUAL, OTHER], [], [found(0.5, 0.5)], []).outcome == "no signal"


def test_sums_that_do_not_add_up_are_named() -> None:
    verdict = conclude([EQUAL], [Same("Σ h hᵀ", "a", "b", "c")], [], [])
    assert any("Σ h hᵀ" in note for note in verdict.notes)


def test_worse_than_seeds_do_is_said() -> None:
    worse = Figure("nmi", 0.7, 0.6, (0.69, 0.7))
    as_seeds_do = Figure("acc", 0.7, 0.66, (0.66, 0.72))
    better = Figure("knn", 0.7, 0.9, (0.7, 0.7))
    notes = conclude([OTHER], [], [], [worse, as_seeds_do, better]).notes
    assert len(notes) == 1
    assert "NMI is 0.095 below" in notes[0]


def test_a_class_has_a_cluster_of_its_own_where_it_is_the_largest() -> None:
    table = table_of([[8, 1], [2, 9], [0, 0]])
    assert own_cluster(table, [0]) == pytest.approx(8 / 10)
    assert own_cluster(table, [0, 1]) == pytest.approx(17 / 20)
    assert own_cluster(table_of([[4, 5], [1, 9]]), [0]) == 0.0
