"""Files with weights are found by what is in them."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from common.models.pretrained import store
from common.models.pretrained.store import WeightStore, remember
from common.utils.errors import UserError


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_found_by_its_digest_whatever_it_is_called(home: Path) -> None:
    digest = write(home / "any.safetensors", b"one")
    write(home / "other.safetensors", b"two")
    write(home / "notes.txt", b"three")
    found = WeightStore().find(digest)
    assert found is not None and found.path == home / "any.safetensors" and found.size == 3
    assert WeightStore().find(hashlib.sha256(b"three").hexdigest()) is None
    assert WeightStore().find(digest, size=4) is None


def test_a_sites_own_folder_comes_first(home: Path, tmp_path: Path) -> None:
    digest = write(home / "a.safetensors", b"same")
    own = tmp_path / "site"
    own.mkdir()
    write(own / "b.safetensors", b"same")
    found = WeightStore((own,)).find(digest)
    assert found is not None and found.path.parent == own


def test_a_file_that_was_given_once_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.safetensors"
    digest = write(path, b"mine")
    given = WeightStore().given(str(path))
    remember(given, "timm:resnet18")
    again = WeightStore().given(digest)
    assert (again.path, again.encoder) == (path, "timm:resnet18")
    path.unlink()
    with pytest.raises(
        UserError, match=r"no weights with the SHA-256 .* looked in .*COVEY_WEIGHTS"
    ):
        WeightStore().given(digest)


def test_a_file_is_read_once_and_again_when_it_has_changed(home: Path, monkeypatch) -> None:
    read: list[Path] = []
    real = store.digest_of_file
    monkeypatch.setattr(store, "digest_of_file", lambda path: read.append(path) or real(path))
    path = home / "a.safetensors"
    first = write(path, b"first")
    assert WeightStore().find(first) and WeightStore().find(first) and len(read) == 1
    second = write(path, b"other")  # as long
    os.utime(path, ns=(1, 1))
    assert WeightStore().find(first) is None and WeightStore().find(second)
    assert len(read) == 2


@pytest.mark.parametrize("content", ["", "[]", '{"/x": 3}', '{"/x": {"sha256": "0"}}', "\x00"])
def test_a_spoiled_index_is_as_good_as_none(home: Path, content: str) -> None:
    digest = write(home / "a.safetensors", b"one")
    place = Path(os.environ["COVEY_HOME"])
    place.mkdir()
    (place / store.INDEX).write_text(content)
    assert WeightStore().find(digest)
    assert json.loads((place / store.INDEX).read_text())[str(home / "a.safetensors")]
