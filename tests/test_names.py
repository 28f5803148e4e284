"""The names that options offer are the names that the registries have."""

from typing import get_args

import pytest

from client.measure import CLUSTERINGS
from client.merge import MERGES
from common.options import Stage
from server.aggregation import AGGREGATIONS, ROBUST
from server.centroids import CENTROID_RULES
from server.optimisers import OPTIMISERS


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
