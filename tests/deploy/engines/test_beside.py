"""Another recipe beside a run: the same images at the same sites, shown and kept as a run."""

import io

from rich.console import Console

from common.config import recipes
from common.record.reader import read_run
from deploy.engines.beside import ALIKE, beside


def test_it_has_the_runs_images_sites_and_seed_and_its_own_method(tmp_path) -> None:
    asked = {"images": 120, "sites": 3, "partition": "iid", "seed": 5, "rounds": 1}
    plan = recipes.load("fedsimclr").plan({**asked, "encoder": "small-convnet"})
    shown = io.StringIO()
    other = recipes.load("fedkmeans-pixels")
    folder = beside(other, plan, tmp_path, Console(file=shown, width=100))
    record = read_run(folder)
    assert folder.parent == tmp_path and record.run.status == "finished"
    settled = record.run.settings()
    assert [getattr(settled, n) for n in ALIKE if n != "clusters"] == [
        getattr(plan, n) for n in ALIKE if n != "clusters"
    ]
    assert settled.encoder == "pixels" and settled.recipe == "fedkmeans-pixels"
    nmi = record.stages[-1].figures["nmi"]
    assert f"{nmi:.3f}" in shown.getvalue() and "fedkmeans-pixels" in shown.getvalue()
    assert (folder / "report.html").exists()
