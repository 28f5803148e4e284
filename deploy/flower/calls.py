"""The SuperLink's application with four calls more: whole messages, and questions that are held.

`deploy/flower/whole.py` says what they are, `deploy/flower/messages.py` what they do. Who asks is
checked as Flower's own calls check it, before anything of a body is read; a site that was held is
looked up again, since it may have been revoked. Of one site one question and one reply are under
way at a time: a newer one ends an older, so that a dead connection keeps no site out, and two
machines with one key get each message once.
"""

import asyncio
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import HTTPException, Response
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest  # pylint: disable=E0611
from flwr.proto.node_pb2 import Node  # pylint: disable=E0611
from flwr.proto.runtime_pb2 import (  # pylint: disable=E0611
    PullAppMessagesRequest,
    PushAppMessagesRequest,
)
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, TASK_TOKEN_HEADER
from flwr.supercore.dependencies.task import authenticate_task
from flwr.supercore.error import http_error_translator
from flwr.superlink.dependencies.linkstate import get_linkstate
from flwr.superlink.routers.fleet.node_auth import authenticate_node
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from deploy.flower import bells
from deploy.flower.bells import Bell, Bells
from deploy.flower.bodies import GoneError, Incoming, Spool, read_small
from deploy.flower.frames import Bounds
from deploy.flower.kept import Kept
from deploy.flower.messages import SCAN, Messages
from deploy.flower.objects import leave_large
from deploy.flower.recent import Recent
from deploy.flower.said import parse, seconds_held
from deploy.flower.streams import SENDING, Stream, Turn
from deploy.flower.transactions import MOST_OBJECTS, Outgoing
from deploy.flower.whole import APP_PULL, APP_PUSH, FRESH, HEAD, SITE_PULL, SITE_PUSH

LONGEST, MOST_HELD = 25.0, 10_000  # seconds for which a question is held; questions
QUESTION = 4096  # bytes of a site's question
OBJECT = 2**26  # bytes of an object of a reply; Flower cuts arrays into 5 MiB
REPLY_HEAD = Bounds(first=2**22, part=OBJECT, whole=2**34, parts=MOST_OBJECTS + 1)
APP_QUESTION = Bounds(first=HEAD, part=HEAD, whole=2 * HEAD + 8, parts=2)
APP_HEAD = Bounds(first=HEAD, part=2**32 - 1, whole=2**34, parts=100 * MOST_OBJECTS)

T = TypeVar("T")


