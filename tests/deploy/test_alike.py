"""Images that are all alike, or nearly: a run ends with figures, and says once what is wrong."""

import json
import warnings

import numpy as np
import pytest

from client.gallery.layout import flattened, flattened_apart
from tests.builders.records import events
from tests.deploy.helpers import covey

SMALL = ("--sites", "2", "--partition", "iid", "--rounds", "1", "--local-epochs", "1")
IMAGES = 40


def images(kind):
    """(N, 8, 8) or (N, 8, 8, 3) images."""
    two = np.random.default_rng(0).integers(0, 255, (2, 8, 8), dtype=np.uint8)
    return {
        "black": np.zeros((IMAGES, 8, 8), np.uint8),
        "one colour": np.full((IMAGES, 8, 8, 3), (200, 10, 10), np.uint8),
        "one image": two[np.zeros(IMAGES, int)],
        "two images": two[np.arange(IMAGES) % 2],
    }[kind]


@pytest.mark.parametrize("kind", ["black", "one colour", "one image", "two images"])
@pytest.mark.parametrize("recipe", ["fedsimclr", "covey"])
def test_a_run_on_images_that_are_alike_ends_with_figures(recipe, kind, tmp_path, capsys):
    data, run = tmp_path / "data.npz", tmp_path / "run"
    pixels = images(kind)
    labels = np.arange(IMAGES) % 2
    np.savez(data, images=pixels, labels=labels)
    options = (*SMALL, "--dataset", str(data), "--encoder", "small-convnet", "--batch-size", "16")
    with warnings.catch_warnings(record=True) as raw:
        warnings.simplefilter("always")
        code, said, complaints = covey(
            capsys, "simulate", recipe, *options, "--run-folder", str(run), "--json", f"{run}.json"
        )
    assert code == 0, said + complaints
    assert not [w for w in raw if "sklearn" in w.filename or "numpy" in w.filename]
    assert (said + complaints).count("collapsing") <= 1
    if kind != "two images":
        (warned,) = [e for e in events(run, "warning") if "collapsing" in e["text"]]
        assert "or they are all alike" in warned["text"]
    figures = json.loads((tmp_path / "run.json").read_text())["stages"][-1]
    assert figures["acc"] == (1.0 if kind == "two images" else 0.5)
    assert np.isfinite([v for v in figures.values() if isinstance(v, float)]).all()
    places = json.loads((run / "map.json").read_text())
    assert len(set(zip(places["x"], places["y"], strict=True))) == len(np.unique(pixels, axis=0))


@pytest.mark.parametrize("different", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("each", [1, 2, 20])
def test_however_few_points_differ_they_have_places(different, each):
    points = np.eye(8)[:different].repeat(each, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        places = flattened(points, seed=0)
    assert places.shape == (different * each, 2) and np.isfinite(places).all()
    assert len(np.unique(places, axis=0)) >= different


@pytest.mark.parametrize("count", [2, 40])
def test_a_process_of_its_own_gives_the_same_places(count):
    points = np.random.default_rng(0).normal(size=(count, 5)).astype(np.float32)
    assert (flattened_apart(points, 3) == flattened(points, 3)).all()
