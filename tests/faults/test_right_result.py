"""The last row: whatever happened to the runs of the rows before, their result is the one that the
same sites give undisturbed (docs/reliability.md)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from client.site import open_site
from client.workbench import Workshop, pick_device
from common.data import load
from server.run.folder import RunFolder
from tests.benchmarks.scripts import script
from tests.faults.federation import Federation


def test_no_run_came_to_a_wrong_result(federation: Federation, tmp_path: Path) -> None:
    """Each run of this federation again, in one process, with the sites that answered."""
    federation.end_run()
    replay = script("_replay")
    torch.set_num_threads(1)
    workshop = Workshop(pick_device("cpu"))
    checked = 0
    for folder in sorted(federation.folder.runs.iterdir()):
        checkpoint = RunFolder(folder).checkpoint()
        if checkpoint is None or not checkpoint.round:
            continue
        began_with = json.loads((folder / "run.json").read_text())["sites"].keys()
        site_names = sorted(began_with | set().union(*replay.answered(folder).values()))
        sites = [
            open_site(name, load(str(federation.home / f"{name}.npz")), tmp_path / name, workshop)
            for name in site_names
        ]
        again = tmp_path / folder.name
        replay.replay(folder, sites, again, rounds=checkpoint.round)
        ours, theirs = (load_file(f / "checkpoint.safetensors") for f in (folder, again))
        for name in ours:
            if name.startswith("group/"):
                np.testing.assert_array_equal(ours[name], theirs[name], err_msg=str(folder))
        checked += 1
    if not checked:
        pytest.skip("needs a row before it: no run has been disturbed")
