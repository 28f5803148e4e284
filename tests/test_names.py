"""The names that options offer are the names that the registries have."""

from typing import get_args

import pytest

from client.merge import MERGES
from client.statistics.measure import CLUSTERINGS
from common.config.options import Stage
from server.aggregation import AGGREGATIONS, ROBUST
from server.aggregation.optimisers import OPTIMISERS
from server.clustering.rules import CENTROID_RULES


@pytest.mark.parametrize(
    ("option", "registry"),
    [
        ("merge", MERGES),
        ("aggregation", AGGREGATIONS | ROBUST),
        ("server_optimiser", OPTIMISERS),
        ("centroids", CENTROID_RULES),
        ("centroids", CLUSTERINGS),
    ],
)
def test_an_option_offers_what_there_is(option: str, registry: dict) -> None:
    assert set(get_args(Stage.model_fields[option].annotation)) == set(registry)
