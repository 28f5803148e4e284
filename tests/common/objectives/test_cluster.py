"""The head of centroids keeps its digits and starts from centroids of its own width alone."""

import torch

from common.models.heads import CentroidHead

K = 4


def test_the_centroids_head_is_in_float32_under_mixed_precision() -> None:
    """Cosines in bfloat16 over a temperature of .1 would be wrong by a hundredth of a logit."""
    torch.manual_seed(0)
    head, h = CentroidHead(64, K, 0.1), torch.randn(20, 64)
    plain = head(h)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(h), plain)


def test_the_head_starts_from_centroids_of_its_shape_and_leaves_others_alone() -> None:
    head = CentroidHead(6, K, 0.1)
    before = head.centroids.detach().clone()
    head.start_from(torch.ones(K, 5))
    assert torch.equal(head.centroids, before)
    head.start_from(torch.eye(K, 6))
    assert torch.equal(head.centroids, torch.eye(K, 6))
    assert head(torch.eye(6)[:K]).argmax(dim=1).tolist() == list(range(K))
