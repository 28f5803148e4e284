"""Whole messages and held questions, between a site, a SuperLink and a ServerApp."""

import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.common.serde import message_from_proto
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, PushMessagesRequest
from flwr.proto.message_pb2 import PullObjectRequest, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PushTaskOutputRequest
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.superlink.servicer.fleet import fleet_handlers

from deploy.flower.whole import NotOfferedError, SiteCalls, _taken_apart
from deploy.processes.supervisor import free_port
from tests.deploy.flower.place import (
    PATIENCE,
    Patient,
    Place,
    content_of,
    held,
    message_to,
    reply_to,
    running,
)
from tests.deploy.helpers import until


def at_once(place: Place, monkeypatch) -> None:
    """Have what is finished deleted at once, as all that earlier tests have left."""
    monkeypatch.setattr("deploy.flower.finished.MOST", 0)
    place.app._messages._finished.delete(place.state)


def test_a_message_goes_whole_and_its_reply_comes_back(place: Place) -> None:
    site, app = place.site(), place.serverapp()
    ids = app.ask(site, content=b"what is it?")
    delivery = site.calls.pull(0.0)
    assert delivery is not None and delivery.head.metadata.message_id == ids[0]
    message = delivery.open()
    assert content_of(message) == b"what is it?"
    site.calls.push(reply_to(message, b"this"), 1.0)
    assert app.hear(ids, wait=0.0) == b"this"


def test_arrays_of_many_parts_come_as_they_were(place: Place) -> None:
    site, app = place.site(), place.serverapp()
    values = np.random.default_rng(0).random(3_000_000, np.float32)  # 12 MB: three parts
    record = RecordDict({"model": ArrayRecord({"flat": Array(values)}), "empty": ConfigRecord()})
    (message_id,) = app.calls.push([message_to(site.node, app.run.run_id, record)])
    delivery = site.calls.pull(0.0)
    assert delivery is not None
    message = delivery.open()
    np.testing.assert_array_equal(message.content["model"]["flat"].numpy(), values)
    site.calls.push(reply_to(message, values.tobytes()), 1.0)
    assert app.hear([message_id]) == values.tobytes()


def test_questions_are_held_until_there_is_something(place: Place, pool) -> None:
    site, app = place.site(), place.serverapp()
    start = time.monotonic()
    assert site.calls.pull(0.0) is None and app.calls.pull(["0" * 64], [], 0.0) is not None
    assert time.monotonic() - start < PATIENCE / 2
    asked = pool.submit(site.calls.pull, 20.0)
    until(lambda: held(place) == 1)
    time.sleep(0.3)
    assert not asked.done()
    ids = app.ask(site)
    delivery = asked.result(PATIENCE)
    heard = pool.submit(app.calls.pull, ids, [], 20.0)
    until(lambda: held(place) == 1)
    site.calls.push(reply_to(delivery.open(), b"late"), 1.0)
    assert content_of(heard.result(PATIENCE).open()) == b"late"


def test_where_nothing_has_come_the_database_is_not_asked_again(
    place: Place, pool, monkeypatch
) -> None:
    site, app = place.site(), place.serverapp()
    looks = []
    claim = place.app._messages.claim
    monkeypatch.setattr(
        place.app._messages, "claim", lambda *given: looks.append(1) or claim(*given)
    )
    for _ in range(3):
        assert site.calls.pull(0.2) is None
    assert len(looks) == 4  # at the start, and where each has waited in vain
    asked = pool.submit(site.calls.pull, 20.0)
    until(lambda: held(place) == 1)
    app.ask(site)
    assert asked.result(PATIENCE) is not None
    assert len(looks) == 5


def test_a_question_is_held_for_as_long_as_it_asks(place: Place) -> None:
    site = place.site()
    start = time.monotonic()
    assert site.calls.pull(1.0) is None
    assert time.monotonic() - start >= 1.0


def test_a_serverapp_that_waits_hears_of_a_site_that_comes(place: Place, pool) -> None:

    site, app = place.site(), place.serverapp()
    assert place.state.deactivate_node(site.node)
    waiting = pool.submit(app.calls.pull, [], [], 20.0)
    until(lambda: held(place) == 1)
    key = public_key_to_bytes(site.key.public_key())
    start = time.monotonic()
    site.client.ActivateNode(ActivateNodeRequest(public_key=key, heartbeat_interval=30.0))
    assert waiting.result(PATIENCE) is None
    assert time.monotonic() - start < 10
    assert fleet_handlers.activate_node.__wrapped__


def test_each_site_gets_its_own_and_objects_are_shared(place: Place) -> None:
    sites, app = [place.site() for _ in range(5)], place.serverapp()
    before = place.rows("objects")
    ids = app.ask(*sites, content=b"x" * 1000)
    assert place.rows("objects") == before + 5 + 2  # five messages; record and its part once
    for number, site in enumerate(sites):
        site.answer(b"answer %d" % number, 0.0)
    left, heard, taken = set(ids), {}, []
    while left:
        delivery = app.calls.pull(list(left), taken, PATIENCE)
        message = delivery.open()
        taken = [message.metadata.reply_to_message_id]
        left.remove(*taken)
        heard[message.metadata.src_node_id] = content_of(message)
    assert heard == {site.node: b"answer %d" % n for n, site in enumerate(sites)}


