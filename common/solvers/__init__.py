"""The solvers, by name: what is solved from sums over all sites, and not trained."""

from collections.abc import Mapping
from typing import Any

from common.config.given import Scalar
from common.config.options import Stage
from common.config.parameters import read_parameters
from common.models.encoders import Encoder
from common.models.registry import in_folder
from common.solvers.base import Solver
from common.utils.errors import unknown

SOLVERS = in_folder(__name__, __path__, Solver)
"""Each is built as `Kind(encoder, settings, clusters)`."""


def build_solver(stage: Stage, encoder: Encoder, clusters: int) -> Solver:
    """The stage's solver around `encoder`; `UserError` for unknown names."""
    settings = solver_parameters(stage.solver, stage.parameters)
    solver: Solver = SOLVERS[stage.solver](encoder, settings, clusters)
    return solver


def solver_parameters(name: str, given: Mapping[str, Scalar]) -> Any:
    """The parameters of the solver called `name`."""
    if name not in SOLVERS:
        raise unknown("solver", name, SOLVERS)
    return read_parameters(SOLVERS[name].parameters_type, given, f"solver {name!r}")
