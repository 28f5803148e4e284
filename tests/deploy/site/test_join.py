"""A site's operator is told in one line what is wrong before anything has left the machine."""

import io
import re
import time
from datetime import timedelta
from email.utils import formatdate
from importlib.metadata import version as installed

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from common.data import load
from common.utils.errors import UserError
from deploy.coordinator.folder import init, invite
from deploy.flower import bundle
from deploy.flower.reach import Answer, check_invited, check_server
from deploy.flower.reach import _versions as versions_in
from deploy.identity import certificates
from deploy.identity.address import Address
from deploy.identity.certificates import issue_server, make_authority
from deploy.identity.invitation import Invitation
from deploy.processes.supervisor import LOOPBACK, free_port
from deploy.site.checks import Data, check_data, compare_versions, describe
from deploy.site.detach import join_behind
from deploy.site.device import describe_device
from deploy.site.folder import SiteFolder
from deploy.site.join import Terms, join
from tests.deploy.serving import serving


@pytest.fixture
def invitation(tmp_path):
    """The file of an invitation to a server that does not run."""
    server = init(tmp_path / "server", f"{LOOPBACK}:{free_port()}")
    invite(server, "north", tmp_path / "north.toml")
    return tmp_path / "north.toml"


@pytest.fixture
def images(tmp_path):
    images = np.arange(4, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2)
    np.savez(tmp_path / "images.npz", images=images)
    return Data(str(tmp_path / "images.npz"))


def joining(invitation, data, folder):
    """What `join` says on the screen, and the mistake in which it ends."""
    screen = io.StringIO()
    with pytest.raises(UserError) as mistake:
        join(invitation, data, Terms("cpu"), folder, Console(file=screen, width=200))
    return screen.getvalue(), str(mistake.value)


def test_the_data_are_checked_before_the_server_is_asked(invitation, tmp_path):
    said, mistake = joining(invitation, Data(str(tmp_path / "none.npz")), tmp_path / "site")
    assert mistake == f"there is no file {tmp_path / 'none.npz'}"
    assert said == "site: north\n"
    assert not (tmp_path / "site").exists()


def test_what_is_wrong_is_said_in_front_when_a_site_would_join_in_the_background(
    invitation, tmp_path
):
    screen = io.StringIO()
    nothing = Data(str(tmp_path / "none.npz"))
    with pytest.raises(UserError) as mistake:
        join_behind(invitation, nothing, Terms(), tmp_path / "site", Console(file=screen))
    assert str(mistake.value) == f"there is no file {tmp_path / 'none.npz'}"
    assert screen.getvalue() == "site: north\n"
    assert not SiteFolder(tmp_path / "site").held()


def test_a_server_that_is_not_there_is_named(invitation, images, tmp_path):
    said, mistake = joining(invitation, images, tmp_path / "site")
    assert "data: 4 images, 8×8 grey, no labels\n" in said
    assert mistake.startswith(f"cannot reach {Invitation.read(invitation).address}: ")
    assert "\n" not in mistake


def test_files_that_cannot_be_read_are_named(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (20, 16), (number, 0, 0)).save(folder / f"{number}.png")
    for number in range(7):
        (folder / f"broken-{number}.png").write_bytes(b"not an image")
    assert check_data(
        Data(str(folder)), SiteFolder(tmp_path / "site"), Console(file=io.StringIO())
    ) == [
        "data: 3 images, 16×16 colour, no labels",
        "files: 3 used, 7 unreadable",
        "  unreadable: broken-0.png, broken-1.png, broken-2.png, broken-3.png, broken-4.png and "
        "2 more (it is no image, or of a kind that is not read)",
    ]


@pytest.mark.parametrize(
    ("different", "said"), [(1, "; they are all alike"), (2, "; only 2 different ones"), (10, "")]
)
def test_images_that_are_all_alike_are_told(tmp_path, different, said):
    values = np.arange(40, dtype=np.uint8) % different
    np.savez(tmp_path / "a.npz", images=np.broadcast_to(values[:, None, None], (40, 8, 8)))
    assert describe(load(str(tmp_path / "a.npz"))) == f"40 images, 8×8 grey, no labels{said}"


