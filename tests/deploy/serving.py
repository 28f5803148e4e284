"""A real HTTPS server on loopback, in a thread of the test."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette

from deploy.identity.certificates import ServerCertificate
from deploy.processes.supervisor import LOOPBACK

PATIENCE = 20.0


@contextmanager
def serving(app: Starlette, port: int, server: ServerCertificate) -> Iterator[None]:
    config = uvicorn.Config(
        app,
        host=LOOPBACK,
        port=port,
        ssl_certfile=server.certificate,
        ssl_keyfile=str(server.key),
        log_level="critical",
        date_header=False,
        timeout_graceful_shutdown=1,
    )
    instance = uvicorn.Server(config)
    thread = threading.Thread(target=instance.run)
    thread.start()
    try:
        end = time.monotonic() + PATIENCE
        while not instance.started:
            assert thread.is_alive() and time.monotonic() < end
            time.sleep(0.01)
        yield
    finally:
        instance.should_exit = True
        thread.join(PATIENCE)