class Calls:
    """An ASGI application: the four calls before the SuperLink's `app`; bodies lie in `kept`."""

    def __init__(self, app: ASGIApp, kept: Kept, rung: Bells, messages: Messages) -> None:
        self._app = app
        self._spool = Spool(kept)
        self._bells, self._messages = rung, messages
        self._calls = {
            SITE_PULL: self._site_pull,
            SITE_PUSH: self._site_push,
            APP_PULL: self._app_pull,
            APP_PUSH: self._app_push,
        }
        self._turns: dict[tuple[str, int], Turn] = {}
        self._idle: dict[int, int] = {}  # site -> rings of its bell when there was nothing for it
        self._held = 0
        # SQLite has one writer, and lets those who wait for it sleep: here they queue.
        self._writing, self._reading = CapacityLimiter(1), CapacityLimiter(4)
        self._sending = asyncio.Semaphore(SENDING)
        self._recent = Recent()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one of the four calls, or leave it to the SuperLink."""
        call = self._calls.get(scope.get("path", "")) if scope["type"] == "http" else None
        if call is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        request = Request({**scope, "app": self._app}, receive)

        async def answer(request: Request) -> Response:
            try:
                return await call(request)
            except GoneError:
                return Response(status_code=400)  # to nobody
            except asyncio.CancelledError:  # the server ends: whoever asks is to come again
                return Response(status_code=503)

        with suppress(GoneError):
            response = await http_error_translator(request, answer)
            if response.status_code >= 400:  # the body has not been read, and will not be
                response.headers["connection"] = "close"
            await response(scope, receive, send)

    # -- sites ------------------------------------------------------------------------------------

    async def _site_pull(self, request: Request) -> Response:
        wait, fresh = seconds_held(request, LONGEST), request.headers.get(FRESH) == "1"
        node, key, state = await self._read(_who, request)
        question = parse(PullMessagesRequest, await read_small(request, QUESTION))
        _same(question.node.node_id, node)
        turn, bell = Turn(self._turns, ("pull", node)), bells.site(node)
        gone = asyncio.ensure_future(request.receive())

        def look() -> Outgoing | None:
            nonlocal fresh
            if gone.done():  # while this waited for its turn
                return None
            _same(state.get_node_id_by_public_key(key), node)
            again, fresh = fresh, False
            rings = self._bells.rings(bell)
            found = self._messages.claim(question, state, again)
            self._idle[node] = rings if found is None else -1
            return found

        async def ended(whole: bool) -> None:
            turn.end()
            gone.cancel()
            if not whole and outgoing is not None:
                await self._write(self._messages.give_back, node, outgoing, state)

        outgoing = None
        try:
            idle = bool(wait) and not fresh and self._idle.get(node) == self._bells.rings(bell)
            outgoing = await self._look(look, bell, wait, gone, turn, idle)
        finally:
            if outgoing is None:
                await ended(False)
        if outgoing is None:
            return Response()
        read = partial(self._recent.get, read=partial(self._read, state.object_store.get))
        return Stream(outgoing, read, ended, (gone, turn.over), self._sending)

    async def _site_push(self, request: Request) -> Response:
        node, key, state = await self._read(_who, request)
        turn = Turn(self._turns, ("push", node))
        try:
            with Incoming(request, self._spool, REPLY_HEAD) as incoming:
                told = parse(PushMessagesRequest, await incoming.first())
                _same(told.node.node_id, node)
                most = await self._read(self._messages.admit, told, node, state)
                if most == 0:
                    return Response()  # it came too late
                incoming.bound(Bounds(0, OBJECT, most, MOST_OBJECTS + 1))
                await incoming.rest(turn.check)
                await self._leave_large(incoming)

                def keep() -> None:
                    _same(state.get_node_id_by_public_key(key), node)
                    self._messages.store(told, incoming, state)

                turn.check()
                await self._write(keep)
                return Response()
        finally:
            turn.end()

    # -- ServerApps -------------------------------------------------------------------------------

    async def _app_pull(self, request: Request) -> Response:
        wait = seconds_held(request, LONGEST)
        state, task = await self._read(_task, request)
        with Incoming(request, self._spool, APP_QUESTION) as incoming:
            question = parse(PullAppMessagesRequest, await incoming.first())
            await incoming.rest()
            (second,) = await incoming.others()
        ids = list(question.message_ids)
        taken = list(parse(PullAppMessagesRequest, second).message_ids)
        gone = asyncio.ensure_future(request.receive())

        def look() -> Outgoing | None:
            current = _task(request)[1]
            self._messages.taken(taken, state, current)
            taken.clear()
            return self._messages.take(ids, state, current)

        async def ended(_whole: bool) -> None:
            gone.cancel()  # the reply is still where it was

        outgoing = None
        try:
            outgoing = await self._look(look, bells.run(task.run_id), wait, gone)
        finally:
            if outgoing is None:
                await ended(False)
        if outgoing is None:
            return Response()
        read = partial(self._read, state.object_store.get)
        return Stream(outgoing, read, ended, (gone,), self._sending)

    async def _app_push(self, request: Request) -> Response:
        state, task = await self._read(_task, request)
        with Incoming(request, self._spool, APP_HEAD) as incoming:
            told = parse(PushAppMessagesRequest, await incoming.first())
            await incoming.rest()
            await self._leave_large(incoming)
            ask = partial(self._messages.ask, told, incoming, state, task)
            return Response(await self._write(ask))

    # -- both -------------------------------------------------------------------------------------

    async def _look(
        self,
        look: Callable[[], Outgoing | None],
        bell: Bell,
        wait: float,
        gone: "asyncio.Future[Any]",
        turn: Turn | None = None,
        idle: bool = False,
    ) -> Outgoing | None:
        """What `look` finds, now or when the bell rings within `wait` seconds; for a run also None
        when a site has come. `idle`: now there is nothing."""
        if self._held >= MOST_HELD:
            raise HTTPException(503, "too many questions are held")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        sites = self._bells.rings(bells.SITES)
        others = (gone,) if turn is None else (gone, turn.over)
        longest = SCAN if turn is None else wait
        self._held += 1
        try:
            while True:
                since = self._bells.rings(bell)
                found = None if idle else await self._write(look)
                idle = False
                left = deadline - loop.time()
                if found is not None or left <= 0:
                    return found
                await self._bells.wait(bell, since, min(left, longest), others)
                if gone.done():
                    raise GoneError
                if turn is not None:
                    turn.check()
                elif self._bells.rings(bells.SITES) != sites:
                    return None
        finally:
            self._held -= 1

    async def _leave_large(self, incoming: Incoming) -> None:
        if incoming.in_file:
            await self._read(leave_large, incoming)

    async def _read(self, function: Callable[..., T], *given: Any) -> T:
        return await to_thread.run_sync(function, *given, limiter=self._reading)

    async def _write(self, function: Callable[..., T], *given: Any) -> T:
        return await to_thread.run_sync(function, *given, limiter=self._writing)


def _who(request: Request) -> tuple[int, bytes, Any]:
    """The site that asks, its key, the SuperLink's state; refused as by Flower."""
    state: Any = get_linkstate(request)
    try:
        key = b64decode(request.headers[FLEET_HTTP_PUBLIC_KEY_HEADER], validate=True)
    except (KeyError, Base64Error, ValueError):
        key = b""
    with state.session():  # one for both of them who look the key up
        node = state.get_node_id_by_public_key(key) or 0
        request.state.protobuf_request = PullMessagesRequest(node=Node(node_id=node))
        authenticate_node(request)
    return node, key, state


def _same(named: int | None, node: int) -> None:
    """Refuse who names another site than its key is of, or whose key is no longer known."""
    if named != node:
        raise HTTPException(401, "Invalid SuperNode authentication")


def _task(request: Request) -> tuple[Any, Any]:
    """The SuperLink's state, and the ServerApp's task; refused as by Flower."""
    state = get_linkstate(request)
    return state, authenticate_task(request, request.headers.get(TASK_TOKEN_HEADER), state)
