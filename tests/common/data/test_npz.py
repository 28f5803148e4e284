"""An .npz of any usual layout is read; a damaged one is one line that names it."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from common.data import Preparation, load, load_test
from common.utils.errors import UserError

RNG = np.random.default_rng(0)


def pixels(*shape: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def save(folder: Path, **arrays: Any) -> str:
    path = folder / "site.npz"
    np.savez_compressed(path, **arrays)
    return str(path)


@pytest.mark.parametrize(
    ("shape", "seen"),
    [
        ((5, 8, 8), (5, 1, 8, 8)),
        ((5, 8, 8, 3), (5, 3, 8, 8)),
        ((5, 8, 8, 1), (5, 1, 8, 8)),
        ((5, 3, 8, 8), (5, 3, 8, 8)),
    ],
)
def test_every_layout_becomes_channels_first(
    tmp_path: Path, shape: tuple[int, ...], seen: tuple[int, ...]
) -> None:
    images = pixels(*shape)
    data = load(save(tmp_path, images=images))
    assert data.images.shape == seen
    channels_last = shape[-1] in (1, 3)
    back = data.images.transpose(0, 2, 3, 1) if channels_last else data.images
    assert np.array_equal(back.reshape(shape), images)
    assert data.labels is None and data.classes == () and data.names == tuple("01234")


def test_classes_name_the_labels(tmp_path: Path) -> None:
    spec = save(tmp_path, images=pixels(3, 4, 4), labels=[2, 0, 2], classes=["cat", "dog", "owl"])
    data = load(spec)
    assert data.labels is not None and data.labels.tolist() == [2, 0, 2]
    assert data.classes == ("cat", "dog", "owl")


@pytest.mark.parametrize("values", [[7, 5, 7], ["owl", "cat", "owl"]])
def test_without_classes_the_values_are_the_names(tmp_path: Path, values: list[Any]) -> None:
    data = load(save(tmp_path, images=pixels(3, 4, 4), labels=values))
    assert data.labels is not None and data.labels.tolist() == [1, 0, 1]
    assert data.classes == tuple(sorted({str(v) for v in values}))


def test_a_label_means_the_same_in_both_splits(tmp_path: Path) -> None:
    spec = save(
        tmp_path,
        x_train=pixels(2, 4, 4),
        y_train=[1, 9],
        x_test=pixels(1, 4, 4),
        y_test=np.array([[9]]),
    )
    train, test = load(spec), load_test(spec)
    assert test is not None and test.labels is not None and train.labels is not None
    assert train.classes == test.classes == ("1", "9")
    assert test.labels.tolist() == [1] and train.labels.tolist() == [0, 1]


def test_a_file_without_a_test_split_has_none(tmp_path: Path) -> None:
    assert load_test(save(tmp_path, images=pixels(2, 4, 4))) is None


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"x": pixels(2, 4, 4)}, "has no training images"),
        ({"images": pixels(2, 4, 5)}, r"shape \(2, 4, 5\)"),
        ({"images": pixels(2, 4, 4, 4)}, "1 or 3 channels"),
        ({"images": np.zeros((2, 4, 4))}, "integers from 0 to 255, not float64"),
        ({"images": np.full((2, 4, 4), 256)}, "integers from 0 to 255"),
        ({"images": pixels(0, 4, 4)}, "has no images"),
        ({"images": pixels(2, 4, 4), "labels": [1]}, "1 labels in labels for 2 images"),
        ({"images": pixels(2, 4, 4), "labels": [0, -1]}, "integers from 0, or text"),
        ({"images": pixels(2, 4, 4), "labels": [0.5, 1]}, "integers from 0, or text"),
        ({"images": pixels(2, 4, 4), "labels": [0, 2], "classes": ["a", "b"]}, "from 0 to 1"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    tmp_path: Path, arrays: dict[str, Any], complaint: str
) -> None:
    spec = save(tmp_path, **arrays)
    with pytest.raises(UserError, match=complaint) as error:
        load(spec)
    assert spec in str(error.value) and "\n" not in str(error.value)


def damaged(folder: Path, kind: str) -> str:
    path = Path(save(folder, images=pixels(50, 8, 8)))
    content = path.read_bytes()
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "one bit":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif kind == "text":
        path.write_text("images")
    elif kind == "a bare array":
        with path.open("wb") as file:
            np.save(file, pixels(2, 4, 4))
    elif kind == "python objects":
        np.savez(path, images=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    elif kind == "not arrays":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", b"nothing")
    return str(path)


@pytest.mark.parametrize(
    "kind", ["cut", "empty", "one bit", "text", "a bare array", "python objects", "not arrays"]
)
def test_a_damaged_file_is_one_line_that_names_it(tmp_path: Path, kind: str) -> None:
    spec = damaged(tmp_path, kind)
    with pytest.raises(UserError) as error:
        load(spec)
    assert spec in str(error.value) and "\n" not in str(error.value)
    assert len(str(error.value)) < 300 + len(spec)


def test_a_missing_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        load(str(tmp_path / "none.npz"))


@pytest.mark.parametrize("kind", ["u2", "i4", "f4"])
def test_deeper_values_are_read_through_a_window_that_is_given(tmp_path: Path, kind: str) -> None:
    wide = np.arange(32).reshape(2, 4, 4) * 128
    np.savez(tmp_path / "a.npz", images=wide.astype(kind), x_test=wide[:1].astype(kind))
    how = Preparation(window="0:4080")
    data, test = (found(str(tmp_path / "a.npz"), how=how) for found in (load, load_test))
    assert np.array_equal(data.images[:, 0], np.rint(wide / 16).clip(0, 255))
    assert np.array_equal(test.images, data.images[:1]) and data.window == "0:4080"
    np.savez(tmp_path / "b.npz", images=np.full((2, 4, 4), 7, np.uint8))
    plain = load(str(tmp_path / "b.npz"), how=how)
    assert plain.images.max() == 7 and plain.window == ""
