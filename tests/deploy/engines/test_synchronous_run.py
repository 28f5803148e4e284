"""`covey run covey-sync`: steps on all sites' images over real processes."""

import sys
import tempfile
from pathlib import Path

import pytest

from common.config import recipes
from deploy.engines.simulate import simulate
from tests.builders.records import events
from tests.deploy.helpers import CoveyRun, same_results, threads_of_sites

pytestmark = [
    pytest.mark.federation,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

OPTIONS = {
    "dataset": "digits",
    "images": "240",
    "sites": "3",
    "rounds": "10",
    "encoder": "small-convnet",
    "partition": "p-skew(1.0)",
    "parameters": ",,landmarks=30",
    "gradients": "int8",
    "device": "cpu",
}


def test_over_processes_a_step_is_that_of_one_process_to_the_bit(tmp_path: Path) -> None:
    flags = [part for name, value in OPTIONS.items() for part in (f"--{name}", value)]
    with tempfile.TemporaryDirectory(prefix="cv-") as sockets:
        run = CoveyRun(
            ["covey-sync", *flags, "--run-folder", str(tmp_path / "run")],
            Path(sockets),
            tmp_path / "run.txt",
        )
        try:
            assert run.ends() == 0, run.text
        finally:
            run.clear_away()
    with threads_of_sites(int(OPTIONS["sites"])):
        simulate(recipes.load("covey-sync").plan(OPTIONS), tmp_path / "simulated")
    assert same_results(tmp_path / "run", tmp_path / "simulated")
    steps = events(tmp_path / "run", "round")
    assert len(steps) == 10 and all(len(step["answered"]) == 3 for step in steps)
    seconds = [step["seconds"]["total"] for step in steps[1:]]
    last = steps[-1]
    print(
        f"a step: {sorted(seconds)[len(seconds) // 2]:.3f} s, of all sites {last['bytes_down']:,} "
        f"bytes down and {last['bytes_up']:,} up"
    )
