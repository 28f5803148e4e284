"""Who asks too often is told to come later, what is refused is written down, and neither costs
memory or disk without bound."""

import http.client
import socket
import ssl
import threading

import pytest
import uvicorn
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from deploy.coordinator import gate, limits
from deploy.coordinator.gate import Gate, Listener, noting_handshakes
from deploy.coordinator.limits import Buckets, Refusals, network
from deploy.identity.address import Address
from deploy.identity.certificates import issue_server, make_authority
from deploy.processes.supervisor import LOOPBACK
from tests.deploy.helpers import until

PATIENCE = 20.0


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@given(st.lists(st.floats(0, 5), min_size=1, max_size=60))
def test_no_more_pass_than_the_rate_and_the_burst_allow(pauses):
    clock = Clock()
    buckets = Buckets(2.0, burst=5.0, clock=clock)
    passed = 0
    for pause in pauses:
        clock.now += pause
        passed += buckets.take("a")
    assert passed <= 5 + 2 * sum(pauses) + 1e-6
    assert passed >= min(len(pauses), 5)


def test_one_who_asks_too_often_does_not_keep_others_out():
    buckets = Buckets(1.0, burst=3.0, clock=Clock())
    assert [buckets.take("loud") for _ in range(5)] == [True, True, True, False, False]
    assert buckets.take("quiet")


def test_very_many_who_ask_are_forgotten_in_their_order(monkeypatch):
    monkeypatch.setattr(limits, "MOST", 10)
    buckets = Buckets(1.0, burst=1.0, clock=Clock())
    for number in range(1000):
        buckets.take(str(number))
    assert len(buckets._buckets) == 10
    assert not buckets.take("999") and buckets.take("0")


def test_all_addresses_of_one_ipv6_network_are_one():
    assert network("2001:db8::1") == network("2001:db8::ffff:1") != network("2001:db8:0:1::1")
    assert network("192.0.2.1") != network("192.0.2.2")
    assert network("::ffff:192.0.2.1") == network("192.0.2.1") != network("::ffff:192.0.2.2")
    assert network("?") == "?"


def test_the_log_of_refusals_cannot_be_flooded_nor_forged(monkeypatch):
    monkeypatch.setattr(limits, "LINES_AT_ONCE", 3.0)
    monkeypatch.setattr(limits, "LINES", 0.0001)
    lines = []
    refusals = Refusals(lines.append)
    for _ in range(1000):
        refusals.note("192.0.2.1", "GET /\nrefused 10.0.0.1 \x1b[2J", "x" * 10_000)
    assert len(lines) == 3
    assert all(line.isprintable() and len(line) < 400 for line in lines)


@pytest.fixture
def front(tmp_path):
    """(address, authority, lines): a gate with 5 requests at once for an address, 3 for a site."""
    authority = make_authority(tmp_path)
    server = issue_server(authority, tmp_path, ())
    lines = []
    refusals = Refusals(lines.append)

    async def answer(request):
        return Response(status_code=int(request.path_params["status"]))

    app = Starlette(routes=[Route("/{status}", answer, methods=["POST"])])
    gate = Gate(app, Buckets(0.001, 5.0), Buckets(0.001, 3.0), refusals)
    config = uvicorn.Config(
        gate,
        loop="asyncio",
        ssl_certfile=server.certificate,
        ssl_keyfile=str(server.key),
        log_level="critical",
        timeout_graceful_shutdown=1,
    )
    config.load()
    config.ssl.sslobject_class = noting_handshakes(refusals)
    listener = Address(LOOPBACK, 0).bind(Listener)
    instance = uvicorn.Server(config)
    thread = threading.Thread(target=instance.run, args=([listener],))
    thread.start()
    until(lambda: instance.started)
    yield listener.getsockname(), authority, lines
    instance.should_exit = True
    thread.join(PATIENCE)


def post(front, path, **headers):
    address, authority, _ = front
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    connection = http.client.HTTPSConnection(*address, timeout=PATIENCE, context=tls)
    connection.request("POST", path, b"", headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def test_the_requests_of_a_site_and_of_an_address_are_limited(front):
    lines = front[2]
    named = {"flwr-public-key": "one site"}
    assert [post(front, "/200", **named).status for _ in range(4)] == [200, 200, 200, 503]
    answer = post(front, "/200", **{"flwr-public-key": "another site"})
    assert answer.status == 200
    answer = post(front, "/200")
    assert answer.status == 503 and answer.getheader("retry-after") == "1"
    assert len(lines) == 2
    assert lines[0].endswith("refused 127.0.0.1 POST /200: too many requests of this site")
    assert lines[1].endswith("refused 127.0.0.1 POST /200: too many requests of this address")


def test_what_is_refused_is_written_down_with_its_address(front):
    lines = front[2]
    assert post(front, "/200").status == 200
    assert lines == []
    assert post(front, "/401").status == 401
    assert lines[0].endswith("refused 127.0.0.1 POST /401: 401 Unauthorized")


def test_plain_text_and_an_authority_that_is_not_trusted_are_written_down(front, tmp_path):
    address, _, lines = front
    with socket.create_connection(address, timeout=PATIENCE) as plain:
        plain.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\n\r\n")
        until(lambda: lines)
    assert "refused 127.0.0.1 TLS handshake: " in lines[0]
    other = make_authority(tmp_path / "other")
    tls = ssl.create_default_context(cafile=str(other.certificate))
    with (
        socket.create_connection(address, timeout=PATIENCE) as raw,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        tls.wrap_socket(raw, server_hostname=LOOPBACK)
    until(lambda: len(lines) == 2)
    assert "refused 127.0.0.1 TLS handshake: " in lines[1] and "UNKNOWN_CA" in lines[1]


def test_the_front_knows_a_site_by_the_header_that_flower_sends() -> None:
    assert FLEET_HTTP_PUBLIC_KEY_HEADER.lower().encode() == gate.KEY
