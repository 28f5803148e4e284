"""Whether two views of an image share a cluster: the figure that needs no label."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from sklearn.metrics import normalized_mutual_info_score

from client.embedding import embed_views
from client.statistics.clusters import nearest
from common.augmentations import build_augmentation
from common.config import recipes
from common.data.planned import planned_data
from common.protocol import layout
from common.protocol.messages import Reply
from common.record.reader import read_run
from common.stages import build_stage
from common.utils.seeds import generator
from deploy.engines import simulate as simulate_module
from deploy.engines.simulate import simulate
from deploy.terminal.progress import show_event, show_result
from server.measurements import Measurements
from server.run.folder import RunFolder
from tests.server.unlabelled import without_labels

K = 3
DIGITS = {"dataset": "digits", "images": 200, "sites": 1, "clusters": 10, "batch-size": 32}


def measured(*tables: list[list[int]]) -> Measurements:
    found = Measurements(K, classes=0, images=100)
    for number, table in enumerate(tables):
        views = np.array(table, np.int64)
        found.fold(Reply("score", f"site-{number}", 1, 10, tables={"views": views}))
    return found


def test_it_is_the_nmi_of_all_sites_images_together() -> None:
    one, other = [[9, 1, 0], [0, 4, 0], [0, 0, 0]], [[0, 0, 1], [1, 0, 0], [0, 0, 7]]
    first, second = [], []
    for i, j in np.ndindex(K, K):
        times = one[i][j] + other[i][j]
        first += [i] * times
        second += [j] * times
    wanted = normalized_mutual_info_score(first, second)
    assert measured(one, other).agreement()["agreement"] == pytest.approx(wanted)


def test_one_cluster_for_all_is_no_agreement_and_no_table_is_no_figure() -> None:
    assert measured([[30, 0, 0], [0, 0, 0], [0, 0, 0]]).agreement() == {"agreement": 0.0}
    assert measured([[15, 0, 0], [15, 0, 0], [0, 0, 0]]).agreement() == {"agreement": 0.0}
    assert measured([[0] * K] * K).agreement() == {} == measured().agreement()


@pytest.mark.parametrize("recipe", ["covey", "fedsimclr", "fedmcc"])
def test_a_run_ends_with_that_of_its_own_clusters(recipe: str, tmp_path: Path) -> None:
    """One site's, against the final model and clusters on views made with the same chance;
    `fedmcc`'s clusters are its head's."""
    plan = recipes.load(recipe).plan(DIGITS | {"rounds": "1"})
    folder = tmp_path / "run"
    simulate(plan, folder)
    stage = read_run(folder).stages[-1]
    final = RunFolder(folder).checkpoint()
    objective = build_stage(plan, len(plan.stages) - 1, 1, 8, 10)
    layout.load(objective.shared(), final.groups)
    data = planned_data(plan)
    with torch.no_grad():
        views = embed_views(
            objective,
            build_augmentation("auto", data.kind, 8),
            torch.from_numpy(data.images),
            plan.stages[-1].embedding,
            generator("cpu", plan.seed, "site-0", stage.round, "agreement"),
        )
    by_head, centres = stage.by == "head", torch.from_numpy(final.centroids.points)
    assert by_head == (recipe == "fedmcc")
    clusters = [view.head if by_head else nearest(view.points, centres) for view in views]
    wanted = normalized_mutual_info_score(*(each.numpy() for each in clusters))
    assert 0.1 < wanted < 1
    assert stage.figures["agreement"] == pytest.approx(wanted)


def test_without_labels_a_run_ends_with_figures_that_need_none(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(simulate_module, "planned_data", without_labels)
    options = DIGITS | {"rounds": "1", "partition": "iid"}
    simulate(recipes.load("covey").plan(options), tmp_path / "run")
    record = read_run(tmp_path / "run")
    figures = record.stages[-1].figures
    assert "nmi" not in figures and 0 < figures["agreement"] < 1
    console = Console(width=80, record=True)
    for event in [*record.rounds, *record.stages]:
        show_event(console, event, 1)
    show_result(console, record)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "agreement" in text and "evenness" in text
    assert "NMI " not in text.split("No site has labels")[0] and "kNN" not in text
