"""Large objects stay in files: whoever asks gets them, a killed SuperLink loses none, and when
nothing refers to one any more it is gone."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.proto.message_pb2 import PullObjectRequest
from flwr.proto.node_pb2 import Node

from deploy.flower import finished
from deploy.flower.kept import FOLDER, LONGEST, Kept, Reference
from deploy.flower.whole import _taken_apart
from tests.deploy.flower.place import App, Place, Site, message_to, place_in

FLOATS = np.random.default_rng(1).random(2_000_000, np.float32)  # 8 MB: two chunks


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    """A SuperLink of a test's own."""
    with place_in(tmp_path) as superlink:
        yield superlink


@pytest.fixture(autouse=True)
def at_once(monkeypatch) -> None:
    """What is done with is deleted at once."""
    monkeypatch.setattr(finished, "MOST", 1)


def large(app: App, site: Site, floats: np.ndarray = FLOATS) -> Message:
    record = RecordDict({"m": ArrayRecord({"a": Array(floats)})})
    return message_to(site.node, app.run.run_id, record)


def files(place: Place) -> list[Path]:
    return list((place.folder / FOLDER).iterdir())


def numbers(message: Message) -> np.ndarray:
    return message.content["m"]["a"].numpy()


def answer(site: Site, more: float) -> None:
    asked = site.calls.pull(5.0).open()
    record = RecordDict({"m": ArrayRecord({"a": Array(numbers(asked) + np.float32(more))})})
    site.calls.push(Message(record, reply_to=asked), 0.1)


def longest(place: Place) -> int:
    (row,) = place.state.query("SELECT MAX(LENGTH(content)) AS n FROM objects")
    return row["n"] or 0


def test_a_large_message_and_its_reply_pass_and_leave_nothing(place: Place) -> None:
    site, app = place.site(), place.serverapp()
    (asked,) = app.calls.push([large(app, site)])
    assert len(files(place)) == 1 and longest(place) < 2**16
    assert files(place)[0].stat().st_mode & 0o777 == 0o600
    answer(site, 1.0)
    delivery = app.calls.pull([asked], [], 5.0)
    assert np.array_equal(numbers(delivery.open()), FLOATS + np.float32(1.0))
    assert files(place)
    app.calls.pull([], [asked], 0.0)
    assert files(place) == [] and place.rows("objects") == 0


def test_a_message_to_two_sites_stays_until_both_have_it(place: Place) -> None:
    sites, app = [place.site(), place.site()], place.serverapp()
    asked = app.calls.push([large(app, site) for site in sites])
    (file,) = files(place)
    answer(sites[0], 1.0)
    app.calls.pull([asked[0]], [], 5.0)
    app.calls.pull([], [asked[0]], 0.0)
    assert file in files(place)
    assert np.array_equal(numbers(sites[1].calls.pull(5.0).open()), FLOATS)
    app.calls.pull([], asked, 0.0)
    assert files(place) == []


def test_a_stock_site_pulls_it_with_flowers_own_calls(place: Place) -> None:
    site, app = place.site(), place.serverapp()
    message = large(app, site)
    objects = _taken_apart([message])[2]
    app.calls.push([message])
    for name, item in objects.items():
        question = PullObjectRequest(
            node=Node(node_id=site.node), run_id=app.run.run_id, object_id=name
        )
        assert site.client.PullObject(question).object_content == item.deflate()


def test_the_same_numbers_in_two_messages_are_there_for_both(place: Place) -> None:
    first, second, app = place.site(), place.site(), place.serverapp()
    one = app.calls.push([large(app, first)])
    app.calls.push([large(app, second)])
    answer(first, 1.0)
    app.calls.pull([], one, 0.0)  # what came first, and is referred to, is done with
    assert np.array_equal(numbers(second.calls.pull(5.0).open()), FLOATS)


def test_a_run_that_has_ended_leaves_no_file(place: Place) -> None:
    site, app = place.site(), place.serverapp()
    app.calls.push([large(app, site)])
    app.stop()
    place.app._messages.ended(app.run.run_id, place.state)
    assert files(place) == []


def test_the_next_superlink_has_what_the_last_one_had_but_for_what_is_spoiled(tmp_path) -> None:
    with place_in(tmp_path) as first:
        good, bad, app = first.site(), first.site(), first.serverapp()
        app.calls.push([large(app, good)])
        (kept,) = files(first)
        app.calls.push([large(app, bad, FLOATS * 2)])
        (spoiled,) = set(files(first)) - {kept}
    (tmp_path / FOLDER / "half").write_bytes(b"of a body that was coming in")
    os.truncate(spoiled, spoiled.stat().st_size - 5_000_000)
    with place_in(tmp_path) as second:
        assert files(second) == [kept]
        good.place = bad.place = second
        good.calls, bad.calls = good.through(second.address), bad.through(second.address)
        assert np.array_equal(numbers(good.calls.pull(5.0).open()), FLOATS)
        assert bad.calls.pull(0.0) is None


def test_a_changed_byte_is_found_at_the_start(tmp_path) -> None:
    with place_in(tmp_path) as first:
        site, app = first.site(), first.serverapp()
        app.calls.push([large(app, site)])
        (file,) = files(first)
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)
    with place_in(tmp_path, serve=False) as second:
        rows = second.state.query("SELECT is_available AS a FROM objects WHERE length(content) = 0")
        assert [row["a"] for row in rows] == [0]


def test_a_file_of_a_body_that_is_coming_in_is_left_alone(place: Place) -> None:
    kept: Kept = place.app._spool.kept
    name, file = kept.create()
    kept.sweep(place.state)
    assert name in {path.name for path in files(place)}
    file.close()
    kept.release(name, keep=True)
    kept.sweep(place.state)
    assert files(place) == []


def test_a_reference_is_told_from_an_objects_content() -> None:
    place = Reference("x" * 8, 10**14, 10**9)
    assert Reference.decode(place.encode()) == place and len(place.encode()) <= LONGEST
    for content in (b"", b"ArrayChunk  3\0abc", place.encode() + b" ", b"\0covey ../x 1 1"):
        assert Reference.decode(content) is None


def test_what_is_not_there_any_more_is_none(tmp_path) -> None:
    kept = Kept(tmp_path / FOLDER)
    assert kept.read(None) is None and kept.read(b"abc") == b"abc"
    assert kept.read(Reference("gone", 0, 3).encode()) is None
