"""Defects seen in public code of the field, and for each the test that fails where it is back.

 1 the target of BYOL moves by m where it must by 1 - m:
   tests/common/objectives/test_objectives.py::test_the_target_moves_by_1_minus_m_towards_the_online_network
 2 NT-Xent zeroes self-similarity, which leaves exp(0) in the denominator:
   tests/common/losses/test_losses.py::test_nt_xent_masks_self_similarity_instead_of_zeroing_it
 3 the weights of the average do not sum to 1 when a part of the sites takes part:
   tests/test_defects.py::test_sites_that_change_nothing_change_nothing_under_partial_participation
 4 sites count by batches instead of images:
   tests/test_identities.py::test_a_full_batch_step_at_the_sites_is_one_on_their_union
 5 the last batch is dropped in evaluation, so that images are never scored:
   tests/server/test_run.py::test_every_stage_ends_with_scores_over_all_images
 6 a cluster that no site has images of becomes NaN:
   tests/server/clustering/test_rules.py::test_a_cluster_without_members_keeps_its_previous_centre_with_count_0
 7 counts of earlier rounds are never forgotten:
   tests/test_defects.py::test_counts_of_earlier_rounds_pull_no_centroid
 8 the parts of a Dirichlet partition overlap:
   tests/common/data/test_partition.py::test_every_image_has_exactly_one_site_and_every_site_an_image
 9 two clients have the same part:
   tests/test_defects.py::test_a_second_site_of_the_same_name_is_refused
10 BatchNorm's 0-d num_batches_tracked breaks the transfer of the model:
   tests/common/protocol/test_layout.py::test_running_statistics_are_a_group_of_their_own_and_counters_stay
11 pickle is on the wire:
   tests/test_defects.py::test_a_pickle_on_the_wire_is_refused_and_never_run
12 the server reads labels:
   tests/test_defects.py::test_labels_change_no_bit_of_what_is_learned
13 a site has fewer distinct points than local clusters:
   tests/common/clustering/test_kmeans.py::test_no_cluster_is_empty_and_there_are_no_more_than_distinct_points
14 an untrained or another run's network is evaluated without an error:
   tests/deploy/evaluation/test_refused.py::test_a_run_that_does_not_fit_is_one_line_with_exit_code_2
15 every batch that is unlearned meets the same retained images:
   tests/client/test_unlearning.py::test_no_forgotten_image_is_among_the_retained_and_each_step_meets_others
16 an image to be unlearned without a retained one of its class gives log 0:
   tests/common/losses/test_unlearning.py::test_an_anchor_without_a_retained_sample_of_its_class_is_left_out
17 a forgotten image stays among the retained:
   tests/client/test_unlearning.py::test_no_forgotten_image_is_among_the_retained_and_each_step_meets_others
18 the less an attack finds, the better forgetting is called:
   tests/deploy/audit/test_attack.py::test_too_much_forgotten_is_told_from_enough
"""

import ast
import io
import re
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from safetensors.numpy import load_file

from client.app import build_app
from client.site import open_site
from client.workbench import Workshop, pick_device
from common.clustering.centroids import Centroids, unit
from common.config import recipes
from common.config.options import Plan
from common.data.planned import planned_data
from common.protocol import layout
from common.protocol.messages import MessageError, Reply
from common.stages import build_stage
from deploy.engines import simulate as simulate_module
from deploy.engines.in_process import InProcessGrid
from deploy.engines.simulate import simulate
from server.clustering.rules import CENTROID_RULES
from server.conversation.roster import Roster

ROOT = Path(__file__).parent.parent
SMALL = {"dataset": "digits", "images": 120, "encoder": "small-convnet", "clusters": 10}


def plan(**options) -> Plan:
    settings = {"rounds": 2, "local-epochs": 1, "partition": "iid", "device": "cpu"}
    return recipes.load("fedsimclr").plan({**SMALL, **settings, **options})


def test_every_defect_has_a_test() -> None:
    table = re.findall(r"^ ?(\d+) [^:]*:\n   (\S+)::(\w+)$", __doc__, re.MULTILINE)
    assert [int(number) for number, _, _ in table] == list(range(1, 19))
    for _, path, name in table:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert name in {f.name for f in tree.body if isinstance(f, ast.FunctionDef)}, (path, name)


