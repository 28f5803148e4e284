"""A ClientApp that answers with what it was told, and with its node configuration."""

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query()
def query(message: Message, context: Context) -> Message:
    said = {"text": message.content["say"]["text"], "node": str(context.node_config["words"])}
    return Message(RecordDict({"say": ConfigRecord(said)}), reply_to=message)
