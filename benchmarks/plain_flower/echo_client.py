"""What a site answers that has nothing to do: as many floats as it was sent, other ones."""

import os

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def echo(record: RecordDict) -> RecordDict:
    """The answer to `record`; no two sites give the same."""
    answer = RecordDict()
    if "model" in record:
        (array,) = record["model"].values()
        floats = np.frombuffer(array.numpy().tobytes(), np.float32)
        answer["model"] = ArrayRecord({"flat": Array(floats + np.float32(os.getpid() % 1000))})
    return answer


@app.train()
def train(message: Message, _: Context) -> Message:
    """Flower's entry."""
    return Message(echo(message.content), reply_to=message)
