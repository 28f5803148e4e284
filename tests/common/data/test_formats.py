"""The kinds of files that people have: phones' photographs, scans, DICOM, stacks, animations."""

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data import ImageData, Preparation, load
from common.utils.errors import UserError
from tests.builders.pictures import dicom, png16, tiff

RAMP = np.arange(64, dtype=np.uint16).reshape(8, 8)
FLAT = (200, 60, 30)


def only(folder: Path, **how: object) -> ImageData:
    return load(str(folder), how=Preparation(**how))  # type: ignore[arg-type]


def notes(data: ImageData) -> str:
    assert data.account is not None
    return "; ".join(data.account.notes)


@pytest.mark.parametrize("name", ["a.HEIC", "a.heif", "a.avif", "a.jp2", "a.ppm", "a.tga", "a.JPE"])
def test_a_photograph_of_any_kind_is_read(tmp_path: Path, name: str) -> None:
    if name.lower().startswith("a.hei"):
        pytest.importorskip("pillow_heif").register_heif_opener()
    Image.new("RGB", (64, 48), FLAT).save(tmp_path / name)
    data = only(tmp_path)
    assert data.images.shape == (1, 3, 48, 48)
    assert np.abs(data.images[0, :, 20, 20].astype(int) - FLAT).max() <= 4


