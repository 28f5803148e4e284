"""The ClientApp: a thin shim between Flower and the site's trainer.

A site's connection (`deploy/flower/connection.py`) builds one around its trainer. Flower's own
SuperExec starts a fresh Python process for each message, so this file imports no torch: where the
node has a resident trainer (`trainer-socket` in its node config) the message goes there over a unix
socket. Without one (plain `flwr run`, Flower's simulation) the same trainer runs in this process.
"""

from collections.abc import Callable

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from client.resident.channel import ask
from common.protocol.messages import decode, encode
from common.protocol.records import Encoded
from common.utils.errors import UserError, plain

REFUSED = 1000  # Flower's own codes are small; this one says that Covey refused the message

Handler = Callable[[Context, Encoded], Encoded]
"""Answers one encoded instruction for the site that a context describes."""


def build_app(handler: Handler) -> ClientApp:
    """A ClientApp whose every message goes through `handler`."""

    def answer(message: Message, context: Context) -> Message:
        try:
            reply = decode(handler(context, encode(message.content)))
        except UserError as error:
            return Message(Error(REFUSED, plain(str(error))), reply_to=message)
        return Message(reply, reply_to=message)

    client_app = ClientApp()
    client_app.query()(answer)
    client_app.train()(answer)
    client_app.evaluate()(answer)
    return client_app


def hand_over(context: Context, record: Encoded) -> Encoded:
    """To the resident trainer, or to a trainer in this process."""
    socket = context.node_config.get("trainer-socket")
    if socket:
        return ask(str(socket), record)
    from client.in_process import answer_here  # noqa: PLC0415 (this imports torch)

    return answer_here(context, record)


app = build_app(hand_over)
