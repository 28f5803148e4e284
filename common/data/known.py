"""The data sets that have a name: what each is, and where it is looked for.

In this order: `<name>.npz` in `$COVEY_DATA` (or `~/.cache/covey`), the system's package
(Fashion-MNIST on Debian), then torchvision in the same folder, which downloads where it can.
torchvision is imported only when it is needed.
"""

import contextlib
import gzip
import io
import os
import socket
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.data.images import ImageData, Kind
from common.data.npz import read_npz
from common.utils.errors import UserError

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # package dataset-fashion-mnist
NETWORK_TIMEOUT = 5.0  # seconds without a byte after which a download is given up


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DIGITS = tuple("0123456789")
GARMENTS = _words("t-shirt trouser pullover dress coat sandal shirt sneaker bag ankle-boot")
CIFAR10 = _words("airplane automobile bird cat deer dog frog horse ship truck")
CIFAR100 = _words(
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
    "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch "
    "crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo "
    "keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse "
    "mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy "
    "porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television "
    "tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
STL10 = _words("airplane bird car cat deer dog horse monkey ship truck")


def data_root() -> Path:
    """Where data sets are kept: `$COVEY_DATA`, or `~/.cache/covey`."""
    return Path(os.environ.get("COVEY_DATA") or Path.home() / ".cache" / "covey")


@dataclass(frozen=True)
class Dataset:
    """One known data set.

    `images`: training and test images; `shape`: (channels, side); `torchvision`: its class there,
    and the file below `data_root` that shows it has been fetched ("" where it comes with a
    library); `files`: names of the .npz besides its own.
    """

    name: str
    title: str
    images: tuple[int, int]
    shape: tuple[int, int]
    classes: tuple[str, ...]
    kind: Kind
    licence: str
    source: str
    torchvision: tuple[str, str] = ("", "")
    files: tuple[str, ...] = ()

    def read(self, test: bool) -> ImageData | None:
        """The training or the test split; None where there is no test split. `UserError` where it
        is not here and cannot be fetched, or is damaged."""
        if not self.torchvision[0]:
            return None if test else _digits(self)
        archive = self._npz()
        if archive is not None:
            data = read_npz(archive, test=test, classes=self.classes, kind=self.kind)
            if not test and (data is None or data.labels is None):
                raise UserError(f"{archive}: need x_train and y_train")
            return data
        if self.name == "fashion-mnist" and DEBIAN_FASHION.is_dir():
            return _data(self, *_read_idx_pair(DEBIAN_FASHION, "t10k" if test else "train"))
        return _data(self, *_from_torchvision(self, test))

    def place(self) -> str | None:
        """Where it is on this machine, in words; None where it would have to be fetched."""
        if not self.torchvision[0]:
            return "scikit-learn"
        archive = self._npz()
        if archive is not None:
            return str(archive)
        if self.name == "fashion-mnist" and DEBIAN_FASHION.is_dir():
            return str(DEBIAN_FASHION)
        fetched = data_root() / self.torchvision[1]
        return str(fetched) if fetched.exists() else None

    def _npz(self) -> Path | None:
        names = (self.name, self.name.replace("-", "_"), self.name.replace("-", ""), *self.files)
        paths = (data_root() / f"{name}.npz" for name in names)
        return next((path for path in paths if path.is_file()), None)


def _data(entry: Dataset, images: NDArray[Any], labels: NDArray[Any]) -> ImageData:
    """`ImageData` from what a library gives: (N, H, W), (N, H, W, 3) or (N, C, H, W)."""
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[3] == 3:
        images = images.transpose(0, 3, 1, 2)
    return ImageData(
        np.ascontiguousarray(images, dtype=np.uint8),
        labels.astype(np.int64),
        entry.classes,
        tuple(str(index) for index in range(len(images))),
        entry.kind,
    )


def _digits(entry: Dataset) -> ImageData:
    """What `sklearn.datasets.load_digits` reads, without the import of scikit-learn, which costs
    every site of a run .8 s of CPU time and 70 MB."""
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise UserError("the data set digits comes with scikit-learn, which is not installed")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
    rows = np.loadtxt(file, delimiter=",")  # 64 values from 0 to 16, and the digit
    images = rows[:, :-1].reshape(-1, 8, 8)
    return _data(entry, (images * (255 / 16)).round(), rows[:, -1].astype(np.int64))


def _read_idx_pair(folder: Path, split: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images = _read_idx(folder / f"{split}-images-idx3-ubyte.gz", 3)
    return images, _read_idx(folder / f"{split}-labels-idx1-ubyte.gz", 1)


def _read_idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    """The idx format of MNIST (LeCun): two zero bytes, 8 for uint8, the number of dimensions, each
    dimension as 4 bytes, the values."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} is cut or damaged ({error})") from None
    shape = tuple(np.frombuffer(content[4 : 4 + 4 * ndim], ">u4").astype(int))
    values = np.frombuffer(content[4 + 4 * ndim :], np.uint8)
    if content[:4] != bytes([0, 0, 8, ndim]) or values.size != np.prod(shape):
        raise UserError(f"{path} is cut or damaged (not what its header says)")
    return values.reshape(shape)


def _from_torchvision(entry: Dataset, test: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    from torchvision import datasets  # noqa: PLC0415 (imports torch)

    cls = getattr(datasets, entry.torchvision[0])
    if entry.torchvision[0] in ("SVHN", "STL10"):
        split: dict[str, Any] = {"split": "test" if test else "train"}
    else:
        split = {"train": not test}
    root = data_root()
    try:
        with _quiet():
            try:
                found = cls(str(root), download=False, **split)
            except RuntimeError:  # "not found or corrupted"
                found = cls(str(root), download=True, **split)
    except (OSError, RuntimeError, ValueError, EOFError, zlib.error) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise UserError(
            f"{entry.name} is not in {root} and cannot be downloaded ({reason}): put {entry.name}"
            ".npz (x_train, y_train, x_test, y_test) there, set COVEY_DATA to a folder with "
            "it, or fetch it where there is a network"
        ) from None
    labels = found.labels if "split" in split else found.targets
    return np.asarray(found.data), np.asarray(labels)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torchvision without its prints and progress bars, giving up soon where there is no network
    (urllib has no timeout of its own)."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        socket.setdefaulttimeout(before)


_ENTRIES = (
    Dataset(
        "digits",
        "Handwritten digits, 8 by 8 pixels (UCI)",
        (1797, 0),
        (1, 8),
        DIGITS,
        "digits",
        "CC BY 4.0",
        "Alpaydin and Kaynak, 1998; comes with scikit-learn",
    ),
    Dataset(
        "mnist",
        "MNIST, handwritten digits",
        (60_000, 10_000),
        (1, 28),
        DIGITS,
        "digits",
        "CC BY-SA 3.0",
        "LeCun, Cortes and Burges, 1998",
        ("MNIST", "MNIST/raw/t10k-labels-idx1-ubyte"),
    ),
    Dataset(
        "fashion-mnist",
        "Fashion-MNIST, garments",
        (60_000, 10_000),
        (1, 28),
        GARMENTS,
        "garments",
        "MIT",
        "Xiao, Rasul and Vollgraf, 2017 (Zalando)",
        ("FashionMNIST", "FashionMNIST/raw/t10k-labels-idx1-ubyte"),
        ("fashion",),
    ),
    Dataset(
        "cifar10",
        "CIFAR-10, natural images",
        (50_000, 10_000),
        (3, 32),
        CIFAR10,
        "natural",
        "none stated; cite the report",
        "Krizhevsky, 2009",
        ("CIFAR10", "cifar-10-batches-py/test_batch"),
        ("cifar-10", "cifar_10"),
    ),
    Dataset(
        "cifar100",
        "CIFAR-100, natural images",
        (50_000, 10_000),
        (3, 32),
        CIFAR100,
        "natural",
        "none stated; cite the report",
        "Krizhevsky, 2009",
        ("CIFAR100", "cifar-100-python/test"),
        ("cifar-100", "cifar_100"),
    ),
    Dataset(
        "svhn",
        "SVHN, street-view house numbers",
        (73_257, 26_032),
        (3, 32),
        DIGITS,
        "digits",
        "non-commercial use",
        "Netzer et al., 2011",
        ("SVHN", "train_32x32.mat"),
    ),
    Dataset(
        "stl10",
        "STL-10, natural images (labelled part)",
        (5_000, 8_000),
        (3, 96),
        STL10,
        "natural",
        "none stated; ImageNet's terms",
        "Coates, Lee and Ng, 2011",
        ("STL10", "stl10_binary/train_X.bin"),
        ("stl-10", "stl_10"),
    ),
)

DATASETS: dict[str, Dataset] = {entry.name: entry for entry in _ENTRIES}
