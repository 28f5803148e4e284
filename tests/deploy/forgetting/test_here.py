"""`covey forget` where the images are: the result is that of a run that never had them."""

import csv
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file

from client.site import open_site
from client.workbench import Workshop, pick_device
from common.config.options import Plan
from common.data.partition import Partition
from common.data.planned import planned_data, planned_partition
from common.learned.file import read_learned
from common.record.reader import read_run, read_settings
from common.utils.errors import UserError
from deploy.engines.in_process import grid_of
from deploy.engines.simulate import simulate
from deploy.evaluation.data_map import embedded_sample
from deploy.evaluation.pooled import Asked, evaluate_run, pool
from deploy.evaluation.trained import load_trained
from deploy.forgetting import here, preparing
from deploy.forgetting.choosing import Wish, read_list
from deploy.forgetting.here import forget_here, plan_here
from server.app import run
from server.run.folder import RunFolder
from tests.builders.runs import plan

QUIET = Console(quiet=True)
OPTIONS = {
    "images": 300,
    "encoder": "noise-filters",
    "rounds": 0,
    "sites": 4,
    "parameters": "landmarks=60 images=10",
}
QUICK = "fedkmeans-pixels"  # trains nothing, and solves no large matrix
FEW = {"sites": 4, "images": 300, "encoder": "pixels", "rounds": 0, "partition": "iid"}
SITE, INDEX = "site-1", 1


def planned(recipe: str = "covey-exact", **options: object) -> Plan:
    usual = {"covey-exact": OPTIONS, QUICK: FEW}.get(recipe, {"sites": 4})
    return plan(recipe, **{**usual, **options})


@pytest.fixture
def finished(tmp_path: Path) -> Callable[..., Path]:
    def made(recipe: str = "covey-exact", **options: object) -> Path:
        folder = tmp_path / "runs" / "before"
        simulate(planned(recipe, **options), folder)
        return folder

    return made


def random_files(folder: Path, count: int = 20) -> Wish:
    names = [name for name, _ in assigned(folder)]
    rows = np.random.default_rng(0).permutation(len(names))[:count]
    return Wish(names=tuple(names[row] for row in rows))


def assigned(folder: Path, site: str = SITE) -> list[tuple[str, int]]:
    with (folder / "sites" / site / folder.name / "assignments.csv").open() as file:
        return [(line["image"], int(line["cluster"])) for line in csv.DictReader(file)]


def smallest_cluster(folder: Path) -> int:
    clusters = [cluster for _, cluster in assigned(folder)]
    return min(set(clusters), key=clusters.count)


def never_had(the_plan: Plan, gone: set[str], folder: Path) -> Path:
    """A run of the same plan at sites that never had the images with these names of `SITE`."""
    data = planned_data(the_plan)
    workshop, sites = Workshop(pick_device("cpu")), []
    for index, part in enumerate(planned_partition(the_plan, data).sites):
        kept = [i for i in part if index != INDEX or data.names[i] not in gone]
        if kept:
            name = f"site-{index}"
            own = data.subset(np.array(kept))
            sites.append(open_site(name, own, folder / "sites" / name, workshop))
    fewer = the_plan.model_copy(update={"sites": len(sites), "clusters": 10})
    run(grid_of(sites), fewer, RunFolder(folder), "in-process")
    return folder


def same(one: Path, other: Path) -> bool:
    """All that the two runs have learned, and every figure, to the bit."""
    a, b = (read_learned(path / "model.covey") for path in (one, other))
    assert a.tensors.keys() == b.tensors.keys() and len(a.tensors) > 1
    figures = [[stage.figures for stage in read_run(path).stages][-1] for path in (one, other)]
    return (
        all(array.tobytes() == b.tensors[name].tobytes() for name, array in a.tensors.items())
        and figures[0] == figures[1]
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
    "going on": (going_on, "is going on: forget when it has ended"),
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
    "before the run begins": (here, "simulate"),
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
    late = kill == "before its report"
    assert late or read_settings(before) == settings  # nothing has changed yet
    after = before.parent / "before-without-1"
    if not late:
        assert forget_here(asked(), QUIET) == after
    never = never_had(planned(QUICK, images=120), set(wish.names), tmp_path / "never")
    assert same(after, never)
    assert read_settings(before).superseded == after.name
    assert sorted(path.name for path in before.parent.iterdir()) == ["before", after.name]


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


def test_both_reports_say_who_took_back_how_many_and_which_run_is_in_whose_place(
    finished: Callable[..., Path],
) -> None:
    before = finished(QUICK)
    names = random_files(before, 4).names
    after = forget_here(plan_here(before, SITE, Wish(names=names)), QUIET)
    old, new = ((path / "report.html").read_text() for path in (before, after))
    assert "superseded" in old and after.name in old
    assert "in the place of" in new and "site-1: 4" in new