def test_a_kind_that_needs_a_package_says_which(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    Image.new("RGB", (64, 48), FLAT).save(tmp_path / "a.heic")
    dicom(tmp_path / "b.dcm", RAMP)
    (tmp_path / "c.tif").write_bytes(tiff(RAMP.astype(np.float64)))
    Image.new("RGB", (64, 48), FLAT).save(tmp_path / "d.png")
    for package in ("pillow_heif", "pydicom", "tifffile"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("common.data.pil._heif", lambda: False)
    monkeypatch.setattr("common.data.dicom.find_spec", lambda _: None)
    monkeypatch.setattr("common.data.scientific.find_spec", lambda _: None)
    account = only(tmp_path).account
    assert account is not None and account.used == 1
    assert [each.why for each in account.left_out] == [
        "HEIC: needs pillow-heif (pip install 'covey[photos]')",
        "DICOM: needs pydicom (pip install 'covey[photos]')",
        "a kind of TIFF that needs tifffile (pip install 'covey[photos]')",
    ]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_each_mode_of_each_format_becomes_an_image(tmp_path: Path, mode: str) -> None:
    written = 0
    for suffix in ("png", "tif", "jpg", "gif", "bmp", "webp"):
        try:
            Image.new("RGB", (8, 8), "white").convert(mode).save(tmp_path / f"a.{suffix}")
        except (OSError, ValueError, KeyError):  # Pillow writes no such mode in this format
            (tmp_path / f"a.{suffix}").unlink(missing_ok=True)
        else:
            written += 1
    data = only(tmp_path)
    assert written and len(data.images) == data.account.used == written
    assert data.images.min() >= 254


@pytest.mark.parametrize(("background", "grey"), [("white", 255), ("black", 0), ("#808080", 128)])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_the_background(
    tmp_path: Path, background: str, grey: int, mode: str
) -> None:
    image = Image.new("RGBA", (8, 8), (90, 90, 90, 255))
    image.paste((10, 20, 30, 0), (0, 0, 4, 8))
    image.convert(mode).save(tmp_path / "a.png")
    seen = only(tmp_path, background=background).images[0]
    assert np.abs(seen[:, 4, 1].astype(int) - grey).max() <= 1
    assert np.abs(seen[:, 4, 6].astype(int) - 90).max() <= 1


def test_alpha_of_16_bits_shows_the_background_too(tmp_path: Path) -> None:
    values = np.zeros((8, 8, 4), np.uint16)
    values[:, 4:] = (0, 30_000, 65_535, 65_535)
    (tmp_path / "a.png").write_bytes(png16(values))
    seen = only(tmp_path, window="0:65535").images[0]
    assert seen[:, 4, 1].tolist() == [255, 255, 255]
    assert seen[:, 4, 6].tolist() == [0, 117, 255]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_picture_of_every_format(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    upright = np.zeros((64, 64), np.uint8)
    upright[:32, :32], upright[:32, 32:] = 255, 120
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: np.rot90(upright.T, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).convert("RGB").save(
        tmp_path / f"a.{suffix}", exif=exif
    )
    seen = only(tmp_path).images[0, 0].astype(int)
    corners = [seen[10, 10], seen[10, 50], seen[50, 10], seen[50, 50]]
    assert np.abs(np.array(corners) - [255, 120, 0, 0]).max() < 12


def test_exif_that_is_damaged_does_not_cost_the_picture(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), FLAT).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert only(tmp_path).account.used == 1


def test_pages_of_a_stack_are_chosen(tmp_path: Path) -> None:
    pages = [np.full((8, 8), 50 * number, np.uint8) for number in range(1, 4)]
    (tmp_path / "stack.tif").write_bytes(tiff(*pages))
    first, second, every = (only(tmp_path, pages=p) for p in ("first", "2", "all"))
    assert first.images[:, 0, 0, 0].tolist() == [50] and first.names == ("stack.tif",)
    assert second.images[:, 0, 0, 0].tolist() == [100]
    assert every.images[:, 0, 0, 0].tolist() == [50, 100, 150]
    assert every.names == ("stack.tif#1", "stack.tif#2", "stack.tif#3")
    assert every.account.used == 1
    assert notes(first) == (
        "1 with several pages (3 in all): the first is used (--pages all uses every one)"
    )
    Image.new("L", (8, 8)).save(tmp_path / "single.png")
    assert only(tmp_path, pages="7").unreadable == ("stack.tif",)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_is_used_and_said(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (16, 16), (shade, shade, shade)) for shade in (200, 90, 30)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    data = only(tmp_path)
    assert np.abs(data.images.astype(int) - 200).max() <= 2
    assert notes(data) == "1 animated: the first frame is used"


def test_a_phones_picture_with_a_preview_in_it_is_one_picture(tmp_path: Path) -> None:
    both = [Image.new("RGB", (64, 64), FLAT), Image.new("RGB", (8, 8))]
    both[0].save(tmp_path / "a.mpo", save_all=True, append_images=both[1:])
    data = only(tmp_path)
    assert data.images.shape == (1, 3, 64, 64) and notes(data) == ""


def test_dicom_is_rescaled_and_shown_through_one_window(tmp_path: Path) -> None:
    dicom(tmp_path / "a", RAMP, RescaleSlope=10, RescaleIntercept=-100)
    dicom(tmp_path / "b.dcm", RAMP + 64, RescaleSlope=10, RescaleIntercept=-100)
    data = only(tmp_path, window="-100:1170")
    assert data.names == ("a", "b.dcm") and data.channels == 1
    assert np.array_equal(data.images[:, 0].reshape(-1), np.rint(np.arange(128) * 255 / 127))


def test_monochrome1_is_white_where_it_is_low(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")
    image = only(tmp_path).images[0, 0]
    assert image[0, 0] == 255 and image[-1, -1] == 0


def test_dicom_files_may_be_shown_through_their_own_windows(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP, WindowCenter=32, WindowWidth=64)
    dicom(tmp_path / "b.dcm", RAMP * 10, WindowCenter=[320, 5], WindowWidth=[640, 2])
    dicom(tmp_path / "c.dcm", RAMP * 7)
    images = only(tmp_path, window="own").images[:, 0].astype(int)
    assert [int(image.max()) for image in images] == [255, 251, 255]
    assert np.abs(images[0] - images[1]).max() <= 4


def test_what_a_scanner_did_not_measure_is_black_and_decides_nothing(tmp_path: Path) -> None:
    stored = RAMP.astype(np.int16)
    stored[0, 0] = -2000
    dicom(tmp_path / "a.dcm", stored, PixelPaddingValue=-2000)
    image = only(tmp_path).images[0, 0]
    assert image[0, 0] == 0
    assert len(np.unique(image)) > 60  # a window down to -2000 would leave 9


def test_frames_of_a_dicom_file_are_pages(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", np.stack([RAMP, RAMP[::-1], RAMP.T]).copy())
    assert len(only(tmp_path).images) == 1
    every = only(tmp_path, pages="all")
    assert every.names == ("a.dcm#1", "a.dcm#2", "a.dcm#3")
    assert np.array_equal(every.images[0, 0], every.images[1, 0, ::-1])


def test_dicom_in_colour_and_of_8_bits_stays_as_it_is(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP.astype(np.uint8))
    assert np.array_equal(only(tmp_path).images[0, 0], RAMP)
    colours = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    dicom(
        tmp_path / "b.dcm",
        colours[..., 0],
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        PixelData=colours.tobytes(),
    )
    data = only(tmp_path)
    assert np.array_equal(data.images[1].transpose(1, 2, 0), colours)


def test_a_dicom_file_without_a_picture_says_so(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP)
    dicom(tmp_path / "b.dcm", RAMP, Rows=0)
    (tmp_path / "c.dcm").write_bytes(b"nothing of the kind" * 20)
    account = only(tmp_path).account
    assert account is not None and account.used == 1
    assert {each.name for each in account.left_out} == {"b.dcm", "c.dcm"}
    assert account.left_out[0].why == "a DICOM file without a picture"


def test_no_tag_of_a_dicom_file_is_told(tmp_path: Path) -> None:
    dicom(tmp_path / "a.dcm", RAMP)
    dicom(tmp_path / "b.dcm", RAMP, Rows=9, PatientID="Secret-7")  # too few bytes of pixels
    data = only(tmp_path)
    assert data.account is not None and data.account.used == 1
    assert "Secret" not in repr(data.account) + " ".join(data.account.lines())


def test_a_background_or_a_page_that_is_none_is_refused() -> None:
    for wrong in ({"background": "blue"}, {"pages": "0"}, {"pages": "last"}):
        with pytest.raises(UserError, match="expected"):
            Preparation(**wrong)
