"""The shim's end of the resident trainer's socket. Imports no torch."""

import time

import grpc

from client.resident.trainer_pb2 import Envelope
from client.resident.trainer_pb2_grpc import TrainerStub
from common.utils.errors import UserError

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
PATIENCE = 120.0  # seconds to wait for a trainer that is starting or being restarted
PAUSE = 0.2


def ask(socket: str, record: bytes, patience: float = PATIENCE) -> bytes:
    """Hand one encoded record to the trainer on the unix socket `socket`; return its answer.

    A trainer that dies while it works is asked again as soon as it is back: it starts from its last
    state and does the same work. `UserError` for what the trainer itself refuses, and when none
    answers within `patience` seconds.
    """
    started = time.monotonic()
    while True:
        with grpc.insecure_channel(f"unix:{socket}", options=UNLIMITED) as channel:
            try:
                answer = TrainerStub(channel).Handle(Envelope(record=record))
                return bytes(answer.record)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.INVALID_ARGUMENT:
                    raise UserError(error.details()) from None
                if error.code() != grpc.StatusCode.UNAVAILABLE:
                    raise
                if time.monotonic() - started > patience:
                    raise UserError(f"no trainer answers on {socket}") from None
        time.sleep(PAUSE)
