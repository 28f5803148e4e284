"""A site over real processes lets images be unlearned and looked for: they are, there alone."""

import json
import sys

import pytest

from common.record.reader import read_run
from tests.builders.withdrawing import joined

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: it looks into /proc")
TRAINED = (
    "fedsimclr", "--encoder", "small-convnet", "--clusters", "10", "--rounds", "2",
    "--local-epochs", "1", "--batch-size", "32", "--min-count", "5", "--deadline", "60",
)  # fmt: skip
COUNT = 20
METHOD = "contrastive-unlearning"


def test_what_a_site_lets_be_unlearned_is_unlearned_there_and_audited(tmp_path):
    runs, north = tmp_path / "server" / "runs", tmp_path / "covey-site-north"
    images, site = [str(n) for n in range(COUNT)], ("--folder", "covey-site-north", "--yes")
    server = ("--server", "server")
    with joined(tmp_path) as covey:
        covey.run("submit", *TRAINED, *server, "--run-folder", str(runs / "first"))
        forget = ("forget", "first", *server, "--site", "north", "--yes", "--method", METHOD)

        # Taken back, but not to be used again: nobody does, and nothing has changed.
        covey.run("client", "forget", *images, *site)
        said = covey.run(*forget, expect=1)
        assert "north refused: 0 images were given to be unlearned" in said
        assert read_run(runs / "first").run.superseded is None

        said = covey.run("client", "forget", *images, *site, "--may-unlearn", "--may-audit")
        assert "may be used once more, here" in said and "may be looked at, here" in said
        covey.run(*forget)
        after = runs / "first-without-1"
        record = read_run(after)
        assert record.unlearned[0].answered == ("north",) and len(record.unlearned) == 1
        assert record.run.forgetting.images == {"north": COUNT}
        assert [len(each.answered) for each in record.rounds] == [3]
        log = (north / "logs" / "trainer.log").read_text()
        assert f"run {after.name}: {COUNT} images to be unlearned" in log

        audit = ("audit-forgetting", "first", after.name, *server, "--references", "2")
        said = covey.run(*audit)
        assert "views in the projector: auc" in said
        found = json.loads((after / "forget-report.json").read_text())
        assert len(found["attacks"]) == 3 and found["images"]["stayed"] == 80
        assert found["sites"] == {"north": COUNT} and (after / "forget-report.html").exists()
        assert sorted(path.name for path in runs.iterdir()) == ["first", after.name]
        assert not (after / "audit").exists()

    left = [json.loads(line) for line in (north / "left.jsonl").read_text().splitlines()]
    assert [each["kind"] for each in left].count("unlearn") == 1
    assert all(not each["parts"] for each in left if each["kind"] == "recall")
    for other in ("east", "south"):
        told = (tmp_path / f"covey-site-{other}" / "left.jsonl").read_text()
        assert '"unlearn"' not in told and '"recall"' not in told
        handed = {
            path.parent.name for path in (tmp_path / f"covey-site-{other}").glob("*/model.covey")
        }
        assert handed == {"first", after.name}
