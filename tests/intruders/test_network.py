"""From a site's network: what a stranger, a former site and another site can reach of a running
server."""

import base64
import contextlib
import datetime
import re
import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    RegisterNodeFleetRequest,
    UnregisterNodeFleetRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.supercore.protobuf.constants import PROTOBUF_MEDIA_TYPE
from flwr.supercore.runtime import runtime_http_client as runtime_client
from flwr.superlink.routers.control import router as control

from common.utils.errors import UserError
from deploy.flower import commands as flower
from deploy.flower.bundle import write_bundle
from deploy.flower.control import Control
from deploy.flower.reach import check_invited, check_server
from deploy.flower.whole import APP_PULL, APP_PUSH, SITE_PULL, SITE_PUSH
from deploy.identity.certificates import Authority, make_authority, make_site_key
from deploy.processes.supervisor import environment
from tests.deploy.helpers import until
from tests.intruders.place import PATIENCE
from tests.intruders.rogue import client_of, status_of

pytestmark = [pytest.mark.federation, pytest.mark.timeout(1200)]


def control_paths():
    """Every call of the Control API of the installed version."""
    return [f"/v1/control{route.path.removeprefix('/v1/control')}" for route in control.routes]


def runtime_paths():
    """Every call of the Runtime API that the installed version's client makes, and our own."""
    text = Path(runtime_client.__file__).read_text()
    return [*re.findall(r'path="(/v1/runtime/[a-z-]+)"', text), APP_PULL, APP_PUSH]


@pytest.mark.parametrize(
    ("api", "least", "calls"),
    [("control", 30, control_paths()), ("runtime", 15, runtime_paths())],
    ids=["control", "runtime"],
)
def test_no_call_of_an_interface_that_is_not_the_sites_is_reached(place, api, least, calls):
    assert len(calls) >= least
    detour = f"/v1/fleet/..{calls[-1].removeprefix('/v1')}"
    for path in (*calls, detour):  # not more: the log of refusals takes 100 lines at once
        assert place.post(path) == 404, path
    assert f"POST {calls[-1]}: 404" in place.refused()


def test_a_stranger_with_the_certificate_can_neither_look_nor_start_nor_stop_nor_register(
    place, tmp_path
):
    front = Control(place.address.host, place.address.port, place.authority)
    bundle = write_bundle(tmp_path / "bundle", {"recipe": "fedsimclr"})
    key = make_site_key(tmp_path / "key", "stranger")
    before = len(place.server.control(10.0).runs())
    for attempt in (
        front.sites,
        lambda: front.submit(bundle),
        lambda: front.stop(1),
        lambda: front.register(key.public, "stranger"),
    ):
        with pytest.raises(UserError, match=r"the SuperLink refused .* 404"):
            attempt()
    inside = place.server.control(10.0)
    assert len(inside.runs()) == before
    assert set(inside.sites()) == {"north", "gone", "rogue"}


