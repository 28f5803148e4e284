"""The script for a GPU, at a scale that a test can wait for."""

import pytest
import torch

from client.features import rounded
from common.data import load
from tests.benchmarks.scripts import script

closing, training, gpu = script("_closing"), script("_pooled_training"), script("gpu")
CPU = torch.device("cpu")


def trained(said: list[str], **more: object) -> torch.nn.Module:
    how = training.Training(epochs=4, batch=16, rate=0.01, **more)
    return training.train(how, load("digits", images=64, seed=0), 0, CPU, said.append)


def test_training_lowers_the_loss_and_is_repeatable() -> None:
    said: list[str] = []
    one, other = trained(said), trained([])
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in said]
    assert len(losses) == 4 and losses[-1] < losses[0]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_no_time_is_no_step_but_the_start() -> None:
    said: list[str] = []
    started = trained(said, seconds=1e-9)
    assert said == []
    random = trained([], seconds=1e-9, start=False)
    filters = [next(net.parameters()) for net in (started, random)]
    assert not torch.equal(*filters)


def test_features_beside_each_other_are_each_as_long_and_whole_numbers_again() -> None:
    chance = torch.Generator().manual_seed(0)
    rows = [rounded(torch.randn(5, width, generator=chance)) for width in (3, 40)]
    one, other = (closing.Seen(r, (r, r), (r, r), r, 1.0) for r in rows)
    both = closing.beside(one, other)
    assert both.test.shape == (5, 43) and both.test.dtype == torch.int16
    parts = both.plain.double().split([3, 40], dim=1)
    lengths = [part.norm(dim=1) / 2**14 for part in parts]
    assert all((length - 0.5**0.5).abs().max() < 0.01 for length in lengths)


@pytest.mark.parametrize(
    ("nmi", "iid", "said"),
    [(0.46, 0.5, "are reached"), (0.46, 0.6, "not reached"), (0.44, 0.3, "not reached")],
)
def test_the_aims_are_judged_by_what_was_chosen_without_labels(
    nmi: float, iid: float, said: str
) -> None:
    rows = [
        {"features": "chosen", "partition": "p-skew(1.0)", "agreement": 0.5, "nmi test": nmi},
        {"features": "chosen", "partition": "iid", "agreement": 0.1, "nmi test": iid},
        {"features": "better", "partition": "p-skew(1.0)", "agreement": 0.4, "nmi test": 0.9},
        {"features": "better", "partition": "iid", "agreement": 0.9, "nmi test": 0.9},
    ]
    assert gpu.verdict(rows).startswith("chosen, ") and said in gpu.verdict(rows)
