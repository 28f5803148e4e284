"""What `covey client join` looks at before anything is started: one line for each."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version as installed

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from client.dataset import LEAST
from client.storage.exclusions import Exclusions
from common.config.preparation import AUTO
from common.data import DATASETS, ImageData, Preparation, load
from common.data.cache import cache_of
from common.data.decoding import Watch
from common.utils.errors import UserError
from common.utils.names import place
from deploy.flower import bundle
from deploy.flower.proxy import proxy_for
from deploy.flower.reach import Answer, check_invited, check_server
from deploy.identity.address import Address
from deploy.identity.invitation import Invitation
from deploy.site.device import describe_device
from deploy.site.folder import SiteFolder

FEW = 10  # different images, below which it is said
NOTICEABLE = 2.0  # seconds between two clocks; an answer's time is a whole second


@dataclass(frozen=True)
class Data:
    """What a site trains on: a folder of images, an .npz or a data set's name, and how files become
    images, as far as no run's plan says it."""

    spec: str
    how: Preparation = AUTO

    def absolute(self) -> "Data":
        """The same data for processes that start elsewhere."""
        if self.spec in DATASETS or not place(self.spec).exists():
            return self
        return replace(self, spec=str(place(self.spec).absolute()))

    def options(self) -> list[str]:
        """The options of `covey client join` that say the same."""
        how = self.how
        told = {
            "data": self.spec,
            "side": how.side,
            "window": how.window,
            "pages": how.pages,
            "largest": how.largest,
            "copies": how.copies,
        }
        return [f"--{name}={value}" for name, value in told.items()]


def check_data(data: Data, home: SiteFolder, console: Console) -> list[str]:
    """A line about the images, what became of each file of a folder, and how many were taken back;
    a bar on the console while they are read. `UserError` where there are no images."""
    with reading(console) as watch:
        found = load(data.spec, how=data.how, cache=cache_of(home.path), watch=watch)
    exclusions = Exclusions(home.path, data.spec)
    taken = exclusions.read()
    left = exclusions.left_in(found, taken)
    told = [f"data: {describe(found)}", *(found.account.lines() if found.account else ())]
    if len(left.images) < LEAST and left.withdrawn:
        raise UserError(
            f"{left.withdrawn:,} images were taken back, too few are left to take part with: "
            "covey client remember lets some in again"
        )
    if left.withdrawn:
        told.append(f"{left.withdrawn:,} images are left out: withdrawn (covey client forget)")
    elif taken:
        told.append(f"none of the {len(taken):,} images that were withdrawn is among these")
    return told


@contextmanager
def reading(console: Console) -> Iterator[Watch | None]:
    """A bar of images that are read, on a terminal; what moves it."""
    if not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task("reading images", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def check_rest(home: SiteFolder, invitation: Invitation, device: str) -> Iterator[str]:
    """One line each about the device, the versions and the connection, as they are looked at;
    `UserError` with the first that does not fit."""
    yield f"device: {describe_device(device, home.private / 'flower')}"
    answer = check_server(Address.parse(invitation.address), home.private / "ca.crt")
    yield f"versions: {compare_versions(answer)}"
    check_invited(invitation, answer)
    clock = f" ({answer.clocks})" if abs(answer.ahead) > NOTICEABLE else ""
    proxy = proxy_for(Address.parse(invitation.address))
    way = f" through the proxy {proxy}" if proxy else ""
    yield (
        f"connection: {invitation.address} answers{way}, is the federation's, and knows this site"
        f"{clock}"
    )


def compare_versions(answer: Answer) -> str:
    """This site's versions, where the server's are the same (of flwr: major and minor), or it does
    not say; `UserError` otherwise."""
    own = {"covey": bundle.version(), "flwr": installed("flwr")}
    said = _said(own)
    if not answer.versions:
        return f"{said} (the server does not say its own)"
    theirs = _said(answer.versions)
    if _decisive(own) != _decisive(answer.versions):
        raise UserError(f"this site has {said}, the server {theirs}: install the server's versions")
    return f"{said}, as the server" if said == theirs else f"{said}; the server has {theirs}"


def _said(versions: dict[str, str]) -> str:
    return f"Covey {versions.get('covey')}, flwr {versions.get('flwr')}"


def _decisive(versions: dict[str, str]) -> tuple[str, list[str]]:
    return versions.get("covey", ""), versions.get("flwr", "").split(".")[:2]


def describe(data: ImageData) -> str:
    """One line: how many images of what size, and their classes."""
    kind = "grey" if data.channels == 1 else "colour"
    text = f"{len(data.images)} images, {data.side}×{data.side} {kind}, "
    text += (
        f"{len(data.classes)} classes (labels serve evaluation alone)"
        if data.labels is not None
        else "no labels"
    )
    different = data.different(min(FEW, len(data.images)))
    if different < min(FEW, len(data.images)):
        text += "; they are all alike" if different == 1 else f"; only {different} different ones"
    return text
