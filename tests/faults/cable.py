"""A cable between a site and the server that can be pulled: a TCP relay on loopback."""

import asyncio
import threading
from typing import Self

LOOPBACK = "127.0.0.1"
CHUNK = 65536


class Cable:
    """Relays connections to `port`; `self.port` is its own end.

    Pulled, it carries nothing in either direction: connections stay as they are, new ones come to
    nothing, and what was sent meanwhile arrives when it is plugged in again, as over a network that
    drops packets.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._whole = asyncio.Event()
        self._whole.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        ready = threading.Event()
        self._loop.call_soon_threadsafe(lambda: self._loop.create_task(self._listen(ready)))
        self._thread.start()
        ready.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def pull(self) -> None:
        self._loop.call_soon_threadsafe(self._whole.clear)

    def plug(self) -> None:
        self._loop.call_soon_threadsafe(self._whole.set)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _listen(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._relay, LOOPBACK, 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()

    async def _relay(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        await self._whole.wait()
        try:
            far, forth = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            back.close()
            return
        await asyncio.gather(self._carry(near, forth), self._carry(far, back))

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(CHUNK):
                await self._whole.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()
