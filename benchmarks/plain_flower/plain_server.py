"""A plain ServerApp: FedAvg, and the time at the end of every round."""

import time
from pathlib import Path

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from plain_task import make_net

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the strategy as the templates do."""
    config = context.run_config
    sites, stamps = int(config["sites"]), Path(str(config["stamps"]))

    def stamp(number: int, _: ArrayRecord) -> None:
        if number:
            with stamps.open("a") as file:
                file.write(f"{time.time()}\n")

    strategy = FedAvg(
        fraction_evaluate=float(config["evaluate"]),
        min_train_nodes=sites,
        min_evaluate_nodes=sites,
        min_available_nodes=sites,
    )
    if not config["evaluate"]:
        strategy.min_evaluate_nodes = 0
    arrays = ArrayRecord(make_net().state_dict())
    rounds = int(config["rounds"])
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=rounds, evaluate_fn=stamp)
