"""Names that a plan or a recipe of an earlier version of Covey has, as they are called today.

Covey 0.1 called what is solved an objective, too.
"""

from collections.abc import Mapping
from typing import Any

SOLVERS = {
    "components": "patch-pca",
    "frozen": "frozen",
    "landmarks": "landmark-spectral",
    "projection": "projection",
}
"""An objective of 0.1 -> the solver that it is."""

OBJECTIVES = {"spectral": "spectral-contrastive"}


def stage_of_today(stage: Mapping[str, Any]) -> dict[str, Any]:
    """A stage's options, `parameters` as a table, with the names of today; it may be of today."""
    found = dict(stage)
    named = found.get("objective")
    if isinstance(named, str):
        found.setdefault("solver", "")
        if named in SOLVERS and not found["solver"]:
            found |= {"objective": "", "solver": SOLVERS[named]}
        found["objective"] = OBJECTIVES.get(found["objective"], found["objective"])
    parameters = found.get("parameters")
    if isinstance(parameters, Mapping) and isinstance(parameters.get("first"), str):
        inside = [OBJECTIVES.get(name, name) for name in parameters["first"].split("/")]
        found["parameters"] = {**parameters, "first": "/".join(inside)}
    return found
