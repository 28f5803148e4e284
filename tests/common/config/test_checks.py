"""Plans that cannot work are refused before anything is started."""

import pytest

from common.config import recipes
from common.config.checks import check_plan
from common.utils.errors import UserError


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_passes(name: str) -> None:
    recipe = recipes.load(name)
    given = {} if recipe.plan().encoder else {"encoder": "noise-filters"}
    check_plan(recipe.plan(given))


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("orchestra", {"aggregation": "mean"}, "'mean' does not go with objective 'orchestra'"),
        ("fedswav", {"aggregation": "orchestra"}, "'orchestra' does not go with objective 'swav'"),
        (
            "fedsimclr",
            {"solver": "projection"},
            "projection is solved, not trained",
        ),
        ("covey-pretrained", {}, "leaves the encoder to you: --encoder timm:NAME --weights FILE"),
        ("fedsimclr", {"views": "blurred"}, "unknown augmentation 'blurred'"),
        ("fedsimclr", {"partition": "iidd"}, "iidd"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(recipe: str, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as told:
        check_plan(recipes.load(recipe).plan(options))
    assert "\n" not in str(told.value)