def test_sites_that_change_nothing_change_nothing_under_partial_participation(
    tmp_path: Path, monkeypatch
) -> None:
    """Weights that sum to less than 1 would shrink the model."""
    monkeypatch.setattr("client.tasks.train.train_round", lambda *_: ({"loss": 0.0}, 8))
    the_plan = plan(sites=5, participation=0.4, **{"size-skew": 1})
    simulate(the_plan, tmp_path / "run")
    saved = load_file(tmp_path / "run" / "checkpoint.safetensors")
    for name, start in layout.flatten(build_stage(the_plan, 0, 1, 8, 10).shared()).items():
        assert np.array_equal(saved[f"group/{name}"], start)


@pytest.mark.parametrize("merge", list(CENTROID_RULES))
def test_counts_of_earlier_rounds_pull_no_centroid(merge: str) -> None:
    """However many images the clusters had before, only those of this round's sites count."""
    rng = np.random.default_rng(0)
    local = [
        (site, Centroids(unit(np.eye(5)[:3] + 0.1 * rng.normal(size=(3, 5))), np.array([9, 8, 7])))
        for site in ("a", "b")
    ]
    before = unit(np.eye(5)[:3] + 0.3)
    found = [
        CENTROID_RULES[merge](local, Centroids(before, np.full(3, count)), 3, 0).centroids
        for count in (1, 10**9)
    ]
    assert np.array_equal(found[0].points, found[1].points)
    assert found[0].counts.tolist() == found[1].counts.tolist() == [18, 16, 14]


@pytest.mark.parametrize(
    ("registered", "reason"),
    [(("", ""), "'ward' is taken"), (("ward", "other"), "calls itself 'ward'")],
)
def test_a_second_site_of_the_same_name_is_refused(
    registered: tuple[str, str], reason: str, tmp_path: Path
) -> None:
    """Two clients of one partition would count its images twice."""
    workshop, data = Workshop(pick_device("cpu")), planned_data(plan())
    sites = [open_site("ward", data, tmp_path / str(i), workshop) for i in range(2)]
    grid = InProcessGrid(
        {str(i): build_app(lambda _c, r, s=site: s.handle(r)) for i, site in enumerate(sites)}
    )
    for node, name in zip(grid._nodes.values(), registered, strict=True):
        node.name = name
    said: list[str] = []
    roster = Roster(grid, plan(sites=2), "run", said.append)
    roster.gather(patience=0)
    assert list(roster.sites) == ["ward"] and roster.examples == SMALL["images"]
    assert len(roster.refresh()) == 1
    assert any("refused" in line and reason in line for line in said)


class Trap:
    """Unpickling it leaves a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_pickle_on_the_wire_is_refused_and_never_run(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    file = io.BytesIO()
    np.save(file, np.array([Trap(sprung)], dtype=object), allow_pickle=True)
    record = Reply("train", "ward", 1).to_record()
    packed = Array(dtype="float32", shape=(1,), stype="numpy.ndarray", data=file.getvalue())
    record["groups"] = ArrayRecord({"encoder": packed})
    with pytest.raises(MessageError, match=r"groups\.encoder: unreadable"):
        Reply.from_record(record)
    assert not sprung.exists()
    file.seek(0)
    np.load(file, allow_pickle=True)
    assert sprung.exists()  # the trap works
    for package in ("server", "client", "common", "deploy"):
        for path in (ROOT / package).rglob("*.py"):
            assert not re.search(r"^\s*(import|from) (pickle|joblib|dill)\b", path.read_text()), (
                path
            )


def test_labels_change_no_bit_of_what_is_learned(tmp_path: Path, monkeypatch) -> None:
    """A federation without labels learns what one with labels does: model, centroids and all."""
    whole = planned_data(plan())

    def without_labels(_plan):
        return type(whole)(whole.images, None, (), whole.names, whole.kind)

    simulate(plan(sites=2), tmp_path / "with" / "run")
    monkeypatch.setattr(simulate_module, "planned_data", without_labels)
    simulate(plan(sites=2), tmp_path / "without" / "run")
    with_labels, without = (
        (tmp_path / name / "run" / "checkpoint.safetensors").read_bytes()
        for name in ("with", "without")
    )
    assert with_labels == without
