"""Choosing the numbers of a last stage without labels.

    python benchmarks/closings.py RUN                                          # how runs compare
    python benchmarks/closings.py RUN ... --parameters 'time=1|time=1.5|nearest=10 time=1'

For each finished run of `covey simulate`, and for each set of parameters, the last stage is held
again by the same sites from the encoder that the run has trained: one more federated run, with the
other parameters as they were. Where none are given nothing is held again, and the runs' own figures
stand there. `agreement` needs no label: the NMI between the clusters of one view of each image and
those of another, over all sites. NMI and ACC stand beside it, to see how well it chooses.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch
import typer
from _table import save_json, show

from common.config.given import parse_parameters
from common.config.options import Plan
from common.record.reader import read_run
from common.utils.errors import UserError
from deploy.engines.simulate import simulate
from server.run.folder import RunFolder

FIGURES = ("agreement", "nmi", "acc")


def main(
    runs: Annotated[list[Path], typer.Argument(help="finished runs")],
    parameters: Annotated[str, typer.Option(help="sets of the last stage's, with | between")] = "",
    threads: int = 1,
    json: Annotated[Path | None, typer.Option(help="also write the figures here")] = None,
) -> None:
    """Hold the stages, print."""
    torch.set_num_threads(threads)
    rows = [
        {"run": run.name, "parameters": given.strip() or "as it was", **closing(run, given)}
        for run in runs
        for given in parameters.split("|")
    ]
    columns = ("run", "parameters", *FIGURES)
    show("last stages", columns, [tuple(row.get(c, "–") for c in columns) for row in rows])
    if json:
        save_json(json, rows)


def closing(run: Path, given: str) -> Mapping[str, Any]:
    """The figures of a run's last stage, held again if parameters are `given`."""
    if not given.strip():
        return figures(run)
    held = RunFolder(run)
    trained, plan = held.checkpoint(), held.plan()
    if trained is None or trained.closed < len(plan.stages):
        raise UserError(f"{run}: the run has not finished")
    if plan.stages[-1].rounds:
        raise UserError(f"{run}: its last stage trains")
    with TemporaryDirectory() as folder:
        again = Path(folder) / "run"
        RunFolder(again).save(replace(trained, closed=trained.closed - 1))
        simulate(with_last(plan, parse_parameters(given)), again)
        return figures(again)


def with_last(plan: Plan, parameters: Mapping[str, Any]) -> Plan:
    """`plan` with those parameters of its last stage changed."""
    *earlier, last = plan.stages
    changed = last.model_copy(update={"parameters": {**last.parameters, **parameters}})
    return plan.model_copy(update={"stages": (*earlier, changed)})


def figures(run: Path) -> dict[str, float]:
    """Agreement, and NMI and ACC where there are labels."""
    stages = read_run(run).stages
    found = stages[-1].figures if stages else {}
    return {name: found[name] for name in FIGURES if name in found}


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    try:
        app()
    except UserError as error:
        sys.exit(f"closings: {error}")
