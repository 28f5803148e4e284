"""How a site comes in, goes on as the one before it, and says goodbye."""

import json
from types import SimpleNamespace

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import (
    ActivateNodeResponse,
    DeactivateNodeResponse,
    PullMessagesResponse,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatResponse
from flwr.supercore.error import ApiErrorCode

from deploy.flower import fleet as module
from deploy.flower.fleet import Fleet, NotLetInError
from deploy.flower.mark import Mark, since_boot
from deploy.flower.whole import DisplacedError, NotOfferedError

NODE = 2**63 + 11


def refusal(status: int, code: int = 0) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "https://x")
    text = json.dumps({"code": int(code), "public_message": "no", "detail": "no"})
    response = httpx.Response(status, text=text, request=request)
    return httpx.HTTPStatusError("", request=request, response=response)


class Server:
    """A SuperLink's answers, and what it was asked. `counted`: a process of this site is online;
    `known`: the key is; `whole`: it has the calls for whole messages."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.counted, self.known, self.whole = False, True, True
        self._client = SimpleNamespace(timeout=None)
        self._base_url = "https://x"

    def ActivateNode(self, request):
        self.asked.append("activate" if request.heartbeat_interval > 0 else "am I known")
        if not self.known:
            raise refusal(412, ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED)
        if request.heartbeat_interval < 0:
            raise refusal(400, ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL)
        if self.counted:
            raise refusal(412, ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED)
        self.counted = True
        return ActivateNodeResponse(node_id=NODE)

    def DeactivateNode(self, request):
        assert request.node_id == NODE
        self.asked.append("goodbye")
        self.counted = False
        return DeactivateNodeResponse()

    def SendNodeHeartbeat(self, request):
        assert request.node.node_id == NODE
        if not self.known:
            raise refusal(401)
        return SendNodeHeartbeatResponse(success=True)

    def PullMessages(self, _request):
        self.asked.append("pull apart")
        return PullMessagesResponse()

    def close(self) -> None:
        self.asked.append("close")


@pytest.fixture
def server(monkeypatch):
    made = Server()
    client = SimpleNamespace(from_server_address=lambda *_, **__: made)

    class Whole:
        def __init__(self, _client, node, _retry) -> None:
            assert node == NODE

        def pull(self, fresh):
            if not made.whole:
                raise NotOfferedError
            made.asked.append("pull afresh" if fresh else "pull")

    monkeypatch.setattr(module, "FleetHttpClient", client)
    monkeypatch.setattr(module, "SiteCalls", Whole)
    monkeypatch.setattr(module, "STOCK_POLL", 0.0)
    monkeypatch.setattr(module, "NOTICED", 0.01)
    return made


@pytest.fixture
def mark(tmp_path):
    return Mark(tmp_path / "node.json")


def site(mark):
    return Fleet("x:1", b"", ec.generate_private_key(ec.SECP384R1()), mark)


def test_a_site_comes_in_asks_once_for_what_was_handed_out_and_says_goodbye(server, mark):
    with site(mark) as fleet:
        assert not fleet.go_on()
        fleet.enter()
        assert fleet.node == mark.node() == NODE
        fleet.next()
        fleet.next()
        fleet.lost()
        fleet.next()
    assert server.asked == [
        "activate",
        "pull afresh",
        "pull",
        "pull afresh",
        "goodbye",
        "close",
    ]
    assert mark.node() is None and not server.counted


def test_who_follows_a_killed_process_goes_on_as_it_and_the_server_sees_no_gap(server, mark):
    server.counted = True
    mark.write(NODE, since_boot())
    with site(mark) as fleet:
        assert fleet.go_on()
        fleet.next()
        assert server.asked == ["pull afresh"]


def test_a_second_machine_is_not_let_in_and_a_stranger_is_told_apart(server, mark):
    server.counted = True
    with site(mark) as fleet:
        assert not fleet.go_on()
        with pytest.raises(NotLetInError) as refused:
            fleet.enter()
        assert refused.value.known
        server.known = False
        with pytest.raises(NotLetInError) as refused:
            fleet.enter()
        assert not refused.value.known
    assert "goodbye" not in server.asked and server.counted


def test_a_revoked_site_does_not_go_on(server, mark):
    mark.write(NODE, since_boot())
    server.known = False
    with site(mark) as fleet:
        assert not fleet.go_on()


def test_a_proxy_that_will_be_back_is_no_refusal(server, mark, monkeypatch):
    def later(_request):
        raise refusal(503)

    monkeypatch.setattr(server, "ActivateNode", later)
    with site(mark) as fleet, pytest.raises(httpx.HTTPStatusError):
        fleet.enter()


def test_a_stock_superlink_is_asked_with_flowers_own_calls(server, mark):
    server.whole = False
    with site(mark) as fleet:
        fleet.enter()
        fleet.next()
        fleet.next()
        assert server.asked == ["activate", "pull apart", "pull apart"]


def test_a_stock_superlink_sees_that_a_killed_process_was_away(server, mark):
    """It does not hand out again what that process had in hand."""
    server.counted, server.whole = True, False
    mark.write(NODE, since_boot())
    with site(mark) as fleet:
        assert fleet.go_on()
        fleet.next()
        assert server.asked == ["goodbye", "activate", "pull apart"]
        assert mark.node() == NODE


def test_who_was_let_in_meanwhile_stays(server, mark, monkeypatch):
    server.counted, server.whole = True, False
    mark.write(NODE, since_boot())
    monkeypatch.setattr(module.time, "sleep", lambda _seconds: setattr(server, "counted", True))
    with site(mark) as fleet:
        assert fleet.go_on()
        with pytest.raises(DisplacedError):
            fleet.next()
        assert mark.node() is None
    assert server.counted
