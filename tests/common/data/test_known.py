"""Known data sets are found where they may lie, and a missing one says how to get it."""

import gzip
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from common.data import DATASETS, ImageData, known, load, load_test
from common.utils.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for data sets, and no system package."""
    monkeypatch.setenv("COVEY_DATA", str(tmp_path))
    monkeypatch.setattr(known, "DEBIAN_FASHION", tmp_path / "no-package")
    return tmp_path


def put_npz(path: Path) -> None:
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    np.savez(path, x_train=train, y_train=np.arange(20) % 10, x_test=train[:5], y_test=np.arange(5))


def test_digits_are_those_of_scikit_learn() -> None:
    found, data = load_digits(), load("digits")
    assert np.array_equal(data.images[:, 0], (found.images * (255 / 16)).round())
    assert np.array_equal(data.labels, found.target)


def test_digits_use_all_256_values() -> None:
    data = load("digits")
    assert data.images.shape == (1797, 1, 8, 8)
    assert (int(data.images.min()), int(data.images.max())) == (0, 255)
    assert data.labels is not None
    assert np.bincount(data.labels).min() > 170 and len(data.classes) == 10
    assert data.kind == "digits" and load_test("digits") is None


def test_the_fingerprint_is_of_the_pixels_and_their_shape() -> None:
    data = load("digits")
    assert data.fingerprint == load("digits").fingerprint
    assert len(data.fingerprint) == 16
    changed = data.images.copy()
    changed[0, 0, 0, 0] ^= 1
    others = [
        ImageData(changed, data.labels, data.classes, data.names, data.kind),
        data.subset(np.arange(1796)),
        data.resized(4),
    ]
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_a_draw_is_without_replacement_and_by_seed() -> None:
    whole = load("digits")
    drawn = [load("digits", images=100, seed=seed) for seed in (1, 1, 2)]
    assert drawn[0].names == drawn[1].names != drawn[2].names
    assert len(set(drawn[0].names)) == 100
    index = [int(name) for name in drawn[0].names]
    assert np.array_equal(drawn[0].images, whole.images[index])
    with pytest.raises(UserError, match="asked for 1798 images, but digits has 1797"):
        load("digits", images=1798)


def test_a_subset_of_other_data_is_an_error() -> None:
    with pytest.raises(UserError, match="there is no image 1797 among 1797"):
        load("digits").subset(np.array([0, 1797]))


@pytest.mark.parametrize("name", ["fashion-mnist", "fashion_mnist", "fashionmnist", "fashion"])
def test_an_npz_goes_by_its_usual_names(root: Path, name: str) -> None:
    put_npz(root / f"{name}.npz")
    data, test = load("fashion-mnist"), load_test("fashion-mnist")
    assert data.images.shape == (20, 1, 28, 28) and data.classes[9] == "ankle-boot"
    assert test is not None and len(test.images) == 5 and test.classes == data.classes
    assert data.kind == "garments"
    assert DATASETS["fashion-mnist"].place() == str(root / f"{name}.npz")


def put_idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


def test_the_systems_fashion_mnist_is_read(root: Path) -> None:
    package = root / "no-package"
    package.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28))
    for split in ("train", "t10k"):
        put_idx(package / f"{split}-images-idx3-ubyte.gz", images)
        put_idx(package / f"{split}-labels-idx1-ubyte.gz", np.arange(6))
    data, test = load("fashion-mnist"), load_test("fashion-mnist")
    assert np.array_equal(data.images[:, 0], images)
    assert data.labels is not None and data.labels.tolist() == list(range(6))
    assert test is not None and len(test.images) == 6
    cut = package / "train-images-idx3-ubyte.gz"
    cut.write_bytes(cut.read_bytes()[:-500])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz is cut or damaged"):
        load("fashion-mnist")


def test_a_missing_set_is_one_quick_line_that_says_how_to_get_it(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    start = time.monotonic()
    for name in ("mnist", "cifar10", "svhn"):
        with pytest.raises(UserError) as error:
            load(name)
        text = str(error.value)
        assert f"{name}.npz" in text and str(root) in text and "COVEY_DATA" in text
        assert "\n" not in text
        assert DATASETS[name].place() is None
    assert time.monotonic() - start < 20
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("mnits", "unknown data set 'mnits': did you mean 'mnist'"),
        ("no/such/folder", "there is no file or folder no/such/folder"),
        (__file__, "neither a folder of images nor an .npz"),
    ],
)
def test_a_wrong_name_is_one_line(spec: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        load(spec)


def test_every_entry_is_whole() -> None:
    for name, entry in DATASETS.items():
        assert entry.name == name and entry.title and entry.licence and entry.source
        assert len(set(entry.classes)) == len(entry.classes) == (100 if name == "cifar100" else 10)


def test_listing_data_sets_imports_no_torch() -> None:
    code = "import sys, common.data, common.data.partition; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_the_command_line_starts_without_numpy() -> None:
    """Half a second of each `covey -h`."""
    code = "import sys, deploy.cli.main; print('numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
