"""A ServerApp that asks every site once and writes down what came back."""

import json
import time
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    names = {node.node_id: node.name for node in grid.get_nodes()}
    content = RecordDict({"say": ConfigRecord({"text": str(context.run_config["text"])})})
    waiting = set(grid.push_messages([Message(content, node, "query") for node in names]))
    heard = {}
    while waiting:
        for reply in grid.pull_messages(waiting):
            waiting.discard(reply.metadata.reply_to_message_id)
            heard[names[reply.metadata.src_node_id]] = dict(reply.content["say"])
        time.sleep(0.1)
    part = Path(str(context.run_config["out"]) + ".part")
    part.write_text(json.dumps(heard))
    part.rename(str(context.run_config["out"]))