def test_a_folder_stays_with_its_site(invitation, tmp_path):
    mine = Invitation.read(invitation)
    home = SiteFolder(tmp_path / "work")
    home.claim(mine)
    home.claim(mine)
    with pytest.raises(UserError, match="belongs to the site 'north': choose another"):
        home.claim(mine.model_copy(update={"site": "south"}))
    assert home.path.stat().st_mode & 0o777 == 0o700
    assert (home.private / "key").stat().st_mode & 0o777 == 0o600
    with home.hold(), pytest.raises(UserError, match="has joined already"), home.hold():
        pass


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("site = ", "sight = ", "site: field required"),
        ('site = "north"', 'site = "../north"', "site name '../north'"),
        ("BEGIN CERTIFICATE", "BEGIN SOMETHING", "authority: "),
        ("BEGIN OPENSSH", "BEGIN OTHER", "has no usable private key"),
        ("address", "= address", "is no invitation, or is damaged"),
    ],
)
def test_a_damaged_invitation_is_refused_without_showing_its_key(
    invitation, before, after, complaint
):
    text = invitation.read_text()
    assert before in text
    invitation.write_text(text.replace(before, after, 1))
    secret = text.splitlines()[-3]
    with pytest.raises(UserError) as mistake:
        Invitation.read(invitation)
    assert complaint in str(mistake.value)
    assert "\n" not in str(mistake.value) and secret not in str(mistake.value)


def healthy(status, **headers):
    async def health(_request):
        return Response(status_code=status, headers=headers)

    return Starlette(routes=[Route("/health", health)])


@pytest.mark.parametrize(
    ("status", "trusted", "complaint"),
    [
        (200, "ours", None),
        (503, "ours", "is there, but the server behind it is not"),
        (200, "other", "is not the federation's server: its certificate is refused"),
    ],
)
def test_a_server_is_believed_for_its_certificate(tmp_path, status, trusted, complaint):
    authorities = {name: make_authority(tmp_path / name) for name in ("ours", "other")}
    server = issue_server(authorities["ours"], tmp_path / "ours", ())
    address = Address(LOOPBACK, free_port())
    with serving(healthy(status), address.port, server):
        if complaint is None:
            check_server(address, authorities[trusted].certificate, proxies=False)
            return
        with pytest.raises(UserError, match=complaint) as mistake:
            check_server(address, authorities[trusted].certificate, proxies=False)
        assert str(mistake.value).startswith(str(address))


def test_a_certificate_that_has_run_out_is_told(tmp_path, monkeypatch):
    authority = make_authority(tmp_path)
    monkeypatch.setattr(certificates, "SERVER_VALIDITY", timedelta(hours=-1))
    server = issue_server(authority, tmp_path, ())
    address = Address(LOOPBACK, free_port())
    with (
        serving(healthy(200), address.port, server),
        pytest.raises(UserError, match="certificate has expired"),
    ):
        check_server(address, authority.certificate, proxies=False)


OURS = f"covey={bundle.version()} flwr={installed('flwr')}"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (OURS, ", as the server"),
        (OURS + ".1", "; the server has Covey"),
        ("", "(the server does not say its own)"),
        ("\0=\0 = == x", None),
        (OURS.replace("covey=", "covey=9."), None),
        (f"covey={bundle.version()} flwr=1.99.0", None),
    ],
)
def test_the_versions_of_site_and_server_are_compared(said, line):
    answer = Answer(0.0, versions_in(said))
    if line is None:
        with pytest.raises(UserError, match="install the server's versions"):
            compare_versions(answer)
    else:
        assert line in compare_versions(answer)


def test_a_health_answer_tells_the_clocks_difference(tmp_path):
    authority = make_authority(tmp_path)
    server = issue_server(authority, tmp_path, ())
    address = Address(LOOPBACK, free_port())
    then = formatdate(time.time() - 86_400, usegmt=True)
    app = healthy(200, date=then, **{"covey-versions": OURS})
    with serving(app, address.port, server):
        answer = check_server(address, authority.certificate, proxies=False)
    assert answer.ahead == pytest.approx(86_400, abs=30)
    assert answer.versions["flwr"] == installed("flwr")


@pytest.mark.parametrize(
    ("ahead", "why"),
    [
        (86_400.0, "this machine's clock is 86400 s ahead of the server's"),
        (-400.0, "this machine's clock is 400 s behind the server's"),
        (0.0, "do the clocks of the two machines differ?"),
    ],
)
def test_a_signature_that_is_refused_is_explained_by_the_clocks(invitation, tmp_path, ahead, why):
    authority = make_authority(tmp_path / "authority")
    server = issue_server(authority, tmp_path / "authority", ())
    address = Address(LOOPBACK, free_port())

    async def refuse(_request):
        return Response(status_code=401)

    mine = Invitation.read(invitation).model_copy(
        update={"address": str(address), "authority": authority.certificate.read_text()}
    )
    app = Starlette(routes=[Route("/v1/fleet/activate-node", refuse, methods=["POST"])])
    with (
        serving(app, address.port, server),
        pytest.raises(UserError, match=re.escape(why)) as mistake,
    ):
        check_invited(mine, Answer(ahead))
    assert "may be 5 s ahead or 300 s behind" in str(mistake.value)


def test_a_device_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="device 'abacus'") as mistake:
        describe_device("abacus", tmp_path)
    assert "\n" not in str(mistake.value)
    assert describe_device("cpu", tmp_path).startswith("cpu (")
