"""How fast and how much a site may bring or take with the calls for whole messages, and how many
questions may be held: so much that nobody else is kept from working.
"""

import asyncio
import os
import resource
import socket
import time

import httpx
import pytest

from deploy.flower import bodies, streams
from deploy.flower.frames import pack
from deploy.flower.whole import APP_PULL, APP_PUSH, SITE_PULL, SITE_PUSH
from tests.deploy.flower.place import (
    PATIENCE,
    Place,
    body_of,
    content_of,
    nothing_changes,
    push_raw,
    question,
    raw,
    reply_to,
    signed,
)
from tests.deploy.helpers import until

CALLS = (SITE_PULL, SITE_PUSH, APP_PULL, APP_PUSH)


# -- how fast, and how much ------------------------------------------------------------------------


def test_a_body_that_does_not_come_is_given_up(place: Place, monkeypatch) -> None:
    monkeypatch.setattr(bodies, "PATIENCE", 0.3)
    site, app = place.site(), place.serverapp()
    app.ask(site)
    body = b"".join(pack(body_of(site, reply_to(site.calls.pull(0.0).open(), bytes(10**6)))))

    def slowly():
        yield body[:1000]
        time.sleep(1.5)
        yield body[1000:]

    with nothing_changes(place):
        for path, content in ((SITE_PUSH, slowly()), (SITE_PULL, slowly())):
            answer = httpx.post(
                f"http://{place.address}{path}", content=content, headers=signed(site)
            )
            assert answer.status_code in (408, 413)


def test_a_body_that_trickles_is_given_up_though_it_never_stops(place: Place, monkeypatch) -> None:
    monkeypatch.setattr(bodies, "GRACE", 0.5)
    site, app = place.site(), place.serverapp()
    app.ask(site)
    body = b"".join(pack(body_of(site, reply_to(site.calls.pull(0.0).open(), bytes(10**6)))))

    def trickling():
        for at in range(0, 10_000, 100):
            yield body[at : at + 100]
            time.sleep(0.05)

    with nothing_changes(place):
        answer = httpx.post(
            f"http://{place.address}{SITE_PUSH}",
            content=trickling(),
            headers=signed(site),
            timeout=PATIENCE,
        )
        assert answer.status_code == 408


def test_an_answer_that_nobody_takes_is_given_up_and_the_message_handed_out_again(
    place: Place, monkeypatch
) -> None:
    monkeypatch.setattr(streams, "PATIENCE", 0.5)
    site, app = place.site(), place.serverapp()
    big = os.urandom(20_000_000)
    app.ask(site, content=big)
    address = ("127.0.0.1", place.port)
    with socket.create_connection(address, PATIENCE) as connection:
        body = question(site)
        lines = [f"{k}: {v}" for k, v in signed(site).items()]
        head = "\r\n".join(
            [f"POST {SITE_PULL} HTTP/1.1", "host: x", f"content-length: {len(body)}", *lines]
        )
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        connection.recv(1000)  # and never more
        found = []

        def again() -> bool:
            found.append(site.another().calls.pull(0.0))
            return found[-1] is not None

        until(again)
    assert content_of(found[-1].open()) == big


def test_a_reply_may_be_eight_times_what_was_asked_and_no_more(place: Place, monkeypatch) -> None:
    monkeypatch.setattr("deploy.flower.messages.LEAST_REPLY", 1000)
    site, app = place.site(), place.serverapp()
    ids = app.ask(site, content=bytes(100_000))
    message = site.calls.pull(0.0).open()
    big, larger = reply_to(message, os.urandom(795_000)), reply_to(message, os.urandom(810_000))
    with pytest.raises(httpx.HTTPStatusError, match="413"):
        site.calls.push(larger, 1.0)
    site.calls.push(big, 1.0)
    assert len(app.hear(ids)) == 795_000


def test_when_very_much_comes_in_at_once_a_site_is_told_to_come_later(
    place: Place, monkeypatch
) -> None:
    monkeypatch.setattr(bodies, "MOST_IN_FILES", 500_000)
    site, app = place.site(), place.serverapp()
    app.ask(site)
    body = b"".join(pack(body_of(site, reply_to(site.calls.pull(0.0).open(), bytes(10**6)))))
    with nothing_changes(place):
        assert push_raw(place, site, body) == 503


def test_questions_beyond_the_limit_are_told_to_come_later(place: Place, monkeypatch, pool) -> None:
    monkeypatch.setattr("deploy.flower.calls.MOST_HELD", 1)
    first, second = place.site(), place.site()
    held = pool.submit(first.calls.pull, 3.0)
    until(lambda: place.app._held == 1)
    assert raw(place, SITE_PULL, question(second), signed(second)).status_code == 503
    assert held.result(PATIENCE) is None


def test_ten_thousand_held_questions_keep_nobody_from_working(place: Place) -> None:
    """Held in the application itself, since so many connections are more than a test may open: the
    front and the operating system hold those."""
    number, app, site = 10_000, place.serverapp(), place.site()
    bells = place.app._bells

    async def hold_all() -> None:
        gone = asyncio.get_running_loop().create_future()
        waiting = [
            asyncio.ensure_future(bells.wait(("site", -n - 1), 0, PATIENCE, (gone,)))
            for n in range(number)
        ]
        await asyncio.sleep(0)
        before = resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.sleep(2.0)
        after = resource.getrusage(resource.RUSAGE_SELF)
        assert after.ru_utime - before.ru_utime < 1.0  # they cost nothing while they wait
        ids = await asyncio.to_thread(app.ask, site)
        await asyncio.to_thread(site.answer)
        assert await asyncio.to_thread(app.hear, ids) == b"answer"
        gone.set_result(None)
        await asyncio.gather(*waiting)

    start = time.monotonic()
    asyncio.run(hold_all())
    assert time.monotonic() - start < PATIENCE
