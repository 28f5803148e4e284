"""`covey run covey-exact`: over processes and TLS the same bits as in one process."""

import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from common.config import recipes
from deploy.engines.simulate import simulate
from tests.builders.records import events
from tests.deploy.helpers import CoveyRun, answers, same_results

pytestmark = [
    pytest.mark.federation,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

OPTIONS = {"images": "240", "sites": "3", "partition": "p-skew(1.0)", "device": "cpu"}


def test_a_federation_of_processes_ends_with_the_bits_of_the_in_process_engine(
    tmp_path: Path,
) -> None:
    sockets = Path(tempfile.mkdtemp(prefix="cv-"))
    folder, undisturbed = tmp_path / "run", tmp_path / "undisturbed" / "run"
    flags = [part for name, value in OPTIONS.items() for part in (f"--{name}", value)]
    arguments = ["covey-exact", *flags, "--run-folder", str(folder)]
    run = CoveyRun(arguments, sockets / "p", tmp_path / "run.txt")
    try:
        assert run.ends() == 0, run.text
    finally:
        run.clear_away()
        shutil.rmtree(sockets)
    simulate(recipes.load("covey-exact").plan(OPTIONS), undisturbed)  # with any threads
    assert same_results(folder, undisturbed)
    (stage,) = events(folder, "stage")
    assert sum(stage["cluster_sizes"]) == 240 and stage["figures"]["nmi"] > 0.5
    for kind in ("moments", "landmarks", "affinity"):
        assert answers(folder, "site-1", kind) == 1
