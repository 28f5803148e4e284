"""An attack finds members where there are traces of them, and nobody where there are none."""

import pytest
import torch

from common.membership import Success, auc, calibrated, spread_of_auc, tpr
from deploy.audit.attack import CLOSE, Attack, attack


def scores(seed: int, trace: float = 0.0, n: int = 400, m: int = 1600):
    """Of a model: how well each image is known to anybody, noise of its own, and the trace that
    training on the first ones has left."""
    known = torch.randn(n + m, generator=torch.Generator().manual_seed(99))
    own = 0.1 * torch.randn(n + m, generator=torch.Generator().manual_seed(seed))
    found = known + own
    return found[:n] + trace, found[n:]


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    inside, outside = torch.tensor([3.0, 1.0]), torch.tensor([2.0, 0.0, 5.0])
    assert auc(inside, outside) == pytest.approx(3 / 6)  # 3 > 2, 3 > 0, 1 > 0
    assert auc(torch.tensor([2.0, 2.0]), torch.tensor([2.0, 1.0])) == pytest.approx(3 / 4)
    assert auc(torch.ones(5), torch.ones(7)) == 0.5


def test_auc_by_counting_pairs() -> None:
    inside, outside = torch.randn(40).round(decimals=1), torch.randn(60).round(decimals=1)
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a in inside for b in outside]
    assert auc(inside, outside) == pytest.approx(sum(pairs) / len(pairs))


def test_tpr_by_hand() -> None:
    outside = torch.arange(200.0)  # 2 of them may be accused: 198 and 199
    inside = torch.tensor([197.5, 197.0, 198.5, 300.0, -1.0])
    assert tpr(inside, outside) == pytest.approx(3 / 5)
    assert tpr(inside, torch.arange(50.0)) == pytest.approx(4 / 5)  # nobody may be accused


@pytest.mark.parametrize("m", [20, 99, 100, 101, 1500])
def test_tpr_never_accuses_more_than_it_may(m: int) -> None:
    outside = torch.randint(0, 30, (m,)).double()  # with ties
    assert tpr(outside, outside) <= 0.01


def test_a_trace_is_found_that_raw_scores_hide() -> None:
    references = [scores(seed) for seed in (1, 2, 3)]
    found = attack("x", "", scores(0, trace=1.0), scores(4), references)
    assert found.original.auc > 0.99
    assert found.original.tpr > 0.95
    assert found.raw[0] < 0.85
    assert found.state == "passed"


def test_nobody_is_found_where_there_is_no_trace() -> None:
    references = [scores(seed) for seed in (1, 2, 3)]
    found = attack("x", "", scores(0), scores(4), references)
    assert abs(found.original.auc - 0.5) < found.margin
    assert all(abs(each.auc - 0.5) < 2 * CLOSE for each in found.without)
    assert found.state == "no signal"


def test_a_trace_that_stays_fails() -> None:
    references = [scores(seed) for seed in (1, 2, 3)]
    found = attack("x", "", scores(0, trace=1.0), scores(4, trace=0.2), references)
    assert found.state == "failed"


def test_too_much_forgotten_is_told_from_enough() -> None:
    references = [scores(seed) for seed in (1, 2, 3)]
    found = attack("x", "", scores(0, trace=1.0), scores(4, trace=-0.3), references)
    assert found.state == "overshot"


def test_no_signal_goes_before_passed() -> None:
    nothing = Success(0.5, 0.01)
    by = {"name": "x", "about": "", "without": (nothing, nothing), "raw": (0.5, 0.5), "noise": 0.01}
    for before, after, state in (
        (0.529, 0.5, "no signal"),
        (0.529, 0.9, "no signal"),
        (0.531, 0.5, "passed"),
        (0.531, 0.531, "failed"),
        (0.469, 0.469, "overshot"),
    ):
        assert Attack(original=Success(before, 0), forgotten=Success(after, 0), **by).state == state


def test_what_seeds_do_is_allowed() -> None:
    clean = (Success(0.45, 0.0), Success(0.55, 0.0))
    found = Attack("x", "", Success(0.8, 0), Success(0.549, 0), clean, (0.8, 0.5), 0.01)
    assert found.state == "passed"


def test_the_margin_is_what_chance_does_with_few_images() -> None:
    assert spread_of_auc(500, 1500) == pytest.approx(0.0149, abs=1e-4)
    drawn = torch.Generator().manual_seed(0)
    found = [
        auc(torch.randn(50, generator=drawn), torch.randn(200, generator=drawn)) for _ in range(400)
    ]
    assert float(torch.tensor(found).std()) == pytest.approx(spread_of_auc(50, 200), rel=0.15)


def test_calibration_takes_the_references_mean_away() -> None:
    one, other = (torch.tensor([1.0, 2.0]), torch.tensor([0.0])), (torch.zeros(2), torch.ones(1))
    inside, outside = calibrated((torch.tensor([3.0, 3.0]), torch.tensor([1.0])), (one, other))
    assert inside.tolist() == [2.5, 2.0]
    assert outside.tolist() == [0.5]


def test_one_reference_is_too_few() -> None:
    with pytest.raises(ValueError, match="two are needed"):
        attack("x", "", scores(0), scores(1), [scores(2)])
