"""What a plan leaves open of its landmarks, and what settles it."""

import pytest

from common.config import recipes
from common.config.options import Plan
from common.record.schema import SiteFacts
from common.stages import build_stage, settle_parameters
from server.conversation.registration import SiteInfo
from server.settling import settle_landmarks


def sites(*images: int) -> list[SiteInfo]:
    facts = SiteFacts(examples=1)
    return [SiteInfo(f"site-{n}", many, 1, 8, (), facts) for n, many in enumerate(images)]


def exact(parameters: str = "") -> Plan:
    return settle_parameters(recipes.load("covey-exact").plan({"parameters": parameters}))


def landmarks(plan: Plan) -> list[object]:
    return [stage.parameters.get("landmarks") for stage in plan.stages]


@pytest.mark.parametrize(
    ("images", "parameters", "found"),
    [
        ((10_000, 10_000), "", 1000),
        ((10_000, 10_001), "", 2000),
        ((10_000, 1), "images=10", 2000),
        ((50_000,), "images=40", 2000),
        ((30_000,), "images=40", 1000),
        ((10_000, 10_001), "landmarks=1500", 1500),
    ],
)
def test_many_images_have_more_landmarks(images, parameters: str, found: int) -> None:
    plan = settle_landmarks(exact(parameters), sites(*images), None)
    assert landmarks(plan) == [found]
    model = build_stage(plan, 0, 1, 8, 10)
    assert model.projector[1].scores.out_features == found


def test_a_run_that_goes_on_keeps_its_landmarks() -> None:
    began = settle_landmarks(exact(), sites(30_000), None)
    assert landmarks(settle_landmarks(exact(), sites(300), began)) == [2000]


def test_stages_that_say_how_many_or_have_none_stay_as_they_are() -> None:
    plan = settle_parameters(recipes.load("covey").plan({}))
    assert settle_landmarks(plan, sites(50_000), None) == plan
