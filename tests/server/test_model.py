"""What a stage starts from."""

import numpy as np
import pytest

from common.clustering.centroids import Centroids
from common.config import recipes
from server.model import GlobalModel

WIDTH = 1152  # of `small-convnet`'s outputs, and here of the projector's, too


@pytest.mark.parametrize("embedding", ["encoder", "projector"])
def test_a_cluster_head_starts_from_centroids_of_its_own_space_alone(embedding: str) -> None:
    """Both spaces have the same width here: it does not tell them apart."""
    options = {"encoder": "small-convnet", "clusters": 4, "parameters": f"width={WIDTH},"}
    plan = recipes.load("fedmcc").plan({**options, "embedding": f"{embedding},encoder"})
    points = np.eye(4, WIDTH, dtype=np.float32)
    model = GlobalModel(plan, 1, 28)
    assert model.width(0, "centroids") == model.width(1, "centroids") == WIDTH
    found = model.enter(1, {}, Centroids(points, np.ones(4, np.int64)))
    assert np.array_equal(found["cluster_head"], points.ravel()) == (embedding == "encoder")
