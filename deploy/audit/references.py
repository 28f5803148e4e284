"""Runs that never had the forgotten images: one under the same seed, others under other seeds.

Each is a run folder of its own, from its beginning, over the sites as they are now, in this
process. An audit that was interrupted, or is repeated, takes those that are there.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from client.workbench import Workshop, pick_device
from common.config.options import Plan
from common.record.reader import has_run, read_settings
from common.utils.errors import UserError
from common.utils.files import write_atomic
from deploy.audit.material import Material
from deploy.engines.in_process import grid_of, sites_of
from server.app import run
from server.run.folder import RunFolder

PLACE = "audit"
"""In the forgotten run's folder: the runs without the data."""
ABOUT = "about.json"
"""In a reference's folder: the images and the plan that it is of."""
LEAST = 2  # under other seeds
Say = Callable[[str], None]


def check_references(references: int) -> None:
    """`UserError` for too few runs under other seeds."""
    if references < LEAST:
        raise UserError(
            f"{references} references: at least {LEAST} are needed, to see what seeds do"
        )


def without(material: Material, folder: Path, seed: int, say: Say) -> Path:
    """The run of the forgotten run's plan under `seed`, over the images that are left, in `folder`;
    made if it is not there."""
    plan = material.forgotten.settings().model_copy(update={"seed": seed})
    about = {"partition": material.parts.hash, "plan": plan.model_dump(mode="json", by_alias=True)}
    if is_finished(folder) and _noted(folder / ABOUT) == about:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    say(f"a run without the data, seed {seed}")
    _run(plan, material, folder)
    write_atomic(folder / ABOUT, json.dumps(about).encode())
    return folder


def is_finished(folder: Path) -> bool:
    """Whether a run is there, and has ended well."""
    return has_run(folder) and read_settings(folder).status == "finished"


def _noted(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def _run(plan: Plan, material: Material, folder: Path) -> None:
    workshop, sites = Workshop(pick_device(plan.device)), folder / "sites"
    grid = grid_of(sites_of(material.data, material.parts, sites, workshop))
    place = RunFolder(folder)
    with place.held():
        run(grid, plan, place, "in-process")
    shutil.rmtree(sites)  # what sites keep of images: nothing that an audit reads
