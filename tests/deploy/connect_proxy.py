"""A small HTTP proxy on loopback: CONNECT, and nothing else."""

import asyncio
import ssl
import threading
from contextlib import suppress
from typing import Self

from deploy.identity.certificates import ServerCertificate
from deploy.processes.supervisor import LOOPBACK

CHUNK = 65536


class ConnectProxy:
    """Relays what it is told to CONNECT to.

    `refusal`: the status line with which it answers instead; `credentials`: what the header
    Proxy-Authorization has to say; `opens`: it ends TLS itself, with this certificate. `asked` has
    the hosts, `carried` is the number of bytes.
    """

    def __init__(
        self,
        refusal: str = "",
        credentials: str = "",
        opens: ServerCertificate | None = None,
    ) -> None:
        self.asked: list[str] = []
        self.carried = 0
        self.port = 0
        self._refusal, self._credentials = refusal, credentials
        self._tls = None
        if opens is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(opens.certificate, opens.key)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        self._server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):  # the test is over
            await self._answer(near, back)

    async def _answer(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        head = (await near.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, target, _ = head.split("\r\n", 1)[0].split(" ")
        assert method == "CONNECT"
        self.asked.append(target)
        refusal = self._refusal
        if self._credentials and f"Proxy-Authorization: {self._credentials}" not in head:
            refusal = "407 Proxy Authentication Required"
        if refusal:
            back.write(f"HTTP/1.1 {refusal}\r\ncontent-length: 0\r\n\r\n".encode())
            back.close()
            return
        host, _, port = target.rpartition(":")
        far, forth = await asyncio.open_connection(host, int(port))
        back.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await back.drain()
        if self._tls is not None:
            try:
                await back.start_tls(self._tls)
            except (ssl.SSLError, OSError):
                forth.close()
                return
        await asyncio.gather(self._carry(near, forth), self._carry(far, back))

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while chunk := await source.read(CHUNK):
                self.carried += len(chunk)
                sink.write(chunk)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()
