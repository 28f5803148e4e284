"""`covey server`, `covey client` and `covey submit`: a federation as on separate machines lets in
whom it invited and nobody else, finishes a run, and leaves nothing behind."""

import httpx
import pytest
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from common.utils.errors import UserError
from deploy.coordinator.folder import ServerFolder
from deploy.coordinator.sites import sites
from deploy.flower.reach import check_invited
from deploy.identity.certificates import make_site_key
from deploy.identity.invitation import Invitation
from deploy.processes.supervisor import free_port
from deploy.site.left import read_ledger
from tests.deploy.helpers import processes, until
from tests.deploy.machines import Covey, write_images


def uninvited(folder):
    """What one who has the server's address and certificate, but no invitation, can make."""
    key = make_site_key(folder / "strangers", "north")
    return Invitation.read(folder / "north.toml").model_copy(
        update={"private_key": key.private.read_text()}
    )


def activate(invitation):
    """The status with which the server refuses a SuperNode that wants to join."""
    interceptor = NodeAuthHttpInterceptor(invitation.key, invitation.key.public_key())
    public = public_key_to_bytes(invitation.key.public_key())
    with (
        FleetHttpClient.from_server_address(
            invitation.address, False, invitation.authority.encode(), [interceptor]
        ) as client,
        pytest.raises(httpx.HTTPStatusError) as refusal,
    ):
        client.ActivateNode(ActivateNodeRequest(public_key=public, heartbeat_interval=30.0))
    return refusal.value.response.status_code


@pytest.fixture
def covey(tmp_path):
    with Covey(tmp_path) as commands:
        yield commands


@pytest.mark.timeout(900)
@pytest.mark.federation
def test_two_invited_sites_run_together_a_stranger_is_refused_and_nothing_is_left(covey, tmp_path):
    write_images(tmp_path)
    address = f"127.0.0.1:{free_port()}"

    covey.run("server", "init", "server", "--address", address)
    said = covey.run("server", "invite", "server", "north", "--output", "north.toml")
    assert "from the server's next start" in said
    covey.start("server", "server", "start", "server")
    covey.until("server", "ready")
    said = covey.run("server", "invite", "server", "south", "--output", "south.toml")
    assert "the running server lets it in" in said
    said = covey.run("server", "start", "server", expect=2)
    assert "is running already" in said
    said = covey.run("submit", "fedsimclr", "--server", "server", expect=2)
    assert "no site is online" in said

    for site, more in (("north", ()), ("south", ("--any-bundle",))):
        covey.start(site, "client", "join", f"{site}.toml", "--data", f"{site}.npz", *more)
    stranger = uninvited(tmp_path)
    with pytest.raises(UserError, match="does not know the site 'north'"):
        check_invited(stranger)
    assert activate(stranger) == httpx.codes.PRECONDITION_FAILED
    for site in ("north", "south"):
        covey.until(site, "joined")
    assert "whatever code the coordinator sends runs on this machine" in covey.said("south")
    assert "300 images, 8×8 grey, no labels" in covey.said("north")
    assert "300 images, 8×8 grey, 10 classes" in covey.said("south")

    options = ("--rounds", "1", "--local-epochs", "1", "--json", "figures.json")
    said = covey.run("submit", "fedsimclr", "--server", "server", *options)
    [run] = (tmp_path / "server" / "runs").iterdir()
    assert "over 2 sites" in said
    assert (run / "encoder.safetensors").stat().st_size > 100_000
    assert (run / "report.html").exists()
    assert (tmp_path / "figures.json").exists()
    assert {(s.name, s.status) for s in sites(ServerFolder(tmp_path / "server"))} == {
        ("north", "online"),
        ("south", "online"),
    }
    for site in ("north", "south"):
        home = tmp_path / f"covey-site-{site}"
        assert len((home / run.name / "assignments.csv").read_text().splitlines()) == 301
        assert [entry["kind"] for entry in read_ledger(home)][:2] == ["hello", "train"]
        assert (home / run.name / "model.covey").read_bytes() == (run / "model.covey").read_bytes()
        assert [entry["kind"] for entry in read_ledger(home)].count("deliver") == 1
        until((home / run.name / "clusters.html").exists)
        assert home.stat().st_mode & 0o777 == 0o700
    assert "2 of 2 sites have the model" in said

    logs = {site: tmp_path / f"covey-site-{site}" / "logs" for site in ("north", "south")}
    assert {path.name for path in logs["north"].glob("*.log")} == {"connection.log", "trainer.log"}
    assert {path.name for path in logs["south"].glob("*.log")} == {
        "supernode.log",
        "superexec.log",
        "trainer.log",
    }
    assert any("deploy.flower.connection" in line for line in processes(str(tmp_path)).values())
    assert [covey.interrupt(name) for name in ("north", "south", "server")] == [0, 0, 0]
    assert processes(str(tmp_path)) == {}
