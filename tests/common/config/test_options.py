"""One name per option, and one clear line for each mistake."""

import tomllib
from pathlib import Path

import pytest

from common.config import recipes
from common.config.options import RUN_OPTIONS, STAGE_OPTIONS, Plan
from common.utils.errors import UserError

ROOT = Path(__file__).parents[3]


def test_the_flower_app_knows_exactly_the_run_options() -> None:
    """`flwr run . --run-config` only overrides keys that pyproject.toml declares."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    assert config.keys() == {"recipe", "run-folder", *RUN_OPTIONS, *STAGE_OPTIONS}
    assert set(config.values()) == {recipes.DEFAULT, ""}


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_settles_and_says_what_it_is(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.plan().recipe == name
    assert recipe.title and recipe.family and recipe.shared and recipe.source


def test_overrides_win_over_the_recipe_and_the_recipe_over_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'seed = 3\nsites = 7\n[[stages]]\nname = "a"\nobjective = "simclr"\nrounds = 2\n'
    )
    plan = recipes.load(str(path)).plan({"sites": "9", "learning-rate": "0.5"})
    assert (plan.seed, plan.sites, plan.stages[0].rounds) == (3, 9, 2)
    assert (plan.stages[0].learning_rate, plan.stages[0].batch_size) == (0.5, 128)


def test_a_stage_option_takes_one_value_or_one_per_stage() -> None:
    recipe = recipes.load("fedmcc")
    assert [s.rounds for s in recipe.plan({"rounds": "2"}).stages] == [2, 2]
    assert [s.rounds for s in recipe.plan({"rounds": "8, 4"}).stages] == [8, 4]
    with pytest.raises(UserError, match="3 values for the recipe's 2 stages"):
        recipe.plan({"rounds": "1,2,3"})


def test_one_number_of_rounds_is_for_the_stages_that_train() -> None:
    assert [s.rounds for s in recipes.load("covey").plan({"rounds": "5"}).stages] == [0, 5, 0]
    assert [s.rounds for s in recipes.load("covey").plan({"rounds": 5}).stages] == [0, 5, 0]
    assert [s.rounds for s in recipes.load("fedkmeans-pixels").plan({"rounds": "5"}).stages] == [5]


def test_parameters_are_added_to_the_recipes() -> None:
    stage = recipes.load("fedmcc").plan({"parameters": "temperature=0.5"}).stages[1]
    assert stage.parameters == {"first": "momentum-contrast", "temperature": 0.5}


def test_an_empty_override_is_not_given() -> None:
    assert recipes.load("fedmcc").plan({"sites": "", "rounds": ""}) == recipes.load("fedmcc").plan()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"round": "3"}, "unknown option 'round': did you mean 'rounds'"),
        ({"learning-rate": "-1"}, "learning-rate.*greater than 0"),
        ({"sites": "many"}, "sites.*'many'"),
        ({"batchnorm": "global"}, "batchnorm"),
        ({"parameters": "temperature"}, "not of the form name=value"),
    ],
)
def test_a_mistake_is_one_line(options, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        recipes.load("fedmcc").plan(options)
    assert "\n" not in str(caught.value)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'fedmcc'"):
        recipes.load("fedmccc")


def test_a_recipe_file_with_a_mistake_is_one_line(tmp_path: Path) -> None:
    for text, message in (
        ("= 3", "recipe"),
        ("seeed = 3\n[[stages]]\n", "did you mean 'seed'"),
        ("seed = 3", "no .*stages"),
    ):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            recipes.load(str(path))
    with pytest.raises(UserError, match="no recipe file"):
        recipes.load(str(tmp_path / "absent.toml"))


def test_a_plan_travels_as_json() -> None:
    plan = recipes.load("fedmcc").plan({"seed": "5"})
    assert Plan.from_json(plan.to_json()) == plan


def test_rounds_are_counted_over_stages() -> None:
    plan = recipes.load("fedmcc").plan({"rounds": "3,2"})
    assert [plan.stage_of(r) for r in range(1, 6)] == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2)]
    with pytest.raises(ValueError, match="past"):
        plan.stage_of(6)
