"""k-means on pixels stands beside the figures from labels, where the images are on this machine."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from common.clustering.kmeans import kmeans
from common.data import load
from common.record.reader import read_run
from deploy.engines.runs import conclude
from deploy.engines.simulate import simulate
from deploy.evaluation.pixels import write_baseline
from tests.builders.runs import plan

OPTIONS = {"images": 300, "rounds": "", "encoder": ""}


def test_it_is_what_k_means_of_the_pooled_pixels_gets(tmp_path: Path) -> None:
    simulate(plan("fedkmeans-pixels", **OPTIONS), tmp_path)
    console = Console(record=True, width=200, quiet=False, file=(tmp_path / "screen").open("w"))
    conclude(tmp_path, console)
    found = read_run(tmp_path).pixels
    assert found is not None and found.images == 300
    data = load("digits", images=300)
    points = data.images.reshape(300, -1)
    theirs = KMeans(10, n_init=10, random_state=0).fit(points).labels_
    wanted = normalized_mutual_info_score(data.labels, theirs)
    assert found.figures["nmi"] == pytest.approx(wanted, abs=0.06)  # other starts
    screen, page = console.export_text(), (tmp_path / "report.html").read_text()
    for text in (" ".join(screen.split()), page):
        assert (
            f"k-means on their pixels, pooled on this machine: ACC {found.figures['acc']:.3f}"
            in text
        )
        assert "Their largest class is" in text


def test_an_answer_over_the_same_images_and_as_many_clusters_takes_that_of_its_run(
    tmp_path: Path, monkeypatch
) -> None:
    simulate(plan("fedkmeans-pixels", **OPTIONS), tmp_path / "run")
    write_baseline(tmp_path / "run")
    asked = {"of": "run", "kind": "choose-k", "low": 2, "high": 3}
    for name, seed in (("same", 0), ("other", 1)):
        shutil.copytree(tmp_path / "run", tmp_path / name)
        path = tmp_path / name / "run.json"
        told = json.loads(path.read_text())
        told["plan"]["seed"] = told["plan"]["seed"] + seed
        path.write_text(json.dumps({**told, "follow_up": asked}))
        (tmp_path / name / "pixels.json").unlink()
    called = []
    monkeypatch.setattr(
        "deploy.evaluation.pixels.kmeans", lambda *_, **__: called.append(1) or kmeans(*_, **__)
    )
    write_baseline(tmp_path / "same")
    assert not called
    assert read_run(tmp_path / "same").pixels == read_run(tmp_path / "run").pixels
    write_baseline(tmp_path / "other")
    assert called and read_run(tmp_path / "other").pixels is not None


def test_without_labels_there_is_none(tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", images=load("digits").images[:100])
    data = str(tmp_path / "some.npz")
    simulate(plan("fedkmeans-pixels", **OPTIONS | {"images": 0, "dataset": data}), tmp_path / "run")
    write_baseline(tmp_path / "run")
    assert read_run(tmp_path / "run").pixels is None


def test_real_sites_are_not_asked_for_means_of_pixels(tmp_path: Path) -> None:
    simulate(plan("fedkmeans-pixels", **OPTIONS), tmp_path)
    (tmp_path / "partition.json").unlink()
    write_baseline(tmp_path)
    assert read_run(tmp_path).pixels is None
