"""Whole messages and held questions through the front: to a real SuperLink, and to one that shows
what reaches it."""

import asyncio
import ssl
import threading
import time

import httpx
import pytest
from flwr.supercore.retry import make_simple_http_retry_invoker
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from deploy.coordinator import passing
from deploy.coordinator.front import build_front
from deploy.flower.whole import SITE_PULL, SITE_PUSH
from deploy.identity.address import Address
from deploy.identity.certificates import issue_server, make_authority
from deploy.processes.supervisor import LOOPBACK, free_port
from tests.deploy.flower.place import content_of, place_in, question, reply_to, signed
from tests.deploy.serving import PATIENCE, serving

LIMIT, MESSAGE_LIMIT = 100_000, 50_000_000
SITES = 120  # more than the connections that httpx has where nobody says otherwise


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    authority = make_authority(folder)
    return authority, issue_server(authority, folder, ())


@pytest.fixture(scope="module")
def chain(certificates, tmp_path_factory):
    """A SuperLink, and the address of a front before it."""
    authority, server = certificates
    inner, outer = free_port(), free_port()
    front = build_front(Address(LOOPBACK, inner), authority.certificate, LIMIT, MESSAGE_LIMIT)
    with (
        place_in(tmp_path_factory.mktemp("superlink"), serve=False) as place,
        serving(place.app, inner, server),
        serving(front, outer, server),
    ):
        place.port = inner
        yield place, Address(LOOPBACK, outer)


def behind(chain, site, certificates):
    """This site's calls, through the front."""
    _, address = chain
    authority = certificates[0].certificate.read_bytes()
    return site.through(str(address), authority)


def test_the_calls_are_those_that_the_front_knows() -> None:
    assert (passing.PULL, passing.PUSH) == (SITE_PULL, SITE_PUSH)


def test_a_message_larger_than_a_request_may_be_goes_through_both_ways(chain, certificates) -> None:
    place, _ = chain
    site, app = place.site(), place.serverapp(certificates[0].certificate.read_bytes())
    calls = behind(chain, site, certificates)
    big = bytes(3 * 2**20)
    assert len(big) > LIMIT
    ids = app.ask(site, content=big)
    message = calls.pull(PATIENCE).open()
    assert content_of(message) == big
    calls.push(reply_to(message, big), 1.0)
    assert app.hear(ids) == big


def test_all_sites_can_be_held_at_once(chain, certificates) -> None:
    place, address = chain
    sites = [place.site() for _ in range(SITES)]
    app = place.serverapp(certificates[0].certificate.read_bytes())
    tls = ssl.create_default_context(cafile=str(certificates[0].certificate))
    bodies: list[bytes] = []

    async def ask(client, site) -> None:
        content = b""
        while not content:  # on a busy machine not all are there before the first has waited
            headers = {**signed(site), "covey-wait": "25"}
            answer = await client.post(SITE_PULL, content=question(site), headers=headers)
            assert answer.status_code == 200
            content = answer.content
        bodies.append(content)

    async def all_ask() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=f"https://{address}", verify=tls, timeout=6 * PATIENCE, limits=limits
        ) as client:
            held = asyncio.gather(*(ask(client, site) for site in sites))
            while place.app._held < SITES:
                assert not held.done()
                await asyncio.sleep(0.05)
            health = await client.get("/health")
            assert health.status_code == 200 and not bodies
            await asyncio.to_thread(app.ask, *sites)
            await held

    asyncio.run(asyncio.wait_for(all_ask(), 10 * PATIENCE))
    assert len(bodies) == SITES and all(bodies)


