"""From a site's network: what a stranger, a former site and a site that means harm can reach of a
running server. One server and one honest site for all cases; the last ones look at what is left."""

import base64
import contextlib
import datetime
import http.client
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
from flwr.supercore.runtime import runtime_http_client as runtime_client
from flwr.superlink.routers.control import router as control

from common.errors import UserError
from deploy import flower
from deploy.address import Address
from deploy.bundle import write_bundle
from deploy.certificates import Authority, make_authority, make_site_key
from deploy.control import Control
from deploy.invitation import Invitation
from deploy.processes import environment, free_port
from deploy.reach import check_invited, check_server
from deploy.server import ServerFolder
from tests.deploy.helpers import events, processes, until
from tests.deploy.machines import Covey, write_images
from tests.intruders.rogue import TRICKS, Rogue, client_of, status_of

pytestmark = [pytest.mark.federation, pytest.mark.timeout(1200)]
PATIENCE = 900.0  # seconds: the machine may be very busy
SMALL = ("--local-epochs", "1", "--encoder", "small-convnet", "--quorum", "0.5")
SECRET_FILES = re.compile(r"ca\.key|server\.key|.*\.secret|key|.*\.covey|superlink\.db.*")


class Place:
    """A server with three invited sites: `north` has joined, `gone` will be revoked, `rogue` is
    whoever holds its invitation."""

    def __init__(self, folder, covey):
        self.folder, self.covey = folder, covey
        self.server = ServerFolder(folder / "server")
        self.address = Address.parse(self.server.settings().address)
        self.authority = self.server.authority.certificate
        self.tokens = set()

    def invitation(self, name):
        return Invitation.read(self.folder / f"{name}.covey")

    def post(self, path, body=b"x", headers=None):
        """The status of a request whose path no library has tidied."""
        tls = ssl.create_default_context(cafile=str(self.authority))
        connection = http.client.HTTPSConnection(
            self.address.host, self.address.port, timeout=60, context=tls
        )
        try:
            connection.request("POST", path, body, headers or {})
            return connection.getresponse().status
        finally:
            connection.close()

    def refused(self):
        """What the front's log says of those it did not let through."""
        return self.server.logs.joinpath("front.log").read_text()

    def command(self, *arguments, timeout=120, home=None):
        """A program of Flower's, as a stranger runs it, with the federation's certificate."""
        done = subprocess.run(
            arguments,
            env=environment(home or self.folder / "stranger"),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def ended(self, name):
        """Whether a command that was started has ended."""
        return self.covey.started[name].poll() is not None

    def collect_tokens(self):
        """Flower passes its tasks' tokens as arguments: those that are seen now."""
        for line in processes(str(self.folder)).values():
            self.tokens |= set(re.findall(r"--token[ =](\S{8,})", line))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    write_images(folder)
    with Covey(folder) as covey:
        covey.run("server", "init", "server", "--address", f"127.0.0.1:{free_port()}")
        settings = folder / "server" / "server.toml"
        text = settings.read_text()
        assert "# request-limit = 64" in text
        settings.write_text(text.replace("# request-limit = 64", "request-limit = 8"))
        for name in ("north", "gone", "rogue"):
            covey.run("server", "invite", "server", name, "--output", f"{name}.covey")
        covey.start("server", "server", "start", "server")
        covey.until("server", "ready")
        covey.start("north", "client", "join", "north.covey", "--data", "north.npz")
        covey.until("north", "joined")
        yield Place(folder, covey)
    assert processes(str(folder)) == {}


def control_paths():
    """Every call of the Control API of the installed version."""
    return [f"/v1/control{route.path.removeprefix('/v1/control')}" for route in control.routes]


def runtime_paths():
    """Every call of the Runtime API that the installed version's client makes."""
    return re.findall(r'path="(/v1/runtime/[a-z-]+)"', Path(runtime_client.__file__).read_text())


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


def test_a_request_beyond_the_limit_is_refused_before_it_has_arrived(place):
    declared = {"content-length": str(8 * 2**20 + 1)}
    assert place.post("/v1/fleet/push-object", b"", declared) == 413
    tls = ssl.create_default_context(cafile=str(place.authority))
    with httpx.Client(verify=tls, trust_env=False, timeout=120) as client:
        chunks = (b"x" * 2**16 for _ in range(8 * 16 + 1))
        answer = client.post(f"https://{place.address}/v1/fleet/push-object", content=chunks)
    assert answer.status_code == 413
    assert "POST /v1/fleet/push-object: 413" in place.refused()


@pytest.fixture(scope="module")
def attacked(place):
    """A run in which the site `rogue` tries one thing after the other; (its folder, the site)."""
    rogue = Rogue(place.invitation("rogue"), TRICKS)
    try:
        inside = place.server.control(10.0)
        until(lambda: inside.sites()["rogue"] == "online", PATIENCE)
        before = set(place.server.runs.iterdir())
        rounds = str(len(TRICKS))
        options = ("--rounds", rounds, "--sites", "2", *SMALL)
        place.covey.start("attacked", "submit", "fedsimclr", "--server", "server", *options)
        until(lambda: place.collect_tokens() or place.ended("attacked"), PATIENCE)
    finally:
        rogue.leave()
    (run,) = set(place.server.runs.iterdir()) - before
    return run, rogue


REASONS = {
    "sends_no_record": "its answer cannot be read",
    "sends_a_bomb": "its answer cannot be read: MemoryError",
    "sends_nan": "groups.encoder: has NaN",
    "takes_anothers_name": "it calls itself 'north'",
    "answers_another_round": "it answers train of round 1000",
    "sends_control_characters": "<script>alert(1)</script>: not asked for",
    "answers_another_run": "its answer cannot be read",
    "answers_twice": "vectors.sum: missing",
}


@pytest.mark.parametrize("trick", [trick.__name__ for trick in TRICKS])
def test_in_a_run_an_invited_site(attacked, trick):
    run, rogue = attacked
    number = rogue.done.index(trick) + 1
    (event,) = [event for event in events(run, "round") if event["round"] == number]
    assert event["answered"] == ["north"]
    assert REASONS[trick] in event["refused"]["rogue"], event["refused"]
    assert event["refused"]["rogue"].isprintable()


def test_the_run_that_was_attacked_ends_as_any_other(place, attacked):
    run, _ = attacked
    assert place.covey.started["attacked"].returncode == 0, place.covey.said("attacked")
    assert (run / "encoder.safetensors").exists()
    page = (run / "report.html").read_text()
    assert "<script>" not in page and "\x1b" not in page
    assert "\x1b" not in (run / "metrics.jsonl").read_text().replace("\\u001b", "\x1b")


def test_after_all_that_a_site_still_works_and_no_process_has_ended(place, attacked):
    options = ("--rounds", "1", "--sites", "1", *SMALL)
    place.covey.start("after", "submit", "fedsimclr", "--server", "server", *options)
    until(lambda: place.ended("after"), PATIENCE)
    assert place.covey.started["after"].returncode == 0, place.covey.said("after")
    assert "over 1 sites" in place.covey.said("after")
    assert "a process ended" not in place.covey.said("server")
    assert "a process ended" not in place.covey.said("north")


def private_lines(folder):
    """Every line of every private key below `folder`, and every shared secret."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file() and SECRET_FILES.fullmatch(path.name) and path.suffix != ".db":
            text = path.read_text(errors="replace")
            keys = re.findall(r"-+BEGIN[^-]*PRIVATE KEY-+(.*?)-+END", text, re.DOTALL)
            found |= {line for key in keys for line in key.split() if len(line) > 30}
            if path.suffix == ".secret":
                found.add(text.strip())
    return found


def test_files_with_a_private_key_or_a_secret_are_their_owners_alone(place):
    secret = [
        path
        for path in place.folder.rglob("*")
        if path.is_file() and (b"PRIVATE KEY" in path.read_bytes() or path.suffix == ".secret")
    ]
    assert {path.name for path in secret} >= {
        "ca.key", "server.key", "superexec.secret", "key", "north.covey",
    }  # fmt: skip
    for path in secret:
        assert path.stat().st_mode & 0o777 == 0o600, path
        if path.parent != place.folder:  # an invitation lies where the coordinator wants it
            assert path.parent.stat().st_mode & 0o777 == 0o700, path.parent


def test_nothing_secret_is_in_logs_reports_run_folders_or_on_a_screen(place, attacked):
    secrets = private_lines(place.folder)
    assert len(secrets) > 20
    assert place.tokens, "Flower's tasks were seen without a token"
    looked = 0
    for path in place.folder.rglob("*"):
        if not path.is_file() or SECRET_FILES.fullmatch(path.name):
            continue
        looked += 1
        content = path.read_bytes()
        for secret in secrets | place.tokens:
            assert secret.encode() not in content, (path, secret[:8])
    assert looked > 30
    logs = place.server.logs.joinpath("front.log").stat().st_size
    assert logs < 10 * 2**20
