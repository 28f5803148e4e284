"""`covey forget` where the images are: the result is that of a run that never had them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from common.data.partition import Partition
from common.record.reader import read_run, read_settings
from common.utils.errors import UserError
from deploy.coordinator.run_list import runs_in
from deploy.evaluation.data_map import embedded_sample
from deploy.evaluation.pooled import Asked, evaluate_run, pool
from deploy.evaluation.trained import load_trained
from deploy.forgetting.choosing import Wish
from deploy.forgetting.here import forget_here, plan_here
from tests.builders.forgetting import (
    QUICK,
    QUIET,
    SITE,
    assigned,
    never_had,
    planned,
    random_files,
    same,
    smallest_cluster,
)

WISHES: Mapping[str, Callable[[Path], Wish]] = {
    "random files": random_files,
    "a cluster": lambda folder: Wish(cluster=smallest_cluster(folder)),
    "a whole site": lambda _: Wish(everything=True),
}


@pytest.mark.parametrize("partition", ["iid", "p-skew(1.0)"])
@pytest.mark.parametrize("wish", WISHES)
def test_the_result_is_to_the_bit_that_of_a_run_that_never_had_them(
    finished: Callable[..., Path], tmp_path: Path, wish: str, partition: str
) -> None:
    before = finished(partition=partition)
    wanted = WISHES[wish](before)
    after = forget_here(plan_here(before, SITE, wanted), QUIET)
    names = {n for n, c in assigned(before) if n in wanted.names or c == wanted.cluster}
    gone = {n for n, _ in assigned(before)} if wanted.everything else names
    assert gone and same(after, never_had(planned(partition=partition), gone, tmp_path / "never"))
    assert not same(after, before)
    record = read_settings(after)
    assert record.forgetting is not None and record.forgetting.images == {SITE: len(gone)}
    assert record.forgetting.method == "exact"
    assert sum(record.partition.sizes) == 300 - len(gone)
    assert (SITE in record.sites) is not wanted.everything
    assert read_settings(before).superseded == after.name


def test_forgetting_again_goes_on_from_the_run_that_is_in_the_place(
    finished: Callable[..., Path], tmp_path: Path
) -> None:
    before = finished(partition="iid")
    names = [name for name, _ in assigned(before)]
    first = forget_here(plan_here(before, SITE, Wish(names=tuple(names[:5]))), QUIET)
    with pytest.raises(UserError, match="before-without-1 is in its place"):
        plan_here(before, SITE, Wish(names=tuple(names[:5])))
    with pytest.raises(UserError, match=r"no image '.*' in this run \(and 4 more\)"):
        plan_here(first, SITE, Wish(names=tuple(names[:5])))
    second = forget_here(plan_here(first, SITE, Wish(names=tuple(names[5:9]))), QUIET)
    assert second.name == "before-without-2"
    assert same(second, never_had(planned(partition="iid"), set(names[:9]), tmp_path / "never"))
    record = read_settings(second)
    assert record.forgetting.images == {SITE: 4} and record.withdrawn == {SITE: 9}


def test_a_trained_encoder_stays_and_what_closes_the_run_is_solved_anew(
    finished: Callable[..., Path],
) -> None:
    before = finished("covey")
    after = forget_here(plan_here(before, SITE, random_files(before, 5)), QUIET)
    encoders = [(path / "encoder.safetensors").read_bytes() for path in (before, after)]
    assert encoders[0] == encoders[1]
    projectors = [load_file(path / "projector.safetensors") for path in (before, after)]
    assert any((a != projectors[1][name]).any() for name, a in projectors[0].items())
    record = read_run(after)
    assert record.run.forgetting.method == "exact-sums" and not record.rounds
    assert sum(record.stages[-1].cluster_sizes) == 115


def test_a_projector_that_was_trained_is_not_taken_over(finished: Callable[..., Path]) -> None:
    before = finished("fedsimclr")
    after = forget_here(plan_here(before, SITE, random_files(before, 5)), QUIET)
    old, new = (load_file(path / "checkpoint.safetensors") for path in (before, after))
    alike = {name: old[name].tobytes() == new[name].tobytes() for name in new if name in old}
    assert alike["group/encoder"] and not alike["group/projector"]
    assert not (after / "projector.safetensors").exists()


def test_retraining_is_the_run_that_never_had_them(
    finished: Callable[..., Path], tmp_path: Path
) -> None:
    before = finished("covey", rounds=1)
    wish = random_files(before, 5)
    after = forget_here(plan_here(before, SITE, wish, "retrain"), QUIET)
    assert same(after, never_had(planned("covey", rounds=1), set(wish.names), tmp_path / "never"))


@pytest.mark.parametrize("method", ["fine-tune", "not"])
def test_the_last_round_is_trained_again_from_the_encoder_with_a_new_projector(
    finished: Callable[..., Path], method: str
) -> None:
    before = finished("fedsimclr")
    asked = plan_here(before, SITE, random_files(before, 5), method)
    assert asked.start is not None and asked.start.round == 1
    old = load_file(before / "checkpoint.safetensors")
    kept = asked.start.groups["encoder"] == old["group/encoder"]
    first = 288  # of a convolution of 32 filters of 3 × 3 pixels, or a multiple
    assert kept[first * 2 :].mean() > 0.99 and bool(kept.all()) is (method == "fine-tune")
    assert np.abs(asked.start.groups["encoder"]) == pytest.approx(np.abs(old["group/encoder"]))
    assert (asked.start.groups["projector"] != old["group/projector"]).any()
    record = read_run(forget_here(asked, QUIET))
    assert [event.round for event in record.rounds] == [2]
    assert record.run.forgetting.method == method and record.stages


def test_a_partition_that_was_changed_is_not_forgotten_from(
    finished: Callable[..., Path],
) -> None:
    before = finished(QUICK)
    parts = Partition.load(before / "partition.json")
    other = Partition(parts.spec, parts.seed, tuple(reversed(parts.sites)))
    other.save(before / "partition.json")
    with pytest.raises(UserError, match="are not those that it had in the run"):
        plan_here(before, SITE, Wish(everything=True))


def test_what_is_drawn_and_evaluated_of_the_new_run_has_no_image_that_was_taken_back(
    finished: Callable[..., Path],
) -> None:
    before = finished("covey-exact", partition="iid", images=120)
    names = {name for name, _ in assigned(before)}
    after = forget_here(plan_here(before, SITE, Wish(everything=True)), QUIET)
    trained = load_trained(after, "cpu")
    sample, _ = embedded_sample(trained, 120)
    assert len(sample.names) == 90 and names.isdisjoint(sample.names)
    pooled = pool(trained, Asked(device="cpu"))
    assert names.isdisjoint(pooled.train.names) and names.isdisjoint(pooled.test.names)
    sites = evaluate_run(after, Asked(federated=True, protocols=("knn",), device="cpu"), QUIET)
    assert (sites["sites"], sites["images"]) == (3, 90)


def test_the_list_of_runs_says_which_is_superseded(finished: Callable[..., Path]) -> None:
    before = finished(QUICK, images=120)
    forget_here(plan_here(before, SITE, random_files(before, 4)), QUIET)
    lines = {line.id: line.status for line in runs_in(before.parent)}
    assert lines == {"before": "superseded", "before-without-1": "finished"}


def test_both_reports_say_who_took_back_how_many_and_which_run_is_in_whose_place(
    finished: Callable[..., Path],
) -> None:
    before = finished(QUICK)
    names = random_files(before, 4).names
    after = forget_here(plan_here(before, SITE, Wish(names=names)), QUIET)
    old, new = ((path / "report.html").read_text() for path in (before, after))
    assert '<span class="status superseded">' in old and "models that sites received" in old
    assert after.name in old
    assert "in the place of" in new and "site-1: 4" in new and "in all" not in new
    assert '<span class="status finished">' in new
