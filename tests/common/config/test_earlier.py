"""What an earlier version has written is still read: `plan-0.1.json` is a plan of `covey` by it."""

import json
from pathlib import Path

import pytest

from common.config import recipes
from common.config.options import Plan, Stage
from common.config.settle import settle
from common.utils.errors import UserError

WRITTEN = json.loads((Path(__file__).parent / "plan-0.1.json").read_text())

RECIPE = """
[[stages]]
name = "representation"
objective = "spectral"
rounds = 2

[[stages]]
name = "clusters"
objective = "landmarks"
rounds = 0
embedding = "projector"
"""


def methods(plan: Plan) -> list[tuple[str, str, int]]:
    return [(stage.objective, stage.solver, stage.rounds) for stage in plan.stages]


def test_a_plan_of_0_1_is_the_same_plan_with_the_names_of_today() -> None:
    assert [s["objective"] for s in WRITTEN["stages"]] == ["components", "spectral", "landmarks"]
    plan = Plan.from_json(json.dumps(WRITTEN))
    assert methods(plan) == [
        ("", "patch-pca", 0),
        ("spectral-contrastive", "", 2),
        ("", "landmark-spectral", 0),
    ]
    assert Plan.from_json(plan.to_json()) == plan
    for stage, written in zip(plan.stages, WRITTEN["stages"], strict=True):
        kept = stage.model_dump(mode="json", by_alias=True)
        names = {"objective", "solver"}
        since = {"features": "anew", "local-steps": 0, "synchronous": False}  # as 0.1 had it
        since |= {"gradients": "float32", "wire": "exact"}
        assert {k: v for k, v in kept.items() if k not in names} == {
            **{k: v for k, v in written.items() if k not in names},
            **since,
        }


def test_a_users_recipe_of_0_1_and_its_options_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    expected = [("spectral-contrastive", "", 2), ("", "landmark-spectral", 0)]
    assert methods(recipes.load(str(path)).plan()) == expected
    options = {"objective": "spectral,projection", "rounds": "5"}
    expected = [("spectral-contrastive", "", 5), ("", "projection", 0)]
    assert methods(recipes.load(str(path)).plan(options)) == expected


def test_the_objective_inside_another_is_called_as_today() -> None:
    for name, inside in [("spectral", "spectral-contrastive"), ("fedu2/spectral", None)]:
        stage = Stage(name="s", objective="cluster", parameters=f"first={name}")
        assert stage.parameters["first"] == (inside or "fedu2/spectral-contrastive")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"objective": "simclr", "solver": "frozen"}, "has both an objective and a solver"),
        ({"objective": "landmarks", "solver": "frozen"}, "has both an objective and a solver"),
        ({}, "has no objective and no solver"),
    ],
)
def test_a_stage_names_one_objective_or_one_solver(options: dict, said: str) -> None:
    document = {"stages": [{"name": "s", **options}]}
    with pytest.raises(UserError, match=rf"^stage 's' {said}$"):
        settle("mine", document, {})
    plan = {**WRITTEN, "stages": document["stages"]}
    with pytest.raises(UserError, match=rf"^stage 's' {said}$"):
        Plan.from_json(json.dumps(plan))


def test_a_solvers_stage_has_no_rounds_of_its_own_or_of_the_option() -> None:
    assert methods(recipes.load("covey").plan({"rounds": "3"})) == [
        ("", "patch-pca", 0),
        ("spectral-contrastive", "", 3),
        ("", "landmark-spectral", 0),
    ]


def test_one_value_is_for_the_stages_that_have_such_a_method_several_for_all() -> None:
    covey = recipes.load("covey")
    assert methods(covey.plan({"objective": "byol"}))[1] == ("byol", "", 8)
    assert [m[1] for m in methods(covey.plan({"solver": "frozen"}))] == ["frozen", "", "frozen"]
    chosen = covey.plan({"solver": "frozen,,projection", "objective": ",simclr,"})
    assert methods(chosen) == [("", "frozen", 0), ("simclr", "", 8), ("", "projection", 0)]
    assert methods(covey.plan({"objective": "simclr,,"}))[0] == ("simclr", "", 10)
    with pytest.raises(UserError, match="objective: 2 values for the recipe's 3 stages"):
        covey.plan({"objective": "simclr,byol"})
