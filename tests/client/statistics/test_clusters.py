"""No centroid that leaves a site stands for fewer images than the site's bound."""

import torch
import torch.nn.functional as F

from client.statistics.clusters import large_enough


def test_a_cluster_that_shrinks_below_the_bound_is_dissolved_too() -> None:
    """Five images are counted in a cluster whose centre is not the nearest to any image."""
    points = F.normalize(torch.tensor([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 6), dim=1)
    centres = torch.stack([points[0], points[-1], F.normalize(torch.tensor([1.0, 1.0]), dim=0)])
    found = large_enough(points, centres, torch.tensor([6, 6, 5]), min_count=5)
    assert found.centroids.counts.tolist() == [6, 6]
    assert found.labels.tolist() == [0] * 6 + [1] * 6
