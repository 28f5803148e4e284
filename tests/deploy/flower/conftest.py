"""A SuperLink for all the tests of a file, and threads to ask it with."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.deploy.flower.place import place_in


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with place_in(tmp_path_factory.mktemp("superlink")) as superlink:
        yield superlink


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as executor:
        yield executor
