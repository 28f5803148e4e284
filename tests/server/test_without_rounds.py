"""Stages that train nothing: what they leave, how they resume, and who reads them."""

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.numpy import load_file

from client.statistics import measure
from client.tasks import TASKS
from client.tasks.task import Task
from client.trainer import Trainer
from common.config import recipes
from common.config.checks import check_plan
from common.data import load
from common.protocol.messages import Reply
from common.record.reader import read_run
from common.utils.errors import UserError
from deploy.engines.simulate import simulate
from deploy.evaluation.data_map import write_map
from deploy.evaluation.pooled import PROTOCOLS, Asked, evaluate_run
from deploy.terminal.progress import show_event, show_result, summary_rows
from server.clustering import lloyd
from server.conversation.asking import Asking
from server.report import write_report
from tests.builders.records import events

SMALL = {"dataset": "digits", "images": 150, "sites": 3, "local-epochs": 1, "batch-size": 50}
ROUNDS = {"kfed": "1,0", "fedkmeans": "1,0", "fedkmeans-pixels": "0"}


def plan(recipe: str, **options):
    return recipes.load(recipe).plan({**SMALL, "rounds": ROUNDS[recipe], **options})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished run of a recipe, made when it is first asked for."""
    made: dict[str, Path] = {}

    def run(recipe: str) -> Path:
        if recipe not in made:
            made[recipe] = tmp_path_factory.mktemp(recipe) / "run"
            simulate(plan(recipe), made[recipe])
        return made[recipe]

    return run


@pytest.mark.parametrize("recipe", ROUNDS)
def test_a_stage_without_rounds_ends_with_all_its_figures(finished, recipe: str) -> None:
    folder = finished(recipe)
    last = events(folder, "stage")[-1]
    assert np.sum(last["table"]) == sum(last["cluster_sizes"]) == SMALL["images"]
    for score in ("acc", "nmi", "ari", "purity", "knn", "linear"):
        assert 0 < last[score] <= 1
    assert last["effective_rank"] > 1 and last["bytes_up"] > 0
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    points = load_file(folder / "centroids.safetensors")["points"]
    assert np.linalg.norm(points, axis=1) == pytest.approx(np.ones(10), abs=1e-5)
    for site in ("site-0", "site-1", "site-2"):
        assert (folder / "sites" / site / "run" / "assignments.csv").exists()


def test_one_more_stage_of_the_same_objective_leaves_the_encoder_as_it_was(
    finished, tmp_path: Path
) -> None:
    first = plan("kfed").model_copy(update={"stages": plan("kfed").stages[:1]})
    simulate(first, tmp_path / "run")
    encoders = [f / "encoder.safetensors" for f in (tmp_path / "run", finished("kfed"))]
    one, two = map(load_file, encoders)
    assert one.keys() == two.keys() and all(np.array_equal(one[k], two[k]) for k in one)


def test_pixels_clustered_by_sums_are_pooled_k_means_of_the_pixels(finished) -> None:
    """Standardised as the encoder does, each image of unit length, nearest centroid: the sizes are
    those of the run, and one more pooled step moves no centroid."""
    sent = load_file(finished("fedkmeans-pixels") / "centroids.safetensors")
    images = load("digits", images=SMALL["images"], seed=0).images.reshape(SMALL["images"], -1)
    points = (images / 255 - 0.5) / 0.25
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    label = (points @ sent["points"].T).argmax(axis=1)
    sizes = np.bincount(label, minlength=10)
    last = events(finished("fedkmeans-pixels"), "stage")[-1]
    assert last["cluster_sizes"] == sizes.tolist()
    # A site leaves out clusters of fewer than 5 images: most, not all, of a centroid's are summed.
    moved = np.array([points[label == c].sum(axis=0) for c in range(10)])
    moved /= np.linalg.norm(moved, axis=1, keepdims=True)
    assert (moved * sent["points"]).sum(axis=1).min() > 0.97


class Killed(BaseException):
    """Nothing catches this, as nothing catches a kill."""


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [
        ("fedkmeans", "lloyd"),
        ("fedkmeans-pixels", "lloyd"),
        ("fedkmeans-pixels", "score"),
        ("kfed", "score"),
    ],
)
def test_a_run_killed_in_such_a_stage_ends_with_the_same_bits(
    finished, tmp_path: Path, monkeypatch, recipe: str, kind: str
) -> None:
    last = len(plan(recipe).stages) - 1
    original = Asking.hold
    held = 0

    def dying(self, grid, state, question):
        nonlocal held
        exchange = original(self, grid, state, question)
        held += question.kind == kind and state.closed == last
        if held == (2 if kind == "lloyd" else 1):
            raise Killed
        return exchange

    with monkeypatch.context() as patched:
        patched.setattr(Asking, "hold", dying)
        with pytest.raises(Killed):
            simulate(plan(recipe), tmp_path / "run")
    simulate(plan(recipe), tmp_path / "run")
    assert [e["stage"] for e in events(tmp_path / "run", "stage")] == list(range(last + 1))
    for result in ("encoder.safetensors", "centroids.safetensors"):
        assert (tmp_path / "run" / result).read_bytes() == (finished(recipe) / result).read_bytes()


# The model travels once in such a stage: the sites remember their embeddings.


@pytest.mark.parametrize("forgetful", [False, True])
def test_the_model_is_sent_again_only_to_sites_that_forgot(
    finished, tmp_path: Path, monkeypatch, forgetful: bool
) -> None:
    handle = Trainer.handle
    sent: set[tuple[str, str, bool]] = set()

    def restarted(self, instruction):
        if forgetful and self.site == "site-1":
            self.memory.forget()
        sent.add((instruction.kind, self.site, bool(instruction.groups)))
        return handle(self, instruction)

    monkeypatch.setattr(Trainer, "handle", restarted)
    simulate(plan("fedkmeans"), tmp_path / "run")
    remembered = {item for item in sent if item[0] in ("lloyd", "score")}
    sites = ("site-0", "site-1", "site-2")
    without = {(kind, site, False) for kind in ("lloyd", "score") for site in sites}
    again = {("lloyd", "site-1", True), ("score", "site-1", True)} if forgetful else set()
    assert remembered == without | again
    assert all(model for kind, _, model in sent - remembered if kind != "hello")
    one, two = (f / "centroids.safetensors" for f in (tmp_path / "run", finished("fedkmeans")))
    assert one.read_bytes() == two.read_bytes()
    assert not events(tmp_path / "run", "warning")


# Federated k-means under partial participation.


def test_each_step_asks_its_own_seeded_part_of_the_sites(tmp_path: Path, monkeypatch) -> None:
    asked: list[tuple[str, tuple[str, ...]]] = []
    original = Asking.open

    def watched(self, state, question, **kwargs):
        exchange = original(self, state, question, **kwargs)
        asked.append((question.kind, tuple(exchange.whom.nodes)))
        return exchange

    monkeypatch.setattr(Asking, "open", watched)
    monkeypatch.setattr(lloyd, "STEPS_OF_EACH", 4)
    for name in ("one", "two"):
        simulate(plan("fedkmeans-pixels", participation=0.5, sites=4), tmp_path / name)
    half = len(asked) // 2
    assert asked[:half] == asked[half:]
    steps = [sites for kind, sites in asked[:half] if kind == "lloyd"]
    assert len(steps) == 8 and all(len(sites) == 2 for sites in steps) and len(set(steps)) > 1
    assert all(len(sites) == 4 for kind, sites in asked if kind in ("assess", "score"))
    one, two = (tmp_path / name / "centroids.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (lambda reply: {"tables": {}}, "tables.lloyd: missing"),
        (lambda reply: {"moments": {}}, "moments.sums: missing"),
        (
            lambda reply: {"sums": {**reply.sums, "inertia.0": -1000.0}},
            "sums.inertia.0: -1000, of 50 images",
        ),
    ],
)
def test_a_step_without_all_its_sums_is_refused_by_name(
    tmp_path: Path, monkeypatch, mistake, said: str
) -> None:
    original = TASKS["lloyd"]

    def wrong(task: Task) -> Reply:
        reply = original(task)
        return replace(reply, **mistake(reply)) if task.data.site == "site-1" else reply

    monkeypatch.setitem(TASKS, "lloyd", wrong)
    simulate(plan("fedkmeans-pixels", partition="iid"), tmp_path / "run")
    texts = [event["text"] for event in events(tmp_path / "run", "warning")]
    assert any(f"site-1 refused: {said}" in text for text in texts)


def test_one_site_gets_the_k_means_of_its_own_images(tmp_path: Path) -> None:
    the_plan = plan("fedkmeans-pixels", sites=1, partition="iid", **{"min-count": 1})
    simulate(the_plan, tmp_path / "run")
    centres = torch.from_numpy(load_file(tmp_path / "run" / "centroids.safetensors")["points"])
    images = torch.from_numpy(load("digits", images=SMALL["images"], seed=0).images)
    points = torch.nn.functional.normalize((images.flatten(1) / 255 - 0.5) / 0.25, dim=1)
    moved = measure.lloyd_sums(points, centres, 1)
    expected = moved.sums / np.linalg.norm(moved.sums, axis=1, keepdims=True)
    np.testing.assert_allclose(centres.numpy(), expected, atol=1e-4)


# Who reads them.


def test_what_has_no_loss_cannot_have_rounds() -> None:
    check_plan(plan("fedkmeans-pixels"))
    with pytest.raises(UserError, match="frozen is solved, not trained: rounds must be 0") as told:
        check_plan(plan("fedkmeans-pixels", rounds="3"))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("recipe", ["fedkmeans-pixels", "kfed"])
def test_the_report_counts_the_rounds_that_there_are(finished, recipe: str) -> None:
    html = write_report(finished(recipe)).read_text(encoding="utf-8")
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        assert "nan" not in svg
        ElementTree.fromstring(svg)
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
    planned = plan(recipe).rounds
    assert f"rounds {planned} time" in text
    last = events(finished(recipe), "stage")[-1]
    for score in ("acc", "nmi", "ari", "knn", "linear"):
        assert f"{last[score]:.3f}" in text
    assert "Every site answered each time it was asked." in text
    assert ("against rounds" in html) == (planned > 0)
    assert re.search(r"centroids (k-means )?(lloyd|k-fed)", text)


@pytest.mark.parametrize("recipe", ROUNDS)
def test_the_lines_and_the_table_of_a_run_fit_and_have_no_means_of_nothing(
    finished, recipe: str
) -> None:
    record = read_run(finished(recipe))
    console = Console(width=80, record=True)
    for event in [*record.rounds, *record.stages]:
        show_event(console, event, plan(recipe).rounds)
    show_result(console, record)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    (row,) = (line for line in lines if line.split()[:1] == ["clusters"])
    assert row.split()[-2:] == ["–", "–"]
    rows = summary_rows(record)
    assert rows[-1]["rounds"] == 0 and rows[-1]["seconds_per_round"] is None
    assert all(row["bytes_up_per_round"] > 0 for row in rows[:-1])


@pytest.mark.parametrize("recipe", ["fedkmeans-pixels", "kfed"])
def test_such_a_run_can_be_drawn_and_evaluated(finished, recipe: str, monkeypatch) -> None:
    monkeypatch.setattr("deploy.evaluation.data_map.IMAGES", 60)
    write_map(finished(recipe))
    points = json.loads((finished(recipe) / "map.json").read_text())
    assert len(points["x"]) == len(points["cluster"]) == 60
    figures = evaluate_run(finished(recipe), Asked(), Console(quiet=True))
    assert figures["knn"] > 0.3


def test_an_encoder_without_parameters_can_be_evaluated_by_every_protocol(finished) -> None:
    asked = Asked(protocols=PROTOCOLS)
    figures = evaluate_run(finished("fedkmeans-pixels"), asked, Console(quiet=True))
    assert figures["linear"] > 0.3
