"""A ServerApp that sends every site `bytes` of floats a round, others in each, in Covey's own
conversation loop, and waits for as many from each; stamps when a round began and ended."""

import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from deploy.flower.grid import whole_messages
from server.conversation.transport import hear, push

PATIENCE = 600.0

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Rounds of nothing but messages."""
    grid = whole_messages(grid)
    config = context.run_config
    nodes = list(grid.get_node_ids())
    chance = np.random.default_rng(0)
    for _ in range(int(config["rounds"])):
        record = RecordDict()
        if int(config["bytes"]):
            floats = chance.random(int(config["bytes"]) // 4, np.float32)
            record["model"] = ArrayRecord({"flat": Array(floats)})
        began = time.time()
        asked = {str(node): Message(record, node, "train") for node in nodes}
        answered = 0
        for _, answer in hear(grid, push(grid, asked), PATIENCE):
            answered += not answer.has_error()
            del answer
        if answered < len(nodes):
            raise RuntimeError(f"{answered} of {len(nodes)} sites answered")
        with Path(str(config["stamps"])).open("a") as file:
            file.write(f"{began} {time.time()}\n")
