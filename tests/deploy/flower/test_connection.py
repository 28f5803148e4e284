"""What a connection makes of what comes in: answers, refusals, and going on whatever a message
brings."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.run import RunNotRunningException

from client.app import REFUSED
from common.protocol.messages import decode, encode
from common.utils.errors import UserError
from deploy.flower import bundle, connection, inside
from deploy.flower.connection import DEADLY, FOREIGN, InHand, Site
from deploy.flower.lines import AGAIN_THERE, NO_WAY, TRAINER_ENDED
from deploy.flower.pin import unpack
from deploy.flower.site_node import has_to_be_stock
from tests.deploy.flower.test_pin import CHANGES, fab_of, packed, run_of, with_manifest

RUN, NODE = 7, 5


class Over(BaseException):
    """Nothing more comes in."""


class Incoming:
    """A message as `Delivery` hands it over."""

    def __init__(self, text: str = "hello", error: Exception | None = None) -> None:
        content = RecordDict({"words": ConfigRecord({"text": text})})
        self._message = Message(content, NODE, "train", group_id="3")
        self._message.metadata.__dict__.update(_message_id="a" * 64, _run_id=RUN)
        self._error = error

    @property
    def head(self) -> Message:
        return self._message

    def open(self) -> Message:
        if self._error:
            raise self._error
        return self._message


class FakeFleet:
    """Hands out `incoming` (an exception is raised), keeps the replies; `refuses` what it is
    given first."""

    node = NODE

    def __init__(self, content: bytes, incoming: list, refuses: Exception | None = None) -> None:
        self._content, self._incoming, self._refuses = content, incoming, refuses
        self.replies: list[Message] = []
        self.asked = self.losses = 0

    def next(self):
        if not self._incoming:
            raise Over
        found = self._incoming.pop(0)
        if isinstance(found, BaseException):
            raise found
        return found

    def run(self, run_id: int):
        self.asked += 1
        return run_of(self._content)

    def bundle(self, run):
        return fab_of(self._content)

    def lost(self) -> None:
        self.losses += 1

    def is_heard(self) -> bool:
        return bool(self._incoming) and not isinstance(self._incoming[0], Exception)

    def reply(self, message: Message, seconds: float) -> None:
        refused, self._refuses = self._refuses, None
        if refused:
            raise refused
        self.replies.append(message)


class FakeTrainer:
    failed = False

    def __init__(self, answer: Callable[[bytes], bytes] = lambda record: record) -> None:
        self.ask = answer


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(connection, "FIRST", 0.01)


@pytest.fixture(scope="module")
def own():
    return bundle.build({"recipe": "fedbyol"})


@pytest.fixture(autouse=True)
def identity(monkeypatch):
    monkeypatch.setattr("flwr.supercore.task_identity.TaskIdentity._run_id", RUN)
    monkeypatch.setattr("flwr.supercore.task_identity.TaskIdentity._node_id", 1)
    monkeypatch.setattr("flwr.supercore.task_identity.TaskIdentity._task_id", 1)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def serve(fleet, trainer=None):
    with pytest.raises(Over):
        Site(fleet, trainer or FakeTrainer(), InHand(Path("in-hand"))).serve()
    return fleet.replies


def status(code: int) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "https://x")
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(code))


def test_a_message_is_answered_by_the_trainer_and_the_run_is_looked_at_once(own):
    def shout(record: bytes) -> bytes:
        text = decode(record)["words"]["text"]
        return encode(RecordDict({"words": ConfigRecord({"text": str(text).upper()})}))

    fleet = FakeFleet(own, [Incoming("a"), None, Incoming("b")])
    replies = serve(fleet, FakeTrainer(shout))
    assert [reply.content["words"]["text"] for reply in replies] == ["A", "B"]
    assert {reply.metadata.reply_to_message_id for reply in replies} == {"a" * 64}
    assert fleet.asked == 1


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_run_with_any_other_bundle_is_refused_and_reaches_no_trainer(own, change, caplog):
    caplog.set_level("INFO", connection.LOG.name)

    def never(_record: bytes) -> bytes:
        raise AssertionError

    content = packed(with_manifest(change(unpack(own))))
    (reply,) = serve(FakeFleet(content, [Incoming()]), FakeTrainer(never))
    assert (reply.error.code, reply.error.reason) == (ErrorCode.INVALID_FAB, FOREIGN)
    assert f"{bundle.REFUSED} {RUN}: " in caplog.text


def test_what_the_trainer_refuses_is_told_in_its_words(own):
    def refuse(_record: bytes) -> bytes:
        raise UserError("too few\x1b images")

    (reply,) = serve(FakeFleet(own, [Incoming()]), FakeTrainer(refuse))
    assert (reply.error.code, reply.error.reason) == (
        REFUSED,
        "too few\N{REPLACEMENT CHARACTER} images",
    )


@pytest.mark.parametrize("error", [ValueError("a\nb"), MemoryError(), RecursionError()])
def test_what_cannot_be_put_together_is_an_error_and_the_next_is_answered(own, error):
    replies = serve(FakeFleet(own, [Incoming(error=error), Incoming()]))
    assert replies[0].error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert "cannot be put together" in replies[0].error.reason
    assert replies[0].error.reason.isprintable()
    assert not replies[1].has_error()


def test_an_answer_that_the_server_refuses_is_told_instead(own):
    fleet = FakeFleet(own, [Incoming()], refuses=status(413))
    (reply,) = serve(fleet)
    assert reply.error.reason == "the answer could not be sent: HTTP status 413"


def test_a_run_that_is_over_is_passed_over(own):
    fleet = FakeFleet(own, [Incoming(), Incoming()], refuses=RunNotRunningException())
    assert len(serve(fleet)) == 1


@pytest.mark.parametrize("error", [httpx.ConnectError("certificate has expired"), status(500)])
def test_where_there_is_no_way_to_the_server_it_goes_on_trying(own, error, caplog):
    caplog.set_level("INFO", connection.LOG.name)
    fleet = FakeFleet(own, [error, error, Incoming()])
    assert len(serve(fleet)) == 1 and fleet.losses == 2
    said = [line for line in caplog.messages if NO_WAY in line or AGAIN_THERE in line]
    assert len(said) == 3 and NO_WAY in said[1] and said[2] == AGAIN_THERE


def test_a_trainer_that_cannot_start_ends_the_site(own):
    trainer = FakeTrainer()
    trainer.failed = True
    with pytest.raises(UserError, match=TRAINER_ENDED):
        Site(FakeFleet(own, [Incoming()]), trainer, InHand(Path("in-hand"))).serve()


def test_a_message_that_ends_every_process_is_answered_with_an_error_in_the_end(own):
    def killed(_record: bytes) -> bytes:
        raise Over

    for _ in range(connection.ATTEMPTS):
        fleet = FakeFleet(own, [Incoming()])
        assert serve(fleet, FakeTrainer(killed)) == []
    replies = serve(FakeFleet(own, [Incoming(), Incoming()]))
    assert replies[0].error.reason == DEADLY
    assert not replies[1].has_error() and not Path("in-hand").exists()


def test_a_flwr_without_what_the_connection_needs_makes_a_stock_site(monkeypatch):
    assert has_to_be_stock() == ""
    changed = {**inside.SITE, "flwr.supercore.heartbeat": ("HeartbeatSender.pause",)}
    monkeypatch.setattr(inside, "SITE", changed)
    assert has_to_be_stock() == (
        "this flwr has no flwr.supercore.heartbeat.HeartbeatSender.pause: the site runs with "
        "Flower's own SuperNode and SuperExec"
    )


def test_the_connection_imports_no_torch():
    code = "import sys, deploy.flower.connection; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
