"""The front lets sites through to the fleet calls and nobody through to anything else."""

import http.client
import ssl
import threading

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from deploy.coordinator.front import build_front
from deploy.identity.address import Address
from deploy.identity.certificates import issue_server, make_authority
from deploy.processes.supervisor import LOOPBACK, free_port
from tests.deploy.serving import PATIENCE, serving

LIMIT = 100_000


class SuperLink:
    """Stands for the real one: notes what reaches it, and answers as a test wants."""

    def __init__(self):
        self.seen = []
        self.first_chunk = threading.Event()
        self.go_on = threading.Event()
        routes = [Route("/{path:path}", self.answer, methods=["GET", "POST", "PUT", "DELETE"])]
        self.app = Starlette(routes=routes)

    async def answer(self, request):
        body = b""
        async for chunk in request.stream():
            body += chunk
            if chunk:
                self.first_chunk.set()
        self.seen.append((request.method, request.url.path, dict(request.headers), body))
        if request.url.path.endswith("slow"):
            return StreamingResponse(self.slowly())
        return Response(b"answer to " + body, 418, {"x-flower": "kept"}, "application/protobuf")

    def slowly(self):
        yield b"first"
        yield b"last" if self.go_on.wait(PATIENCE) else b"never"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A SuperLink behind a front: (the SuperLink, the front's address, the authority)."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = make_authority(folder)
    server = issue_server(authority, folder, ())
    superlink, inner, outer = SuperLink(), free_port(), free_port()
    front = build_front(Address(LOOPBACK, inner), authority.certificate, LIMIT)
    with serving(superlink.app, inner, server), serving(front, outer, server):
        yield superlink, Address(LOOPBACK, outer), authority


@pytest.fixture
def superlink(place):
    place[0].seen.clear()
    place[0].first_chunk.clear()
    place[0].go_on.clear()
    return place[0]


@pytest.fixture
def client(place):
    tls = ssl.create_default_context(cafile=str(place[2].certificate))
    with httpx.Client(
        verify=tls, base_url=f"https://{place[1]}", timeout=PATIENCE, trust_env=False
    ) as each:
        yield each


def raw(place, method, path):
    """The status of a request whose path no library has tidied."""
    tls = ssl.create_default_context(cafile=str(place[2].certificate))
    connection = http.client.HTTPSConnection(
        place[1].host, place[1].port, timeout=PATIENCE, context=tls
    )
    connection.request(method, path, b"" if method == "POST" else None)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_fleet_call_arrives_whole_and_its_answer_comes_back_whole(client, superlink):
    answer = client.post(
        "/v1/fleet/pull-messages?x=1",
        content=b"\x00\xff body",
        headers={"flwr-signature": "signed", "content-type": "application/protobuf"},
    )
    assert (answer.status_code, answer.content) == (418, b"answer to \x00\xff body")
    assert answer.headers["x-flower"] == "kept"
    assert answer.headers["content-type"] == "application/protobuf"
    [(method, path, headers, body)] = superlink.seen
    assert (method, path, body) == ("POST", "/v1/fleet/pull-messages", b"\x00\xff body")
    assert headers["flwr-signature"] == "signed"


def test_health_goes_through(client, superlink):
    assert client.get("/health").status_code == 418
    assert superlink.seen[0][:2] == ("GET", "/health")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/control/start-run"),
        ("POST", "/v1/control/register-node"),
        ("POST", "/v1/runtime/acquire-task"),
        ("POST", "/v1/fleet/../control/start-run"),
        ("POST", "/v1/fleet/..%2fcontrol%2fstart-run"),
        ("POST", "/v1/fleet/%2e%2e/control/start-run"),
        ("POST", "/v1/fleet/..;/control/start-run"),
        ("POST", "//v1/control/start-run"),
        ("POST", "/v1/fleet/"),
        ("POST", "/v1/fleet/pull-messages/more"),
        ("POST", "/v1/fleet/pull-messages%3f"),
        ("GET", "/v1/fleet/pull-messages"),
        ("PUT", "/v1/fleet/push-object"),
        ("POST", "/health"),
        ("GET", "/health/"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("GET", "/"),
    ],
)
def test_everything_else_is_not_found_and_reaches_nobody(place, superlink, method, path):
    assert raw(place, method, path) == 404
    assert superlink.seen == []


def test_a_site_cannot_pretend_to_be_elsewhere(client, superlink):
    told = {"x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1", "x-other": "kept"}
    client.post("/v1/fleet/get-run", headers=told)
    headers = superlink.seen[0][2]
    assert headers["x-other"] == "kept"
    assert not headers.keys() & {"x-forwarded-for", "forwarded"}


def test_a_request_of_the_limit_passes_and_one_byte_more_does_not(client, superlink):
    assert client.post("/v1/fleet/push-object", content=b"x" * LIMIT).status_code == 418
    superlink.seen.clear()
    assert client.post("/v1/fleet/push-object", content=b"x" * (LIMIT + 1)).status_code == 413
    assert superlink.seen == []


def test_the_limit_holds_for_a_request_that_does_not_say_its_length(client, superlink):
    answer = client.post("/v1/fleet/push-object", content=(b"x" * 1000 for _ in range(101)))
    assert answer.status_code == 413
    assert superlink.seen == []
    answer = client.post("/v1/fleet/push-object", content=(b"x" * 1000 for _ in range(100)))
    assert answer.status_code == 418
    assert len(superlink.seen[0][3]) == LIMIT


def test_a_request_is_passed_on_while_it_is_still_being_sent(client, superlink):
    def body():
        yield b"first"
        assert superlink.first_chunk.wait(PATIENCE)
        yield b"last"

    assert client.post("/v1/fleet/push-object", content=body()).content == b"answer to firstlast"


def test_an_answer_is_passed_on_while_it_is_still_being_made(client, superlink):
    with client.stream("POST", "/v1/fleet/slow") as answer:
        chunks = answer.iter_raw()
        assert next(chunks) == b"first"
        superlink.go_on.set()
        assert b"".join(chunks) == b"last"


def test_without_a_superlink_a_site_is_told_to_try_again(tmp_path):
    authority = make_authority(tmp_path)
    server = issue_server(authority, tmp_path, ())
    port = free_port()
    front = build_front(Address(LOOPBACK, free_port()), authority.certificate, LIMIT)
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    with serving(front, port, server), httpx.Client(verify=tls, trust_env=False) as client:
        answer = client.post(f"https://{LOOPBACK}:{port}/v1/fleet/pull-messages", content=b"x")
        assert answer.status_code == 503


def test_a_superlink_of_another_authority_is_not_talked_to(tmp_path):
    ours, other = make_authority(tmp_path / "ours"), make_authority(tmp_path / "other")
    server = issue_server(ours, tmp_path / "ours", ())
    stranger, inner, outer = SuperLink(), free_port(), free_port()
    front = build_front(Address(LOOPBACK, inner), ours.certificate, LIMIT)
    tls = ssl.create_default_context(cafile=str(ours.certificate))
    with (
        serving(stranger.app, inner, issue_server(other, tmp_path / "other", ())),
        serving(front, outer, server),
        httpx.Client(verify=tls, trust_env=False) as client,
    ):
        answer = client.post(f"https://{LOOPBACK}:{outer}/v1/fleet/pull-messages", content=b"x")
        assert answer.status_code == 503
    assert stranger.seen == []
