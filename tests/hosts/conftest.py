"""`make hosts-test`: these tests need machines of their own, which are network namespaces."""

import pytest

from tests.hosts.network import lacking


@pytest.fixture(autouse=True, scope="session")
def _needs() -> None:
    """Say what is missing, and skip every test, where there can be no such network."""
    if why := lacking():
        pytest.skip(why)
