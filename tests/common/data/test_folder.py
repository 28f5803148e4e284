"""A folder of images becomes square arrays; what cannot be read is named, what lies outside is
left alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.data import load, load_test
from common.utils.errors import UserError


def put(path: Path, size: tuple[int, int] = (8, 8), value: int = 100, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode in ("L", "I;16") else (value, 0, 0)
    Image.new(mode, size, colour).save(path)


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "c.webp", "d.tif", "e.gif", "f.bmp"):
        put(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    data = load(str(tmp_path))
    assert data.labels is None and data.classes == ()
    assert data.names == ("a.JPG", "b.png", "c.webp", "d.tif", "e.gif", "f.bmp")
    assert data.images.shape == (6, 3, 8, 8)
    assert load_test(str(tmp_path)) is None


def test_subfolders_are_classes(tmp_path: Path) -> None:
    put(tmp_path / "dog" / "1.png", value=10)
    put(tmp_path / "cat" / "2.png", value=20)
    put(tmp_path / "dog" / "puppies" / "3.png", value=30)
    data = load(str(tmp_path))
    assert data.classes == ("cat", "dog")
    assert data.names == ("cat/2.png", "dog/1.png", "dog/puppies/3.png")
    assert data.labels is not None and data.labels.tolist() == [0, 1, 1]
    assert data.images[:, 0, 0, 0].tolist() == [20, 10, 30]


def test_images_beside_and_inside_subfolders_are_an_error(tmp_path: Path) -> None:
    put(tmp_path / "stray.png")
    put(tmp_path / "cat" / "1.png")
    with pytest.raises(UserError, match=r"stray\.png"):
        load(str(tmp_path))


def test_unreadable_files_are_named_and_left_out(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        put(tmp_path / name, size=(64, 64))
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:50])  # header is whole
    (tmp_path / "d.jpg").write_text("not a picture")
    data = load(str(tmp_path))
    assert data.names == ("a.png", "c.png")
    assert data.unreadable == ("b.png", "d.jpg")
    assert len(data.images) == 2


def test_a_folder_with_nothing_readable_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no image in"):
        load(str(tmp_path))
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(UserError, match=r"none of the 1 images in .* can be read: a\.png"):
        load(str(tmp_path))


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    put(tmp_path / "outside" / "secret.png", value=250)
    inside = tmp_path / "inside"
    put(inside / "1.png", value=5)
    (inside / "link.png").symlink_to(tmp_path / "outside" / "secret.png")
    (inside / "all").symlink_to(tmp_path / "outside")
    (inside / "same.png").symlink_to(inside / "1.png")
    put(inside / ".hidden.png")
    put(inside / ".thumbnails" / "2.png")
    data = load(str(inside))
    assert data.names == ("1.png", "same.png")
    assert data.unreadable == ("all", "link.png")
    (inside / "1.png").unlink()
    (inside / "same.png").unlink()
    with pytest.raises(UserError, match="not followed"):
        load(str(inside))


def test_the_side_is_the_most_common_shorter_one_up_to_224(tmp_path: Path) -> None:
    for name, size in (("a.png", (12, 20)), ("b.png", (30, 12)), ("c.png", (16, 16))):
        put(tmp_path / "small" / name, size)
    put(tmp_path / "large" / "a.png", (300, 400))
    assert load(str(tmp_path / "small")).side == 12
    assert load(str(tmp_path / "small"), side=10).side == 10
    assert load(str(tmp_path / "large")).side == 224


def test_a_square_is_cut_from_the_middle(tmp_path: Path) -> None:
    stripes = np.repeat(np.array([0, 0, 90, 91, 92, 93, 0, 0], np.uint8)[None], 4, axis=0)
    Image.fromarray(stripes).save(tmp_path / "wide.png")
    data = load(str(tmp_path))
    assert data.images.shape == (1, 1, 4, 4)
    assert data.images[0, 0, 0].tolist() == [90, 91, 92, 93]


def test_grey_only_where_every_image_is(tmp_path: Path) -> None:
    put(tmp_path / "a.png", mode="L")
    put(tmp_path / "b.png", mode="L")
    assert load(str(tmp_path)).channels == 1
    put(tmp_path / "c.png", mode="RGB")
    data = load(str(tmp_path))
    assert data.channels == 3
    assert data.images[0, :, 0, 0].tolist() == [100, 100, 100]


def test_16_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    put(tmp_path / "a.png", value=32_768, mode="I;16")
    data = load(str(tmp_path))
    assert data.channels == 1 and int(data.images[0, 0, 0, 0]) == 128


def test_a_turned_photograph_is_upright(tmp_path: Path) -> None:
    image = np.zeros((8, 8), np.uint8)
    image[0] = 255  # stored with the top row bright; orientation 6 turns it to the right edge
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "a.png", exif=exif)
    upright = load(str(tmp_path)).images[0, 0]
    assert upright[:, -1].min() == 255 and upright[:, 0].max() == 0


def test_a_draw_takes_readable_images_and_keeps_classes(tmp_path: Path) -> None:
    for i in range(10):
        put(tmp_path / f"class-{i % 3}" / f"{i}.png", size=(64, 64), value=i)
    broken = tmp_path / "class-0" / "0.png"
    broken.write_bytes(broken.read_bytes()[:50])
    nines = [load(str(tmp_path), images=9, seed=seed) for seed in range(8)]
    assert all(len(set(data.names)) == 9 for data in nines)  # another takes the broken one's place
    assert ("class-0/0.png",) in {data.unreadable for data in nines}
    few = [load(str(tmp_path), images=4, seed=seed) for seed in (1, 1, 2)]
    assert few[0].names == few[1].names != few[2].names
    assert few[0].classes == ("class-0", "class-1", "class-2")
    values = [int(name.split("/")[1].split(".")[0]) for name in few[0].names]
    assert few[0].images[:, 0, 0, 0].tolist() == values
    with pytest.raises(UserError, match="asked for 10 images"):
        load(str(tmp_path), images=10)
    with pytest.raises(UserError, match="asked for 11 images"):
        load(str(tmp_path), images=11)
