"""The resident trainer's end of the socket: a gRPC server around one `Trainer`.

The socket lies in a folder that only the site's user can enter, so the file system says who may
talk to the trainer.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc

from client.resident.channel import UNLIMITED
from client.resident.trainer_pb2 import Envelope
from client.resident.trainer_pb2_grpc import TrainerServicer, add_TrainerServicer_to_server
from common.utils.errors import UserError, plain

SOCKET_LIMIT = 100  # bytes of a unix socket's path that every system takes


class Service(TrainerServicer):
    """Passes each record to `handle`, one at a time."""

    def __init__(self, handle: Callable[[bytes], bytes]) -> None:
        self._handle = handle

    def Handle(self, request: Envelope, context: grpc.ServicerContext) -> Envelope:  # noqa: N802
        """gRPC's entry."""
        try:
            return Envelope(record=self._handle(request.record))
        except UserError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, plain(str(error)))
            raise  # abort has raised already


def serve(socket: Path, handle: Callable[[bytes], bytes]) -> grpc.Server:
    """Start serving on the unix socket `socket` (its folder becomes private); stop it with
    `.stop()`."""
    if len(str(socket).encode()) > SOCKET_LIMIT:
        raise UserError(f"socket path {socket} is longer than {SOCKET_LIMIT} bytes")
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)
    server = grpc.server(ThreadPoolExecutor(max_workers=1), options=UNLIMITED)
    add_TrainerServicer_to_server(Service(handle), server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    return server
