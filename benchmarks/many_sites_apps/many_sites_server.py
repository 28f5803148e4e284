"""A ServerApp that sends all sites the same floats and hears their answers, a few times over; one
line of JSON an exchange."""

import json
import resource
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from deploy.flower.grid import whole_messages
from server.conversation.guard import guarded
from server.conversation.transport import hear, pause, push

DEADLINE = 900.0  # seconds

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Flower's entry."""
    config = context.run_config
    size, exchanges, sites = (int(config[name]) for name in ("bytes", "exchanges", "sites"))
    grid = guarded(whole_messages(grid))
    while len(nodes := sorted(grid.get_node_ids())) < sites:
        pause(grid, 1.0)
    rng = np.random.default_rng(0)
    for _ in range(exchanges):
        model = rng.random(size // 4, np.float32)
        record = RecordDict({"model": ArrayRecord({"flat": Array(model)})})
        start, cpu = time.monotonic(), time.process_time()
        waiting = push(grid, {str(node): Message(record, node, "train") for node in nodes})
        pushed, errors, right = time.monotonic(), 0, 0
        for _, answer in hear(grid, waiting, DEADLINE):
            if answer.has_error():
                errors += 1
            else:
                (array,) = answer.content["model"].values()
                right += bool(np.all(array.numpy() >= model + 1))
            del answer
        line = {
            "seconds": time.monotonic() - start,
            "pushing": pushed - start,
            "cpu": time.process_time() - cpu,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "right": right,
            "errors": errors + len(waiting) + (len(nodes) - right - errors),
        }
        with Path(str(config["lines"])).open("a") as file:
            file.write(json.dumps(line) + "\n")
