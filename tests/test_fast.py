"""What `make test-fast` names is there."""

import re
from pathlib import Path

import pytest

from tests.fast import FAST, SLOW

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", [*FAST, *SLOW])
def test_each_file_and_test_of_the_fast_ones_is_there(name: str) -> None:
    path, _, test = name.partition("[")[0].partition("::")
    assert (ROOT / path).exists()
    assert not test or re.search(rf"^def {test}", (ROOT / path).read_text(), re.M)