def test_whoever_has_gone_holds_no_question(chain, certificates) -> None:
    place, address = chain
    site = place.site()
    tls = ssl.create_default_context(cafile=str(certificates[0].certificate))
    with httpx.Client(verify=tls, timeout=1.0) as client, pytest.raises(httpx.ReadTimeout):
        client.post(
            f"https://{address}{SITE_PULL}",
            content=question(site),
            headers={**signed(site), "covey-wait": "20"},
        )
    end = time.monotonic() + 10
    while place.app._held:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_site_tries_again_when_the_superlink_was_away(certificates, tmp_path) -> None:
    """The front answers 503 meanwhile, which Flower's retries take as "later"."""
    authority, server = certificates
    inner, outer = free_port(), free_port()
    front = build_front(Address(LOOPBACK, inner), authority.certificate, LIMIT, MESSAGE_LIMIT)
    with place_in(tmp_path, serve=False) as place, serving(front, outer, server):
        site = place.site()
        retry = make_simple_http_retry_invoker()
        calls = site.through(f"{LOOPBACK}:{outer}", authority.certificate.read_bytes(), retry)
        found = []
        asking = threading.Thread(target=lambda: found.append(calls.pull(0.0)))
        asking.start()
        time.sleep(1.0)
        with serving(place.app, inner, server):
            asking.join(PATIENCE)
    assert found == [None]


class Holding:
    """Stands for a SuperLink that holds for ever, and one that takes any message."""

    def __init__(self) -> None:
        self.taken, self.held = 0, 0
        routes = [
            Route(SITE_PULL, self.hold, methods=["POST"]),
            Route(SITE_PUSH, self.take, methods=["POST"]),
        ]
        self.app = Starlette(routes=routes)

    async def hold(self, request) -> Response:
        await request.body()
        self.held += 1
        await asyncio.sleep(PATIENCE)
        return Response()

    async def take(self, request) -> Response:
        async for chunk in request.stream():
            self.taken += len(chunk)
        return Response()


@pytest.fixture
def holding(certificates):
    authority, server = certificates
    superlink, inner, outer = Holding(), free_port(), free_port()
    front = build_front(Address(LOOPBACK, inner), authority.certificate, LIMIT, MESSAGE_LIMIT)
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    with (
        serving(superlink.app, inner, server),
        serving(front, outer, server),
        httpx.Client(
            verify=tls, base_url=f"https://{LOOPBACK}:{outer}", timeout=PATIENCE
        ) as client,
    ):
        yield superlink, client


def test_a_front_that_ends_tells_those_who_are_held_to_come_again(certificates) -> None:
    authority, server = certificates
    superlink, inner, outer = Holding(), free_port(), free_port()
    front = build_front(Address(LOOPBACK, inner), authority.certificate, LIMIT, MESSAGE_LIMIT)
    tls = ssl.create_default_context(cafile=str(authority.certificate))
    answers = []

    def ask() -> None:
        with httpx.Client(verify=tls, timeout=PATIENCE) as client:
            answers.append(client.post(f"https://{LOOPBACK}:{outer}{SITE_PULL}", content=b"x"))

    with serving(superlink.app, inner, server):
        asking = threading.Thread(target=ask)
        with serving(front, outer, server):
            asking.start()
            while not superlink.held:
                time.sleep(0.05)
        asking.join(PATIENCE)
    assert [answer.status_code for answer in answers] == [503]


def test_a_whole_message_has_a_limit_of_its_own(holding) -> None:
    superlink, client = holding
    piece = bytes(1_000_000)
    answer = client.post(SITE_PUSH, content=(piece for _ in range(50)))
    assert (answer.status_code, superlink.taken) == (200, MESSAGE_LIMIT)
    assert client.post(SITE_PUSH, content=(piece for _ in range(51))).status_code == 413
    assert client.post(SITE_PUSH, content=bytes(MESSAGE_LIMIT + 1)).status_code == 413


def test_a_question_is_small(holding) -> None:
    _, client = holding
    assert client.post(SITE_PULL, content=bytes(passing.QUESTION + 1)).status_code == 413


def test_a_body_that_does_not_come_is_waited_for_only_so_long(holding, monkeypatch) -> None:
    monkeypatch.setattr(passing, "PATIENCE", 0.5)
    _, client = holding

    def slowly():
        yield b"x"
        time.sleep(2.0)
        yield b"x"

    for path in (SITE_PULL, SITE_PUSH):
        assert client.post(path, content=slowly()).status_code == 408


def test_too_many_questions_are_told_to_come_again(holding, monkeypatch) -> None:
    _, client = holding
    monkeypatch.setattr(passing.Held, "_answer", full(passing.Held._answer))
    answer = client.post(SITE_PULL, content=b"x")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def full(answer):
    async def when_full(held, *given):
        held._most = 0
        return await answer(held, *given)

    return when_full
