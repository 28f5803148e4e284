"""A ServerApp's conversation over whole messages: with Covey's own sites, with one whose answers
cannot be read, and at a SuperLink that does not have them."""

import time

import httpx
import pytest
from flwr.app import ConfigRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_object_id
from flwr.superlink.grid.http_grid import HttpGrid

from deploy.flower.frames import pack
from deploy.flower.grid import WholeGrid, whole_messages
from deploy.flower.whole import SITE_PUSH, _taken_apart, _told
from deploy.processes.supervisor import free_port
from server.conversation.guard import UNREADABLE, guarded
from server.conversation.transport import Waiting, drop, hear, pause, push, withdraw
from tests.deploy.flower.place import (
    PATIENCE,
    App,
    Place,
    Site,
    content_of,
    message_to,
    reply_to,
    running,
)


def asked(app: App, *sites: Site, content: bytes = b"?") -> dict:
    record = RecordDict({"asked": ConfigRecord({"content": content})})
    return {str(site.node): message_to(site.node, app.run.run_id, record) for site in sites}


def test_answers_are_heard_as_they_come_and_late_ones_dropped(
    place: Place, pool, monkeypatch
) -> None:
    sites, app = [place.site() for _ in range(3)], place.serverapp()
    grid = guarded(whole_messages(app.grid()))
    assert isinstance(grid, Waiting)
    waiting = push(grid, asked(app, *sites))
    late = sites[2].calls.pull(0.0).open()
    for site in sites[:2]:
        pool.submit(site.answer, b"%d" % site.node)
    start = time.monotonic()
    heard = dict(hear(grid, waiting, 3.0))
    assert time.monotonic() - start >= 3.0
    assert {name: content_of(m) for name, m in heard.items()} == {
        str(site.node): b"%d" % site.node for site in sites[:2]
    }
    assert list(waiting.values()) == [str(sites[2].node)]
    sites[2].calls.push(reply_to(late, b"late"), 1.0)
    monkeypatch.setattr("deploy.flower.finished.MOST", 0)
    replies = place.rows("message_res")
    drop(grid, waiting)
    assert grid.next_answer((), 0.0) is None  # which tells it
    assert place.rows("message_res") < replies


def test_a_conversation_ends_when_it_is_enough(place: Place, pool) -> None:
    sites, app = [place.site() for _ in range(2)], place.serverapp()
    grid = guarded(whole_messages(app.grid()))
    waiting = push(grid, asked(app, *sites))
    pool.submit(sites[0].answer)
    heard = list(hear(grid, waiting, PATIENCE, lambda _seconds: len(waiting) < 2))
    assert [name for name, _ in heard] == [str(sites[0].node)]


def test_what_is_withdrawn_is_not_handed_to_a_site_that_comes_back(
    place: Place, monkeypatch
) -> None:
    monkeypatch.setattr("deploy.flower.finished.MOST", 0)
    site, app = place.site(), place.serverapp()
    grid = guarded(whole_messages(app.grid()))
    waiting = push(grid, asked(app, site))
    assert list(hear(grid, waiting, 0.0)) == []
    withdraw(grid, waiting)
    pause(grid, 0.0)
    assert site.calls.pull(0.0) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: content.replace(b"Message", b"ConfigRecord", 1),  # of another kind
        lambda content: content[:-20] + b"\xff" * 20,  # no message
    ],
)
def test_an_answer_that_cannot_be_read_is_its_sites_error(place: Place, spoil) -> None:
    """The SuperLink takes only objects that are what their names say, so that a site has to name
    its nonsense rightly."""
    bad, good, app = place.site(), place.site(), place.serverapp()
    grid = guarded(whole_messages(app.grid()))
    waiting = push(grid, asked(app, bad, good))
    reply = reply_to(bad.calls.pull(0.0).open(), b"x")
    content = spoil(reply.deflate())
    protos, trees, objects = _taken_apart([reply])
    root = get_object_id(content)
    protos[0].metadata.message_id = root
    trees[0].object_id = root
    parts = [i.encode() + o.deflate() for i, o in list(objects.items())[:-1]]
    parts.append(root.encode() + content)
    told = _told(bad.calls._node, protos, trees, 1.0)
    with bad.calls._sent(SITE_PUSH, told, pack([told.SerializeToString(), *parts]), {}) as answer:
        answer.read()
    good.answer(b"good")
    heard = dict(hear(grid, waiting, PATIENCE))
    assert heard[str(bad.node)].error.code == UNREADABLE
    assert content_of(heard[str(good.node)]) == b"good"


def test_at_a_stock_superlink_flowers_own_grid_is_used(place: Place, pool) -> None:
    port = free_port()
    with running(place.app._app, port):
        stock = Place(port, place.folder, place.state, place.app._app)
        site, app = stock.site(), stock.serverapp()
        grid = whole_messages(app.grid())
        assert isinstance(grid, HttpGrid)
        grid = guarded(grid)
        assert not isinstance(grid, Waiting)
        waiting = push(grid, asked(app, site))
        ours = Site(place, site.node, site.key)  # the site asks where there are whole messages
        pool.submit(ours.answer, b"whole")
        ((_, answer),) = hear(grid, waiting, PATIENCE)
        assert content_of(answer) == b"whole"


def test_where_flower_has_moved_something_its_own_grid_is_used(place: Place, monkeypatch) -> None:
    grid = place.serverapp().grid()
    monkeypatch.delattr("flwr.supercore.protobuf.client.ProtobufClient._send")
    assert whole_messages(grid) is grid


def test_another_grid_is_left_as_it_is() -> None:
    grid = object()
    assert whole_messages(grid) is grid


def test_an_error_of_the_superlink_is_not_a_sites(place: Place, monkeypatch) -> None:
    app = place.serverapp()
    grid = guarded(whole_messages(app.grid()))
    assert isinstance(grid._grid, WholeGrid)

    def broken(*_given):
        raise httpx.ReadError("gone")

    monkeypatch.setattr(grid._grid._calls, "pull", broken)
    with pytest.raises(httpx.ReadError):
        grid.next_answer(["0" * 64], 1.0)