def test_a_reply_stays_until_it_is_taken(place: Place) -> None:
    site, app = place.site(), place.serverapp()
    ids = app.ask(site)
    site.answer(b"kept")
    assert [app.hear(ids) for _ in range(3)] == [b"kept"] * 3  # three connections that broke
    for _ in range(2):
        app.calls.pull([], ids, 0.0)


def test_what_is_done_with_is_deleted_and_what_is_withdrawn_is_not_handed_out(
    place: Place, monkeypatch
) -> None:
    at_once(place, monkeypatch)
    tables = ("objects", "object_children", "run_objects", "message_ins", "message_res")
    first, second, app = place.site(), place.site(), place.serverapp()
    before = [place.rows(table) for table in tables]
    ids = app.ask(first, second, content=b"nobody else's")
    first.answer(b"nobody else's either")
    app.hear(ids[:1])
    app.calls.pull([], ids, 0.0)  # the second has not answered yet
    assert [place.rows(table) for table in tables] == before
    assert second.calls.pull(0.0) is None


def test_a_reply_that_is_waited_for_no_more_is_dropped(place: Place, monkeypatch) -> None:
    at_once(place, monkeypatch)
    site, app = place.site(), place.serverapp()
    ids = app.ask(site)
    message = site.calls.pull(0.0).open()
    app.calls.pull([], ids, 0.0)
    before = place.rows("objects"), place.rows("message_res")
    site.calls.push(reply_to(message, b"x" * 3_000_000), 1.0)
    assert (place.rows("objects"), place.rows("message_res")) == before


def test_the_end_of_a_run_leaves_no_messages(place: Place, monkeypatch) -> None:

    at_once(place, monkeypatch)
    site, app = place.site(), place.serverapp()
    before = place.rows("objects"), place.rows("message_ins"), place.rows("message_res")
    app.ask(site, place.site())
    site.answer()
    app.client.PushTaskOutput(PushTaskOutputRequest(sub_status="completed"))
    assert (place.rows("objects"), place.rows("message_ins"), place.rows("message_res")) == before


def test_the_database_does_not_grow_with_the_exchanges(place: Place) -> None:
    site, app = place.site(), place.serverapp()
    rng = np.random.default_rng(0)
    sizes, taken = [], []
    for _ in range(160):
        ids = app.ask(site, content=rng.bytes(50_000))
        site.answer(rng.bytes(50_000))
        delivery = app.calls.pull(ids, taken, PATIENCE)
        taken = [delivery.head.metadata.reply_to_message_id]
        (pages,) = place.state.query("PRAGMA page_count")
        sizes.append(pages["page_count"])
    assert max(sizes[80:]) <= max(sizes[:80]) + 8  # pages; 80 exchanges more brought 2,000
    assert place.rows("message_res") < 80


# -- beside Flower's own calls ---------------------------------------------------------------------


def test_a_message_of_a_stock_serverapp_wakes_a_held_site(place: Place, pool) -> None:

    site, app = place.site(), place.serverapp()
    grid = app.grid()
    asked = pool.submit(site.calls.pull, 20.0)
    until(lambda: held(place) == 1)
    record = RecordDict({"asked": ConfigRecord({"content": b"from stock"})})
    (message_id,) = grid.push_messages([message_to(site.node, app.run.run_id, record)])
    message = asked.result(PATIENCE).open()
    assert content_of(message) == b"from stock"
    site.calls.push(reply_to(message, b"to stock"), 1.0)
    (reply,) = grid.pull_messages([message_id])
    assert content_of(reply) == b"to stock"


def test_a_reply_of_a_stock_supernode_wakes_a_held_serverapp(place: Place, pool) -> None:

    site, app = place.site(), place.serverapp()
    ids = app.ask(site, content=b"to stock")
    node = Node(node_id=site.node)
    asked = site.client.PullMessages(PullMessagesRequest(node=node))
    (proto,) = asked.messages_list
    pulled = site.client.PullObject(
        PullObjectRequest(node=node, run_id=app.run.run_id, object_id=ids[0])
    )
    assert proto.metadata.message_id == ids[0] and pulled.object_available
    heard = pool.submit(app.calls.pull, ids, [], 20.0)
    until(lambda: held(place) == 1)

    reply = reply_to(message_from_proto(proto), b"from stock")
    protos, trees, _ = _taken_apart([reply])
    told = PushMessagesRequest(node=node, messages_list=protos, message_object_trees=trees)
    begun = site.client.PushMessages(told)
    assert not heard.done()
    for object_id, item in get_all_nested_objects(reply).items():
        site.client.PushObject(
            PushObjectRequest(
                node=node,
                run_id=app.run.run_id,
                object_id=object_id,
                object_content=item.deflate(),
                session_id=begun.session_id,
            )
        )
    assert content_of(heard.result(PATIENCE).open()) == b"from stock"


def test_a_superlink_without_these_calls_says_so(place: Place, tmp_path) -> None:

    port = free_port()
    with running(place.app._app, port):
        stock = Place(port, place.folder, place.state, place.app._app)
        site, app = stock.site(), stock.serverapp()
        with pytest.raises(NotOfferedError):
            site.calls.pull(1.0)
        with pytest.raises(NotOfferedError):
            app.ask(site)
        site.client.PullMessages(PullMessagesRequest(node=Node(node_id=site.node)))


def test_a_client_of_another_flower_is_not_used() -> None:
    with pytest.raises(NotOfferedError, match="_client"):
        SiteCalls(object(), 1, Patient())
