"""A folder that memory does not hold is kept on disk: built once, gone on with, and the same to the
bit."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data import ImageData, Preparation, cache, decoding, load
from common.utils.errors import UserError

MANY = 40


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    folder.mkdir()
    for number in range(MANY):
        noise = np.random.default_rng(number).integers(0, 256, (20, 24, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{number:02}.png")
    cut = folder / "07.png"
    cut.write_bytes(cut.read_bytes()[:-300])  # its header is whole: found out when it is decoded
    return folder


@pytest.fixture
def little_memory(monkeypatch) -> None:
    monkeypatch.setattr("common.data.folder.SHARE", 0.0)
    monkeypatch.setattr(decoding, "BLOCK", 16)


def read(folder: Path, into: Path, **how: object) -> ImageData:
    return load(str(folder), how=Preparation(**how), cache=into)  # type: ignore[arg-type]


def count_decoded(monkeypatch) -> list[str]:
    decoded: list[str] = []
    whole = decoding._pixels

    def counting(found: decoding.Found, **rest: object) -> object:
        decoded.append(found.name)
        return whole(found, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "_pixels", counting)
    return decoded


@pytest.mark.usefixtures("little_memory")
def test_it_is_what_memory_would_hold(album: Path, tmp_path: Path, monkeypatch) -> None:
    told: list[tuple[int, int]] = []
    into = tmp_path / "site" / "images"
    mapped = load(str(album), cache=into, watch=lambda done, of: told.append((done, of)))
    assert isinstance(mapped.images, np.memmap)
    assert told == [(16, 40), (32, 40), (40, 40)]
    plain = load(str(album))
    assert not isinstance(plain.images, np.memmap)
    assert mapped.fingerprint == plain.fingerprint and mapped.names == plain.names
    assert mapped.account == plain.account and plain.unreadable == ("07.png",)
    decoded = count_decoded(monkeypatch)
    again = read(album, into)
    assert decoded == [] and again.fingerprint == plain.fingerprint
    assert again.account == plain.account


@pytest.mark.usefixtures("little_memory")
def test_a_build_that_was_ended_goes_on(album: Path, tmp_path: Path, monkeypatch) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(str(album), cache=tmp_path / "images", watch=interrupt)
    decoded = count_decoded(monkeypatch)
    data = read(album, tmp_path / "images")
    assert sorted(decoded) == ["07.png", *(f"{number}.png" for number in range(32, MANY))]
    assert data.fingerprint == load(str(album)).fingerprint


@pytest.mark.usefixtures("little_memory")
def test_another_form_or_other_files_are_another_cache(album: Path, tmp_path: Path) -> None:
    into = tmp_path / "images"
    first = read(album, into)
    small = read(album, into, side=8)
    assert (first.side, small.side) == (20, 8)
    assert len(list(into.glob("*.json"))) == 2
    (album / "03.png").unlink()
    assert "03.png" not in read(album, into).names
    assert len(list(into.glob("*.json"))) == 2  # the oldest is gone
    assert len(list(into.glob("*.pixels"))) == 2


@pytest.mark.usefixtures("little_memory")
def test_it_is_private_and_nothing_is_written_where_memory_holds_all(
    album: Path, tmp_path: Path, monkeypatch
) -> None:
    read(album, tmp_path / "images")
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "images").glob("*.pixels")} == {0}
    monkeypatch.setattr("common.data.folder.SHARE", 0.5)
    read(album, tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("little_memory")
def test_a_disk_without_room_and_a_memory_without_room_are_one_line(
    album: Path, tmp_path: Path, monkeypatch
) -> None:
    usage = cache.shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"the images need 0\.0 GB, which neither memory nor"):
        read(album, tmp_path / "images")
    monkeypatch.setattr("common.data.folder.available", lambda: 100)
    with pytest.raises(UserError, match=r"40 images of 3×20×20 are 0\.0 GB, and"):
        load(str(album))
