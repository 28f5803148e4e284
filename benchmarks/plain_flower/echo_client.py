"""A ClientApp that answers with nothing: what a message costs before anything is done with it."""

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, _: Context) -> Message:
    """An empty answer."""
    return Message(RecordDict(), reply_to=message)
