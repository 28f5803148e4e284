"""Pictures of any depth: one window for a data set, and no level lost without a word."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.config.preparation import Window
from common.data import Preparation, load
from common.data.formats import read_picture
from common.data.levels import is_reduced
from common.data.picture import Deep
from common.utils.errors import UserError
from tests.builders.pictures import png16, tiff

RAMP = np.arange(256).reshape(16, 16)


def values(path: Path) -> np.ndarray:
    picture = read_picture(path)
    assert isinstance(picture, Deep)
    return picture.values


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_a_picture_of_so_many_bits_in_16_keeps_256_levels(tmp_path: Path, bits: int) -> None:
    Image.fromarray((RAMP * (2**bits // 256)).astype(np.uint16)).save(tmp_path / "a.png")
    data = load(str(tmp_path))
    assert data.channels == 1
    assert len(np.unique(data.images)) == 256
    assert data.account is not None
    (note,) = data.account.notes
    assert note.startswith(f"1 of more than 8 bits: window {data.window} (0.1 and 99.9 %")


def test_all_files_of_a_folder_have_one_window_or_the_one_that_is_given(tmp_path: Path) -> None:
    for name, top in (("dark.png", 1000), ("light.png", 4000)):
        Image.fromarray(np.linspace(0, top, 256).reshape(16, 16).astype(np.uint16)).save(
            tmp_path / name
        )
    own = load(str(tmp_path))
    assert own.images[0].max() < 70 and own.images[1].max() == 255
    given = load(str(tmp_path), how=Preparation(window="0:8000"))
    assert (given.images[0].max(), given.images[1].max()) == (32, 128)
    again = load(str(tmp_path), how=Preparation(window=own.window))
    assert np.array_equal(again.images, own.images)  # what a plan or a model says gives the same


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
def test_colour_of_16_bits_is_read_whole(tmp_path: Path, order: str, deflate: bool) -> None:
    colours = np.random.default_rng(0).integers(0, 65536, (6, 5, 3)).astype(np.uint16)
    (tmp_path / "a.tif").write_bytes(tiff(colours, order=order, deflate=deflate))
    (tmp_path / "a.png").write_bytes(png16(colours))
    assert np.array_equal(values(tmp_path / "a.tif"), colours)
    assert np.array_equal(values(tmp_path / "a.png"), colours)


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_of_16_bits_is_read_beside_it(tmp_path: Path, channels: int) -> None:
    both = np.random.default_rng(0).integers(0, 65536, (6, 5, channels)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(png16(both))
    picture = read_picture(tmp_path / "a.png")
    assert isinstance(picture, Deep) and picture.alpha is not None
    colours = both[..., 0] if channels == 2 else both[..., :3]
    assert np.array_equal(picture.values, colours)
    assert np.array_equal(picture.alpha, both[..., -1] >> 8)


@pytest.mark.parametrize("kind", ["u2", "i2", "i1", "u4", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_any_numbers_has_its_values(tmp_path: Path, kind: str, order: str) -> None:
    wide = np.linspace(-100, 27_000, 30).reshape(5, 6)
    if kind[0] == "u":
        wide = np.abs(wide) * (100_000 if kind == "u4" else 1)
    numbers = np.clip(wide, -128, 127).astype(kind) if kind == "i1" else wide.astype(kind)
    (tmp_path / "a.tif").write_bytes(tiff(numbers, order=order))
    assert np.array_equal(values(tmp_path / "a.tif"), numbers)


@pytest.mark.parametrize("kind", ["u2", "i2", "u4", "i4", "f4"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_other_programs_tiff_has_its_values(
    tmp_path: Path, kind: str, order: str, compression: str | None
) -> None:
    """They leave out the tag that says "unsigned", and compress in either order of bytes."""
    size = np.dtype(kind).itemsize
    numbers = np.random.default_rng(0).integers(0, 256, (8, 8 * size)).astype(np.uint8).view(kind)
    numbers = np.nan_to_num(numbers, nan=1)
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", numbers, byteorder=order, compression=compression)
    assert np.array_equal(values(tmp_path / "a.tif"), numbers)


@pytest.mark.parametrize("given", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_colours_of_16_bits_in_planes_of_their_own_are_read(tmp_path: Path, given: dict) -> None:
    tifffile = pytest.importorskip("tifffile")
    planes = np.random.default_rng(0).integers(0, 65536, (3, 32, 32)).astype(np.uint16)
    as_planes = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "a.tif", planes, **as_planes, **given)
    assert np.array_equal(values(tmp_path / "a.tif"), planes.transpose(1, 2, 0))


@pytest.mark.parametrize("top", [1023, 65535])
def test_a_ppm_of_more_than_8_bits_keeps_them(tmp_path: Path, top: int) -> None:
    colours = np.random.default_rng(0).integers(0, top + 1, (6, 5, 3))
    head = f"P6\n5 6\n{top}\n".encode()
    (tmp_path / "a.ppm").write_bytes(head + colours.astype(">u2").tobytes())
    assert np.array_equal(values(tmp_path / "a.ppm"), np.rint(colours * (65535 / top)))
    (tmp_path / "cut.ppm").write_bytes(head + bytes(50))
    assert load(str(tmp_path)).unreadable == ("cut.ppm",)


def test_levels_that_a_decoder_leaves_out_are_told(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    tifffile = pytest.importorskip("tifffile")
    deep = np.random.default_rng(0).integers(0, 65536, (16, 16, 4)).astype(np.uint16)
    heif.encode("RGB;16", (16, 16), deep[..., :3].tobytes(), str(tmp_path / "a.heic"))
    tifffile.imwrite(tmp_path / "b.tif", deep, photometric="separated")
    flat = Image.new("RGB", (16, 16))
    for name in ("c.avif", "d.jp2"):
        flat.save(tmp_path / name)
    data = load(str(tmp_path))
    said = "2 of more than 8 bits, of which their decoder gives the upper 8"
    assert data.account is not None and data.account.notes == (said,)
    for name, mark, place, bit in (
        ("c.avif", b"av1C", 6, 0x40),
        ("d.jp2", b"\xff\x4f\xff\x51", 40, 0x08),
    ):
        with Image.open(tmp_path / name) as image:
            whole = bytearray((tmp_path / name).read_bytes())
            whole[whole.index(mark) + place] |= bit  # what a file of 10, or of 16, bits says
            (tmp_path / name).write_bytes(whole)
            assert is_reduced(image, tmp_path / name), name


def test_colour_in_floats_is_read(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).normal(size=(6, 6, 3)).astype(np.float32)
    (tmp_path / "a.tif").write_bytes(tiff(colours))
    assert np.allclose(values(tmp_path / "a.tif"), colours)
    assert load(str(tmp_path)).images.shape == (1, 3, 6, 6)


def test_what_is_no_number_is_black_and_decides_nothing(tmp_path: Path) -> None:
    numbers = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    numbers[0, 0], numbers[7, 7], numbers[7, 0] = np.nan, np.inf, -np.inf
    (tmp_path / "a.tif").write_bytes(tiff(numbers))
    (tmp_path / "nothing.tif").write_bytes(tiff(np.full((8, 8), np.nan, np.float32)))
    data = load(str(tmp_path))
    image = data.images[0, 0]
    assert (image[0, 0], image[7, 7], image[7, 0]) == (0, 255, 0)
    assert len(np.unique(image)) > 60
    assert data.unreadable == ("nothing.tif",)


def test_low_may_be_white(tmp_path: Path) -> None:
    body = bytearray(tiff(np.arange(16, dtype=np.uint16).reshape(4, 4) * 4096))
    place = body.index(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01")  # photometric 1: low is black
    body[place + 8] = 0
    (tmp_path / "a.tif").write_bytes(body)
    image = load(str(tmp_path)).images[0, 0]
    assert image[0, 0] == 255 and image[3, 3] == 0


def test_eight_bits_stay_what_they_are_beside_deeper_ones(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray((RAMP * 16).astype(np.uint16)).save(tmp_path / "b.png")
    assert np.array_equal(load(str(tmp_path)).images[0, 0], RAMP)
    assert load(str(tmp_path)).account.notes[0].startswith("1 of more than 8 bits")


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=20),
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e6),
)
def test_a_window_keeps_the_order_of_values(numbers: list[float], low: float, width: float) -> None:
    window = Window(low, low + width)
    shown = window.apply(np.array(numbers))
    order = np.argsort(np.nan_to_num(np.array(numbers), nan=-np.inf))
    assert (np.diff(shown[order].astype(int)) >= 0).all()
    assert window.apply(np.array([window.low, window.high])).tolist() == [0, 255]
    assert Window.parse("-1000:400") == Window(-1000, 400)


@pytest.mark.parametrize("text", ["1", "5:5", "9:1", "a:b", "nan:1", "0:inf", "0:1e999", ":"])
def test_a_window_that_is_none_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError, match="expected LOW:HIGH"):
        Preparation(window=text)
