"""Covey's ServerApp as Flower starts it: with whole messages, where the SuperLink has them."""

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from deploy.flower.grid import whole_messages
from server.app import main as run

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Flower's entry."""
    run(whole_messages(grid), context)