def test_flwr_run_of_a_stranger_starts_nothing(place, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", {"recipe": "fedsimclr"})
    home = tmp_path / "home"
    flower.write_connection(home, str(place.address), Authority(place.authority, Path("none")))
    before = len(place.server.control(10.0).runs())
    code, said = place.command("flwr", "run", str(bundle), flower.CONNECTION, home=home)
    assert code != 0, said
    assert "POST /v1/control/start-run: 404" in place.refused()
    assert len(place.server.control(10.0).runs()) == before


def test_flower_superexec_of_a_stranger_gets_no_task(place, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("0" * 64)
    command = flower.superexec_command(str(place.address), place.authority, secret)
    process = subprocess.Popen(
        command,
        env=environment(tmp_path / "home"),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        until(lambda: re.search(r"POST /v1/runtime/[a-z-]+: 404", place.refused()), PATIENCE)
    finally:
        process.kill()
        process.communicate()


def test_no_site_registers_or_unregisters_one_by_itself(place, tmp_path):
    key = make_site_key(tmp_path / "key", "stranger")
    stranger = place.invitation("gone").model_copy(update={"private_key": key.private.read_text()})
    public = public_key_to_bytes(stranger.key.public_key())
    with client_of(stranger) as client:
        assert status_of(client.RegisterNode, RegisterNodeFleetRequest(public_key=public)) >= 400
    north = {node.name: node.id for node in place.server.control(10.0).nodes()}["north"]
    with client_of(place.invitation("gone")) as client:
        assert status_of(client.UnregisterNode, UnregisterNodeFleetRequest(node_id=north)) == 401
    assert set(place.server.control(10.0).sites()) == {"north", "gone", "rogue"}


def test_a_key_that_was_not_invited_is_not_let_in(place, tmp_path):
    key = make_site_key(tmp_path / "key", "north")
    stranger = place.invitation("north").model_copy(update={"private_key": key.private.read_text()})
    with pytest.raises(UserError, match="does not know the site 'north'"):
        check_invited(stranger)
    request = ActivateNodeRequest(
        public_key=public_key_to_bytes(stranger.key.public_key()), heartbeat_interval=30.0
    )
    with client_of(stranger) as client:
        assert status_of(client.ActivateNode, request) == 412
    assert "POST /v1/fleet/activate-node: 412" in place.refused()


def test_a_key_that_was_revoked_is_not_let_in(place):
    gone = place.invitation("gone")
    check_invited(gone)
    public = public_key_to_bytes(gone.key.public_key())
    with client_of(gone) as client:
        node = client.ActivateNode(ActivateNodeRequest(public_key=public, heartbeat_interval=30.0))
        pull = PullMessagesRequest(node=Node(node_id=node.node_id))
        assert status_of(client.PullMessages, pull) == 200
        assert "refuses gone from now on" in place.covey.run("server", "revoke", "server", "gone")
        assert status_of(client.PullMessages, pull) == 401
    with pytest.raises(UserError, match="does not know the site 'gone'"):
        check_invited(gone)


def test_a_site_of_one_authority_and_a_server_of_another_do_not_talk(place, tmp_path):
    other = make_authority(tmp_path / "other").certificate
    with pytest.raises(UserError, match="not the federation's server"):
        check_server(place.address, other, proxies=False)
    until(lambda: "TLS handshake" in place.refused())


def test_plain_text_to_the_tls_port_is_refused(place):
    with socket.create_connection((place.address.host, place.address.port), 60) as plain:
        plain.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\n\r\n")
        plain.settimeout(60)
        with contextlib.suppress(ConnectionError):
            assert b"HTTP/1.1" not in plain.recv(1000)
    until(lambda: "TLS handshake: HTTP_REQUEST" in place.refused())


class Signed:
    """An interceptor that signs with the key of `invitation` at a time of its own choice."""

    def __init__(self, invitation, when):
        self.key, self.when = invitation.key, when

    def intercept(self, context, call_next):
        stamp = self.when.isoformat()
        signature = sign_message(self.key, stamp.encode("ascii"))
        context.request.headers[TIMESTAMP_HEADER] = stamp
        context.request.headers[FLEET_HTTP_SIGNATURE_HEADER] = base64.b64encode(signature).decode()
        return call_next(context)


def test_a_signature_of_six_minutes_ago_and_one_of_another_site_are_refused(place):
    rogue = place.invitation("rogue")
    nodes = {node.name: node.id for node in place.server.control(10.0).nodes()}
    mine = PullMessagesRequest(node=Node(node_id=nodes["rogue"]))
    now = datetime.datetime.now(datetime.UTC)
    for age, expected in ((0, 200), (360, 401), (-60, 401)):
        when = now - datetime.timedelta(seconds=age)
        with client_of(rogue, Signed(rogue, when)) as client:
            assert status_of(client.PullMessages, mine) == expected, age
    with client_of(rogue) as client:  # signed as it should be, in another's name
        theirs = PullMessagesRequest(node=Node(node_id=nodes["north"]))
        assert status_of(client.PullMessages, theirs) == 401
    with client_of(place.invitation("rogue"), Signed(place.invitation("north"), now)) as client:
        assert status_of(client.PullMessages, mine) == 401
    assert "POST /v1/fleet/pull-messages: 401" in place.refused()
    for path in (SITE_PULL, SITE_PUSH):  # and nobody's at all
        assert place.post(path, mine.SerializeToString()) == 401


def test_a_request_beyond_the_limit_is_refused_before_it_has_arrived(place):
    declared = {"content-length": str(8 * 2**20 + 1)}
    for path in ("/v1/fleet/push-object", SITE_PUSH, SITE_PULL):
        assert place.post(path, b"", declared) == 413
    tls = ssl.create_default_context(cafile=str(place.authority))
    with httpx.Client(verify=tls, trust_env=False, timeout=120) as client:
        # Of the kind that the SuperLink reads: it refuses any other before the body is there.
        chunks = (b"x" * 2**16 for _ in range(8 * 16 + 1))
        address = f"https://{place.address}/v1/fleet/push-object"
        answer = client.post(address, content=chunks, headers={"content-type": PROTOBUF_MEDIA_TYPE})
    assert answer.status_code == 413
    assert "POST /v1/fleet/push-object: 413" in place.refused()
