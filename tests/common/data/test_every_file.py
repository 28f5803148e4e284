"""Every file of a folder is accounted for, whatever it is."""

import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.data import Preparation, load
from common.data.listing import list_folder
from common.record.account import COUNTS, Account, Kind, in_words
from common.utils.errors import UserError
from tests.builders import attics
from tests.builders.pictures import tiff


def picture(seed: int, mode: str = "RGB", size: tuple[int, int] = (12, 10)) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    return Image.fromarray(noise).convert(mode)


def jpeg(path: Path, seed: int = 0) -> bytes:
    picture(seed, size=(64, 64)).save(path, "JPEG")
    return path.read_bytes()


def account_of(folder: Path, **how: object) -> Account:
    found = load(str(folder), how=Preparation(**how)).account  # type: ignore[arg-type]
    assert found is not None
    return found


def counted(account: Account) -> dict[str, int]:
    return {name: n for name, n in zip(COUNTS, account.counts, strict=True) if n}


def files_in(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


@pytest.fixture
def attic(tmp_path: Path) -> Path:
    """A folder as people have them."""
    folder = tmp_path / "attic"
    folder.mkdir()
    for name in ("a.png", "B.PNG", "c.Tiff"):
        picture(len(name) + ord(name[0])).save(folder / name)
    (folder / "copy of a.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "cut.jpg").write_bytes(jpeg(folder / "whole.jpeg")[:-400])
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.png").touch()
    (folder / "film.mov").write_bytes(b"\0" * 9)
    (folder / "notes.txt").write_text("x")
    (folder / "more.TXT").write_text("y")
    (folder / "README").write_text("z")
    (folder / ".DS_Store").touch()
    (folder / "._a.png").write_bytes(b"\0\5\x16\7")
    (folder / "Thumbs.db").touch()
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._b.png").touch()
    (folder / "loop").symlink_to(folder)
    (folder / "round.png").symlink_to("round.png")
    (folder / "nowhere.png").symlink_to(folder / "gone.png")
    (folder / "again.png").symlink_to("B.PNG")
    (tmp_path / "secret.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "out.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "empty folder" / "inside").mkdir(parents=True)
    name = os.fsdecode(b"caf\xe9.png")
    picture(7).save(folder / name)
    return folder


def test_nothing_is_left_out_without_a_word(attic: Path) -> None:
    account = account_of(attic)
    assert counted(account) == {
        "used": 7,
        "copies": 2,
        "unreadable": 6,
        "links": 2,
        "other": 4,
        "hidden": 4,
    }
    assert sum(account.counts) - account.copies == files_in(attic) + 1  # os.walk has no `loop`
    reasons = {each.name: each.why for each in account.left_out}
    assert reasons == {
        "cut.jpg": "it is cut",
        "text.png": "it is no image, or of a kind that is not read",
        "empty.png": "it is empty",
        "round.png": "a link that leads nowhere",
        "nowhere.png": "a link that leads nowhere",
        "pipe.png": "it is no file",
        "loop": "",
        "out.png": "",
    }
    assert account.other == {".txt": 2, ".mov": 1, "without a suffix": 1}


def test_the_account_is_told_in_lines_that_a_screen_can_show(attic: Path) -> None:
    lines = account_of(attic).lines()
    assert lines[0] == (
        "files: 7 used (2 duplicates among them), 6 unreadable, 2 links that are not followed, "
        "4 of other kinds, 4 hidden"
    )
    assert "  other kinds: 2 .txt, 1 .mov, 1 without a suffix" in lines
    assert any("cut.jpg (it is cut)" in line for line in lines)
    assert all(line.isprintable() for line in lines)


def test_copies_can_be_left_out(attic: Path) -> None:
    kept, dropped = account_of(attic), account_of(attic, copies="drop")
    assert (kept.used, kept.copies) == (7, 2)
    assert counted(dropped) == {
        **{name: n for name, n in counted(kept).items() if name != "copies"},
        "used": 5,
        "duplicates": 2,
    }
    same = {each.name: each.why for each in dropped.left_out if each.kind.value == "duplicate"}
    assert same == {"again.png": "the same as B.PNG", "copy of a.png": "the same as a.png"}


def test_a_folder_of_which_every_file_is_used_has_nothing_to_tell(tmp_path: Path) -> None:
    for number in range(3):
        picture(number).save(tmp_path / f"{number}.png")
    assert account_of(tmp_path).lines() == []


def test_a_picture_that_is_too_large_says_how_large_and_what_reads_it(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "small.png")
    Image.new("1", (1300, 1000)).save(tmp_path / "large.png")
    account = account_of(tmp_path, largest=1)
    (left,) = account.left_out
    assert left.why == "1,300 × 1,000 pixels, more than 1 megapixels: --largest 2 reads it"
    assert counted(account) == {"used": 1, "too_large": 1}
    assert account_of(tmp_path, largest=2).used == 2


def test_a_scan_beyond_the_bound_is_named_before_it_is_decoded(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "small.png")
    (tmp_path / "scan.png").write_bytes(attics.huge())
    (left,) = account_of(tmp_path).left_out
    assert (left.name, left.kind) == ("scan.png", Kind.TOO_LARGE)
    assert left.why == "20,000 × 20,000 pixels, more than 180 megapixels: --largest 400 reads it"


def test_pillows_own_bound_and_warnings_do_not_show(
    tmp_path: Path, capfd, recwarn, monkeypatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    picture(0, size=(40, 40)).save(tmp_path / "warned.png")  # beyond the bound
    picture(1, size=(64, 64)).save(tmp_path / "refused.png")  # beyond twice the bound
    picture(2).convert("P").save(tmp_path / "palette.png", transparency=bytes(range(256)))
    (tmp_path / "odd.tif").write_bytes(tiff(np.zeros((4, 4), np.uint8))[:-3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        account = account_of(tmp_path)
    assert account.used >= 3 and "refused.png" not in account.unreadable
    assert capfd.readouterr() == ("", "") and not recwarn.list
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "group4", "jpeg"])
def test_a_damaged_tiff_says_so_and_libtiff_does_not(
    tmp_path: Path, compression: str, capfd
) -> None:
    whole = tmp_path / "whole.tif"
    image = picture(1, "1" if compression == "group4" else "RGB", (90, 80))
    image.save(whole, compression=compression)
    data = whole.read_bytes()
    (tmp_path / "cut.tif").write_bytes(data[: len(data) // 2])
    for seed in range(8):
        noise = np.frombuffer(data, np.uint8).copy()
        noise[np.random.default_rng(seed).integers(8, len(noise), 20)] ^= 0xFF
        (tmp_path / f"noise-{seed}.tif").write_bytes(noise.tobytes())
    account = account_of(tmp_path)
    assert capfd.readouterr() == ("", "")
    reasons = {each.name: each.why for each in account.left_out}
    assert reasons["cut.tif"] == "it is cut"
    assert not any("imagecodecs" in why or "index out of range" in why for why in reasons.values())


def test_images_that_are_not_drawn_are_counted(tmp_path: Path) -> None:
    for number in range(5):
        picture(number).save(tmp_path / f"{number}.png")
    account = load(str(tmp_path), images=2).account
    assert account is not None and counted(account) == {"used": 2, "undrawn": 3}


def test_a_picture_without_a_suffix_is_found(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "IMG_0001", "JPEG")
    (tmp_path / "LICENSE").write_text("x")
    assert load(str(tmp_path)).names == ("IMG_0001",)


def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch) -> None:
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "locked").mkdir()
    scan = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr("common.data.listing.os.scandir", scandir)
    (left,) = account_of(tmp_path).left_out
    assert (left.name, left.why) == ("locked/", "the folder cannot be opened: Permission denied")


def test_one_picture_in_every_kind_of_file_is_the_same_picture(tmp_path: Path) -> None:
    shown = attics.drawn("square", np.random.default_rng(0))
    for kind in range(attics.KINDS):
        attics.save(tmp_path / f"{kind}", shown, kind)
    found = load(str(tmp_path), how=Preparation(side=48, window="0:4080"))
    assert len({Path(name).suffix for name in found.names}) >= attics.KINDS - 2  # two are PNG
    wanted = shown.transpose(2, 0, 1).astype(int)
    for name, image in zip(found.names, found.images, strict=True):
        assert abs(image.astype(int) - wanted).mean() < 8, name
        assert (image[:, 0] == 255).all() == name.startswith("4")  # transparent there


def test_every_file_of_an_attic_is_accounted_for(tmp_path: Path) -> None:
    account = account_of(attics.attic(tmp_path / "attic", 0))
    assert counted(account) == attics.COUNTS
    assert sum(account.counts) - account.copies == files_in(tmp_path / "attic")


def test_a_folder_without_images_says_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "a.cr2").write_bytes(b"raw")
    (tmp_path / "b.cr2").write_bytes(b"raw")
    with pytest.raises(UserError, match=r"there is no image in .*; other kinds: 2 \.cr2"):
        load(str(tmp_path))


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=9)


@settings(deadline=None, max_examples=25)
@given(st.dictionaries(NAMES, st.sampled_from([".png", ".TXT", "", ".jpg", ".7"]), max_size=8))
def test_a_listing_has_each_file_once(tmp_path_factory, names: dict[str, str]) -> None:
    folder = tmp_path_factory.mktemp("some")
    for stem, suffix in names.items():
        (folder / (stem.strip(".") + suffix or "x")).write_bytes(struct.pack("I", len(stem)))
    found = list_folder(folder)
    there = len(found.images) + len(found.left_out) + found.other.total() + found.hidden
    assert there == files_in(folder)


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**6), min_size=len(COUNTS), max_size=len(COUNTS)))
def test_an_account_in_words_is_one_line(counts: list[int]) -> None:
    assert "\n" not in in_words(counts)
    assert bool(in_words(counts)) == any(counts[1:])
