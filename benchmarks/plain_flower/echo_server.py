"""A ServerApp that sends every site an empty message a round, in Covey's own conversation loop."""

import time
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from server.conversation.transport import hear, push

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Rounds of nothing."""
    nodes = list(grid.get_node_ids())
    for _ in range(int(context.run_config["rounds"])):
        asked = {str(node): Message(RecordDict(), node, "train") for node in nodes}
        answered = sum(not answer.has_error() for _, answer in hear(grid, push(grid, asked), 600.0))
        if answered < len(nodes):
            raise RuntimeError(f"{answered} of {len(nodes)} nodes answered")
        with Path(str(context.run_config["stamps"])).open("a") as file:
            file.write(f"{time.time()}\n")
