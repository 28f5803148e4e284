"""What a stranger, a revoked site or an invited one that means harm can do with the calls for whole
messages: nothing that reaches another site, the run or the server's memory."""

import socket

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import PushMessagesRequest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deploy.flower.frames import LENGTH, pack
from deploy.flower.transactions import hand_out_again
from deploy.flower.whole import APP_PULL, APP_PUSH, SITE_PULL, SITE_PUSH
from tests.deploy.flower.place import (
    PATIENCE,
    Place,
    Site,
    body_of,
    nothing_changes,
    push_raw,
    question,
    raw,
    reply_to,
    signed,
)
from tests.deploy.helpers import until

CALLS = (SITE_PULL, SITE_PUSH, APP_PULL, APP_PUSH)


# -- who asks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CALLS)
def test_whoever_does_not_say_who_they_are_is_refused_before_their_body_is_read(
    place: Place, path: str
) -> None:
    address = ("127.0.0.1", place.port)
    with nothing_changes(place), socket.create_connection(address, PATIENCE) as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 4000000000\r\n\r\n"
        connection.sendall(head.encode())
        assert b" 401 " in connection.recv(1000)  # though nothing of the body has come


@pytest.mark.parametrize("path", [SITE_PULL, SITE_PUSH])
def test_a_key_that_was_not_invited_and_one_that_was_revoked_are_refused(
    place: Place, path: str
) -> None:
    stranger = Site(place, place.site().node, ec.generate_private_key(ec.SECP384R1()))
    revoked = place.site()
    revoked.revoke()
    for site in (stranger, revoked):
        assert raw(place, path, question(site), signed(site)).status_code == 401


def test_a_site_that_names_another_is_refused(place: Place) -> None:
    site, other, app = place.site(), place.site(), place.serverapp()
    app.ask(other)
    assert raw(place, SITE_PULL, question(other), signed(site)).status_code == 401
    reply = reply_to(other.calls.pull(0.0).open(), b"not mine")
    body = b"".join(pack(body_of(other, reply)))
    assert raw(place, SITE_PUSH, body, signed(site)).status_code == 401


@pytest.mark.parametrize("path", [APP_PULL, APP_PUSH])
def test_a_task_that_is_not_or_is_over_is_refused(place: Place, path: str) -> None:
    app = place.serverapp()
    app.stop()
    for token in ("", "x" * 40, app.token):
        assert raw(place, path, b"", {"flwr-task-token": token}).status_code == 401


def test_a_site_that_is_revoked_while_its_question_is_held_gets_nothing(place: Place, pool) -> None:
    site, app = place.site(), place.serverapp()
    app.ask(site)
    taken = site.calls.pull(0.0)
    asked = pool.submit(site.calls.pull, 20.0)
    until(lambda: place.app._held == 1)
    site.revoke()
    hand_out_again(site.node, place.state)  # there is something for it now
    place.app._bells.ring(("site", site.node))
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        asked.result(PATIENCE)
    assert taken is not None  # it would have got it
    left = place.state.query(
        "SELECT delivered_at FROM message_ins WHERE message_id = :id",
        {"id": taken.head.metadata.message_id},
    )
    assert left[0]["delivered_at"] == ""


def test_a_site_that_is_revoked_while_it_pushes_is_refused(place: Place, pool) -> None:
    site, app = place.site(), place.serverapp()
    app.ask(site)
    body = b"".join(pack(body_of(site, reply_to(site.calls.pull(0.0).open(), bytes(10**6)))))

    def halting():
        yield body[:500_000]
        until(lambda: place.app._spool.used > 0)
        site.revoke()
        yield body[500_000:]

    with nothing_changes(place):
        answer = httpx.post(
            f"http://{place.address}{SITE_PUSH}", content=halting(), headers=signed(site)
        )
        assert answer.status_code == 401


# -- what they bring -------------------------------------------------------------------------------


def spoiled(site: Site, reply, change) -> bytes:
    """A push whose head `change` has changed."""
    head, *objects = body_of(site, reply)
    told = PushMessagesRequest.FromString(head)
    change(told)
    return b"".join(pack([told.SerializeToString(), *objects]))


