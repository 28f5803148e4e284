"""What `covey client join` looks at before anything is started: one line for each."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version as installed

from common.data import DATASETS, ImageData, load
from common.utils.errors import UserError
from common.utils.names import place, printable
from deploy.flower import bundle
from deploy.flower.proxy import proxy_for
from deploy.flower.reach import Answer, check_invited, check_server
from deploy.identity.address import Address
from deploy.identity.invitation import Invitation
from deploy.site.device import describe_device
from deploy.site.folder import SiteFolder

FEW = 10  # different images, below which it is said
NAMED = 5  # unreadable files that are named on the screen
NOTICEABLE = 2.0  # seconds between two clocks; an answer's time is a whole second


@dataclass(frozen=True)
class Data:
    """What a site trains on: a folder of images, an .npz or a data set's name, and the side in
    pixels that the images are scaled to (0: as they are)."""

    spec: str
    side: int = 0

    def absolute(self) -> "Data":
        """The same data for processes that start elsewhere."""
        if self.spec in DATASETS or not place(self.spec).exists():
            return self
        return Data(str(place(self.spec).absolute()), self.side)


def check_data(data: Data) -> str:
    """One line about the images; `UserError` where there are none."""
    return f"data: {describe(load(data.spec, side=data.side))}"


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
    """One line: how many images of what size, their classes, and which files cannot be read."""
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
    if not data.unreadable:
        return text
    named = ", ".join(map(printable, data.unreadable[:NAMED]))
    more = len(data.unreadable) - NAMED
    return f"{text}; {len(data.unreadable)} files left out: {named}" + (
        f" and {more} more" if more > 0 else ""
    )
