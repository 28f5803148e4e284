"""Connections that break between a site and a SuperLink: no message is lost, none is answered
twice."""

import contextlib
import random
import threading

import httpx
import pytest

from deploy.flower.whole import SITE_PULL, DisplacedError
from tests.deploy.flower.place import (
    PATIENCE,
    Place,
    Site,
    content_of,
    held,
    question,
    reply_to,
    signed,
)
from tests.deploy.helpers import until

# -- connections that break ------------------------------------------------------------------------


def test_a_site_that_starts_again_gets_what_it_had_not_answered(place: Place) -> None:
    site, app = place.site(), place.serverapp()
    ids = app.ask(site)
    assert site.calls.pull(0.0) is not None  # and is killed
    assert site.another().calls.pull(0.0) is None
    delivery = site.another().calls.pull(0.0, fresh=True)
    site.calls.push(reply_to(delivery.open(), b"second"), 1.0)
    assert site.another().calls.pull(0.0, fresh=True) is None  # it is answered
    assert app.hear(ids) == b"second"


def test_a_message_whose_connection_broke_on_the_way_is_handed_out_again(place: Place) -> None:
    site, app = place.site(), place.serverapp()
    app.ask(site, content=bytes(20_000_000))
    request = site.calls._sent(SITE_PULL, None, [question(site)], {})
    with request as response:
        next(response.iter_raw(1000))  # and no more of it
    delivery = []

    def again() -> bool:
        delivery.append(site.another().calls.pull(0.0))
        return delivery[-1] is not None

    until(again)
    assert len(content_of(delivery[-1].open())) == 20_000_000


def test_a_retried_reply_is_there_once(place: Place) -> None:
    site, app = place.site(), place.serverapp()
    ids = app.ask(site)
    reply = site.answer(b"once")
    before = place.rows("message_res")
    site.calls.push(reply, 0.5)  # the answer to the first was lost on its way
    assert place.rows("message_res") == before
    assert app.hear(ids) == b"once"


def test_of_two_with_one_key_the_newer_is_held_and_each_message_goes_to_one(
    place: Place, pool
) -> None:
    site, app = place.site(), place.serverapp()
    older = pool.submit(site.calls.pull, 20.0)
    until(lambda: held(place) == 1)
    newer = pool.submit(site.another().calls.pull, 20.0)
    with pytest.raises(DisplacedError):
        older.result(PATIENCE)
    ids = app.ask(site)
    message = newer.result(PATIENCE).open()
    assert site.calls.pull(0.0) is None
    doubled = site.another().calls.pull(0.0, fresh=True).open()  # the other machine restarts
    site.calls.push(reply_to(message, b"first"), 1.0)
    site.another().calls.push(reply_to(doubled, b"second"), 1.0)
    assert app.hear(ids) == b"first"


def test_a_question_whose_asker_has_gone_is_given_up(place: Place) -> None:
    site = place.site()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"http://{place.address}{SITE_PULL}",
            content=question(site),
            headers={**signed(site), "covey-wait": "20"},
            timeout=1.0,
        )
    until(lambda: held(place) == 0, 10.0)


def test_whatever_breaks_on_the_way_each_message_is_answered_once(place: Place, pool) -> None:
    """Six sites that lose connections, are killed with a message in hand and answer twice."""
    sites, app, exchanges = [place.site() for _ in range(6)], place.serverapp(), 8
    over = threading.Event()

    def live(site: Site, seed: int) -> None:
        rng, fresh = random.Random(seed), True
        while not over.is_set():
            if rng.random() < 0.3:  # reads the beginning of an answer and breaks off
                with contextlib.suppress(httpx.HTTPError):
                    asked = site.calls._sent(
                        SITE_PULL, None, [question(site)], {"covey-wait": "0.1"}
                    )
                    with asked as response:
                        next(response.iter_raw(10), None)
                fresh = True
                continue
            delivery = site.calls.pull(0.5, fresh)
            fresh = False
            if delivery is None:
                continue
            if rng.random() < 0.3:  # is killed, and starts again
                fresh = True
                continue
            message = delivery.open()
            reply = reply_to(message, b"%d:" % site.node + content_of(message))
            for _ in range(rng.choice((1, 1, 2))):
                site.calls.push(reply, 0.1)

    living = [pool.submit(live, site, seed) for seed, site in enumerate(sites)]
    try:
        taken: list[str] = []
        for number in range(exchanges):
            asked = b"%d" % number + bytes(5000 * (number % 3))
            left = dict(zip(app.ask(*sites, content=asked), sites, strict=True))
            while left:
                delivery = app.calls.pull(left, taken, PATIENCE)
                if delivery is None:
                    continue
                taken = [delivery.head.metadata.reply_to_message_id]
                site = left.pop(taken[0])
                assert content_of(delivery.open()) == b"%d:" % site.node + asked
    finally:
        over.set()
    for future in living:
        future.result(PATIENCE)
