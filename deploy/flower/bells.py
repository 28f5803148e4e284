"""Who waits for what at the SuperLink: bells, rung where something has come, that cost nothing
while nobody rings.

`hook` has them rung by Flower's own handlers too, so that a held question of one of our sites hears
of the message of a stock ServerApp, and the other way round.
"""

import asyncio
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers

Bell = tuple[str, int]
SITES: Bell = ("sites", 0)  # rung with every run's when a site has come
MOST = 10_000  # pushes of Flower's own kind that are remembered until their objects are there


def site(node: int) -> Bell:
    """The bell of a site: a message for it is complete."""
    return ("site", node)


def run(run_id: int) -> Bell:
    """The bell of a run: a reply is complete, or a site has come."""
    return ("run", run_id)


class Bells:
    """Rung from any thread, waited for in the event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rings: dict[Bell, int] = defaultdict(int)
        self._waiting: dict[Bell, set[asyncio.Future[None]]] = defaultdict(set)
        self._loop: asyncio.AbstractEventLoop | None = None

    def rings(self, key: Bell) -> int:
        """How often this bell has rung."""
        with self._lock:
            return self._rings[key]

    def ring(self, key: Bell) -> None:
        """Wake whoever waits for it."""
        with self._lock:
            self._rings[key] += 1
            waiting = list(self._waiting.get(key, ()))
        if self._loop is not None and waiting:
            self._loop.call_soon_threadsafe(_wake, waiting)

    def ring_runs(self) -> None:
        """Wake all who wait for a run's bell: a site has come."""
        with self._lock:
            self._rings[SITES] += 1
            keys = [key for key in self._waiting if key[0] == "run"]
        for key in keys:
            self.ring(key)

    async def wait(
        self, key: Bell, since: int, seconds: float, other: Iterable[asyncio.Future[Any]] = ()
    ) -> None:
        """Until it has rung more often than `since`, one of `other` is done, or `seconds` are
        over."""
        self._loop = asyncio.get_running_loop()
        rung = self._loop.create_future()
        with self._lock:
            if self._rings[key] > since:
                return
            self._waiting[key].add(rung)
        try:
            await asyncio.wait({rung, *other}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            with self._lock:
                self._waiting[key].discard(rung)
                if not self._waiting[key]:
                    del self._waiting[key]


def _wake(waiting: Iterable[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)


class _Pushes:
    """Messages of Flower's own calls, whose objects follow: rung when the last is there."""

    def __init__(self, ring: Callable[[Bell], None]) -> None:
        self._ring = ring
        self._lock = threading.Lock()
        self._left: OrderedDict[str, tuple[int, list[Bell]]] = OrderedDict()

    def begin(self, session: str, objects: int, keys: list[Bell]) -> None:
        if objects == 0:
            for key in keys:
                self._ring(key)
            return
        with self._lock:
            self._left[session] = (objects, keys)
            if len(self._left) > MOST:
                self._left.popitem(last=False)

    def arrived(self, session: str) -> None:
        with self._lock:
            left, keys = self._left.pop(session, (0, []))
            if left > 1:
                self._left[session] = (left - 1, keys)
                return
        for key in keys:
            self._ring(key)


def hook(bells: Bells, finished: Callable[[int, Any], None]) -> None:
    """Have Flower's own handlers ring; `finished` is called with a run's id and the state when its
    ServerApp has ended."""
    pushes = _Pushes(bells.ring)

    def asked(request: Any, response: Any) -> None:
        nodes = [site(message.metadata.dst_node_id) for message in request.messages_list]
        pushes.begin(response.session_id, len(response.objects_to_push), nodes)

    def answered(request: Any, response: Any) -> None:
        runs = [run(message.metadata.run_id) for message in request.messages_list]
        pushes.begin(response.session_id, len(response.objects_to_push), runs)

    def arrived(request: Any, _response: Any) -> None:
        pushes.arrived(request.session_id)

    def came(_request: Any, _response: Any) -> None:
        bells.ring_runs()

    _after(runtime_handlers, "push_messages", asked)
    _after(runtime_handlers, "push_object", arrived)
    _after(fleet_handlers, "push_messages", answered)
    _after(fleet_handlers, "push_object", arrived)
    _after(fleet_handlers, "activate_node", came)
    end = runtime_handlers.push_task_output

    def push_task_output(request: Any, state: Any, task: Any) -> Any:
        response = end(request, state, task)
        finished(task.run_id, state)
        return response

    runtime_handlers.push_task_output = push_task_output


def _after(module: Any, name: str, then: Callable[[Any, Any], None]) -> None:
    """Have `then` called with a handler's request and response each time it has succeeded."""
    handler = getattr(module, name)

    @wraps(handler)
    def followed(*given: Any, **named: Any) -> Any:
        response = handler(*given, **named)
        then(given[0] if given else named["request"], response)
        return response

    setattr(module, name, followed)