CHANGES = {
    "another run": lambda told: setattr(told.messages_list[0].metadata, "run_id", 12345),
    "in another's name": lambda told: setattr(told.messages_list[0].metadata, "src_node_id", 7),
    "two messages": lambda told: told.messages_list.append(told.messages_list[0]),
    "no message": lambda told: told.ClearField("messages_list"),
    "no tree": lambda told: told.ClearField("message_object_trees"),
    "the tree of another": lambda told: setattr(
        told.message_object_trees[0], "object_id", "0" * 64
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_reply_that_is_not_to_what_the_site_was_asked_is_refused(place: Place, change) -> None:
    site, app = place.site(), place.serverapp()
    ids = app.ask(site)
    reply = reply_to(site.calls.pull(0.0).open(), b"x")
    with nothing_changes(place):
        assert push_raw(place, site, spoiled(site, reply, change)) == 400
    site.calls.push(reply, 1.0)  # the true one is taken all the same
    assert app.hear(ids) == b"x"


def test_a_reply_to_what_another_site_was_asked_is_refused(place: Place) -> None:
    site, other, app = place.site(), place.site(), place.serverapp()
    ids = app.ask(other)
    reply = reply_to(other.calls.pull(0.0).open(), b"of another")
    reply.metadata.__dict__["_src_node_id"] = site.node
    with nothing_changes(place):
        assert push_raw(place, site, b"".join(pack(body_of(site, reply)))) == 400
    other.calls.push(reply_to(place_message(app, other, ids), b"right"), 1.0)
    assert app.hear(ids) == b"right"


def place_message(app, site: Site, ids: list[str]):
    """What a site was asked, handed out to it again."""
    delivery = site.calls.pull(0.0, fresh=True)
    assert delivery.head.metadata.message_id == ids[0]
    return delivery.open()


def test_a_reply_to_what_was_never_asked_is_dropped(place: Place) -> None:
    site, app = place.site(), place.serverapp()
    app.ask(site)
    reply = reply_to(site.calls.pull(0.0).open(), b"x")
    reply.metadata.__dict__["_reply_to_message_id"] = "0" * 64
    with nothing_changes(place):
        assert push_raw(place, site, b"".join(pack(body_of(site, reply)))) == 200


def test_a_reply_that_is_sent_again_after_it_was_taken_changes_nothing(
    place: Place, monkeypatch
) -> None:
    site, app = place.site(), place.serverapp()
    ids = app.ask(site)
    reply = reply_to(site.calls.pull(0.0).open(), b"x")
    body = b"".join(pack(body_of(site, reply)))
    assert push_raw(place, site, body) == 200
    assert app.hear(ids) == b"x"
    monkeypatch.setattr("deploy.flower.finished.MOST", 0)
    app.calls.pull([], ids, 0.0)
    with nothing_changes(place):
        assert push_raw(place, site, body) == 200
    assert site.calls.pull(0.0, fresh=True) is None


def test_a_reply_to_a_run_that_has_ended_is_refused(place: Place) -> None:
    site, app = place.site(), place.serverapp()
    app.ask(site)
    body = b"".join(pack(body_of(site, reply_to(site.calls.pull(0.0).open(), b"x"))))
    place.state.finish_task(app.run.primary_task_id, "failed", "")
    assert push_raw(place, site, body) == 403
    assert site.calls.pull(0.0, fresh=True) is None


WRONG = {
    "cut off": lambda parts: (b"".join(pack(parts))[:-1], 400),
    "an object is missing": lambda parts: (b"".join(pack(parts[:-1])), 400),
    "an object is not the one of its id": lambda parts: (
        b"".join(pack([*parts[:-1], parts[-1] + b"x"])),
        400,
    ),
    "an id that is none": lambda parts: (b"".join(pack([*parts[:-1], b"\xff" * 99])), 400),
    "no parts": lambda _parts: (b"", 400),
    "a head that is none": lambda parts: (b"".join(pack([b"\xff" * 50, *parts[1:]])), 400),
    "a head that is too large": lambda _parts: (LENGTH.pack(2**23), 413),
    "a part that is too large": lambda parts: (
        b"".join(pack(parts[:1])) + LENGTH.pack(2**26 + 1),
        413,
    ),
    "more than a reply may have": lambda parts: (
        b"".join(pack([*parts, *[bytes(2**23)] * 8])),
        413,
    ),
    "more objects than a message may have": lambda parts: (
        b"".join(pack([*parts, *[b""] * 10_001])),
        413,
    ),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG.keys())
def test_a_body_that_is_wrong_is_refused_and_leaves_nothing(place: Place, spoil) -> None:
    site, app = place.site(), place.serverapp()
    app.ask(site)
    parts = body_of(site, reply_to(site.calls.pull(0.0).open(), b"x"))
    body, status = spoil(parts)
    with nothing_changes(place):
        assert push_raw(place, site, body) == status


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_garbage_is_refused_whatever_it_is(place: Place, data) -> None:
    site = place.app_site
    path = data.draw(st.sampled_from([SITE_PULL, SITE_PUSH]))
    body = data.draw(
        st.one_of(
            st.binary(max_size=300),
            st.lists(st.binary(max_size=100), max_size=5).map(lambda p: b"".join(pack(p))),
            st.binary(max_size=100).map(
                lambda tail: b"".join(
                    pack([PushMessagesRequest(node=site.calls._node).SerializeToString(), tail])
                )
            ),
        )
    )
    with nothing_changes(place):
        assert raw(place, path, body, signed(site)).status_code in (400, 401, 413)


@pytest.fixture(autouse=True)
def _one_site(place: Place):
    if not hasattr(place, "app_site"):
        place.app_site = place.site()


def test_a_question_that_waits_for_nonsense_is_refused(place: Place) -> None:
    site = place.site()
    for wait in ("-1", "nan", "soon", ""):
        headers = {**signed(site), "covey-wait": wait}
        assert raw(place, SITE_PULL, question(site), headers).status_code == 400
