"""The federation that the rows share, made by the first that needs it."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.federation import Federation

LONGEST = 3000  # seconds for one row, with the federation's start, on a busy machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "faults" in item.path.parts:
            item.add_marker(pytest.mark.timeout(LONGEST))


@pytest.fixture(scope="session")
def server() -> Iterator[Federation]:
    """A server that no site has joined yet."""
    if sys.platform != "linux":
        pytest.skip("needs Linux: it looks into /proc")
    home = Path(tempfile.mkdtemp(prefix="cf-"))
    made = Federation(home)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def federation(server: Federation) -> Federation:
    """The server with two sites, "north" and "south"; its deadline fits this machine."""
    server.join("north")
    server.join("south")
    server.calibrate()
    return server
