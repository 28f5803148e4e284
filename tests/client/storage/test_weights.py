"""A file with weights that a site takes from its server: whole and right, or not at all."""

import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest

import client.storage.weights as intake
import common.models.pretrained.store as store
from client.storage.weights import parts_had, take_part
from common.config import recipes
from common.config.encoder import Network
from common.config.options import Plan
from common.models.pretrained.store import WeightStore
from common.utils.errors import UserError

DATA = np.random.default_rng(0).integers(0, 256, 2500, dtype=np.uint8)
DIGEST = hashlib.sha256(DATA.tobytes()).hexdigest()


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path) -> None:
    """Parts of 1,000 bytes, and no other file of this machine."""
    for module in (intake, store):
        monkeypatch.setattr(module, "PART", 1000)
    monkeypatch.setenv("COVEY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COVEY_WEIGHTS", str(tmp_path / "common"))


def plan(digest: str = DIGEST, size: int = len(DATA)) -> Plan:
    three = (0.5,) * 3
    how = Network(size=size, side=8, mean=three, std=three, interpolation="bilinear", crop=1)
    known = {"encoder": "timm:some", "weights": digest, "network": how}
    return recipes.load("covey-exact").plan().model_copy(update=known)


def part(number: int) -> np.ndarray:
    return DATA[1000 * (number - 1) : 1000 * number]


def taking(folder: Path) -> WeightStore:
    return WeightStore((folder,), folder)


def there(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_parts_become_a_file_that_is_found_by_its_digest(tmp_path: Path) -> None:
    here = taking(tmp_path / "weights")
    for number in (1, 2, 3):
        assert parts_had(here, plan()) == number - 1
        assert here.find(DIGEST) is None  # nothing is used before it is whole
        take_part(here, plan(), number, part(number))
    found = here.find(DIGEST, len(DATA))
    assert found is not None and found.path.read_bytes() == DATA.tobytes()
    assert parts_had(here, plan()) is None and there(tmp_path / "weights") == [
        f"{DIGEST}.safetensors"
    ]


def test_what_was_cut_off_is_gone_on_with_from_its_last_whole_part(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    for number in (1, 2):
        take_part(taking(folder), plan(), number, part(number))
    (cut,) = folder.iterdir()
    with cut.open("ab") as file:
        file.truncate(1700)
    assert parts_had(taking(folder), plan()) == 1
    for number in (2, 3):
        take_part(taking(folder), plan(), number, part(number))
    assert taking(folder).find(DIGEST) is not None


def test_what_is_whole_and_was_not_looked_at_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / f".{DIGEST}.part").write_bytes(b"\0" * len(DATA))
    assert taking(folder).find(DIGEST) is None and parts_had(taking(folder), plan()) == 2


def test_other_bytes_are_thrown_away(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    take_part(taking(folder), plan(), 1, part(1))
    take_part(taking(folder), plan(), 2, part(1))
    with pytest.raises(UserError, match="another SHA-256 than the plan names; thrown away"):
        take_part(taking(folder), plan(), 3, part(3))
    assert there(folder) == [] and parts_had(taking(folder), plan()) == 0


@pytest.mark.parametrize(
    ("number", "data"),
    [
        (0, part(1)),
        (2, part(2)),
        (1, part(1)[:-1]),
        (1, DATA),
        (-1, part(1)),
        (2**40, part(1)),
    ],
)
def test_a_part_that_is_not_the_next_one_changes_nothing(
    tmp_path: Path, number: int, data: np.ndarray
) -> None:
    with pytest.raises(UserError, match="weights: "):
        take_part(taking(tmp_path / "weights"), plan(), number, data)
    assert there(tmp_path / "weights") == []


def test_one_file_is_coming_at_a_time(tmp_path: Path) -> None:
    here = taking(tmp_path / "weights")
    take_part(here, plan("a" * 64), 1, part(1))
    take_part(here, plan(), 1, part(1))
    assert there(tmp_path / "weights") == [f".{DIGEST}.part"]


def test_a_site_takes_nothing_by_itself_and_nothing_without_bound(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    assert parts_had(WeightStore((tmp_path,)), plan()) is None
    with pytest.raises(UserError, match="this site takes none"):
        take_part(WeightStore((tmp_path,)), plan(), 1, part(1))
    assert parts_had(taking(tmp_path), recipes.load("covey-exact").plan()) is None
    monkeypatch.setattr(intake, "MOST", 3000)
    (tmp_path / "earlier.safetensors").write_bytes(b"x" * 600)
    with caplog.at_level(logging.WARNING):
        assert parts_had(taking(tmp_path), plan()) is None
    assert "are not taken" in caplog.text
