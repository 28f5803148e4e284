"""Who starts a run of hours is told so before it begins, and what makes it shorter."""

from pathlib import Path

import pytest

from common.config import recipes
from common.config.options import ENCODERS, Plan
from common.record.reader import read_run
from common.record.schema import SiteFacts
from deploy.engines.simulate import simulate
from server.conversation.registration import SiteInfo
from server.run import estimate
from server.run.estimate import COSTS, training_seconds, warning
from tests.builders.runs import plan


def site(name: str, images: int, side: int = 32, device: str = "cpu") -> SiteInfo:
    return SiteInfo(name, images, 3, side, (), SiteFacts(examples=images, device=device))


def sites(*those: SiteInfo) -> dict[str, SiteInfo]:
    return {each.name: each for each in those}


def resnet(**options) -> Plan:
    given = {"encoder": "resnet18", "rounds": 100, "local-epochs": 1, **options}
    return recipes.load("fedsimclr").plan(given)


def test_it_grows_as_images_pixels_epochs_and_rounds_do(monkeypatch) -> None:
    monkeypatch.setattr(estimate.os, "cpu_count", lambda: 8)

    def seconds(images: int, side: int, done: int = 0, **options) -> float:
        return training_seconds(resnet(**options), sites(site("a", images, side)), "server", done)

    once = seconds(1000, 32)
    assert once == pytest.approx(1000 * 0.06 / 8 * 100 * 0.8)
    assert seconds(3000, 32) == pytest.approx(3 * once)
    assert seconds(1000, 64) == pytest.approx(4 * once)
    assert seconds(1000, 256) == pytest.approx(4 * once)  # with the stem of large images
    assert seconds(1000, 32, **{"local-epochs": 5}) == pytest.approx(5 * once)
    assert seconds(1000, 32, participation=0.1) == pytest.approx(0.1 * once)
    assert seconds(1000, 32, done=75) == pytest.approx(once / 4)
    assert seconds(1000, 32, done=100) == 0
    assert seconds(1000, 32, encoder="pixels") == 0


def test_sites_on_machines_of_their_own_work_at_once_and_the_slowest_decides() -> None:
    both = sites(site("north", 1000), site("south", 4000, device="NVIDIA H200"))
    alone = training_seconds(resnet(), sites(both["north"]), "server", 0)
    assert training_seconds(resnet(), both, "server", 0) == alone
    together = training_seconds(resnet(), both, "processes", 0)
    assert together > training_seconds(resnet(), sites(both["north"]), "processes", 0)


def test_the_line_says_how_long_why_and_what_to_do() -> None:
    those = sites(site("north", 60_000, 224), site("south", 100, 224, "NVIDIA H200"))
    said = warning(resnet(), those, "server", 0)
    assert said == (
        "this trains for about 30 hours, as an order of magnitude: resnet18, 80 passes over the "
        "60,000 images of side 224 at north, on a CPU. Shorter: a GPU, --encoder convnet, "
        "--side 32 where a site joins, fewer --rounds or --local-epochs"
    )
    here = warning(resnet(encoder="convnet"), sites(site("a", 10**7)), "in-process", 0)
    assert "--encoder" not in here and "fewer --images" in here and "--side" not in here
    assert warning(resnet(), sites(site("a", 500)), "server", 0) == ""
    assert warning(recipes.load("covey").plan(), sites(site("a", 1797, 8)), "processes", 0) == ""


def test_every_encoder_has_its_cost() -> None:
    assert set(COSTS) == set(ENCODERS)


def test_it_is_said_before_the_first_round(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(estimate, "LONG", 0.001)
    simulate(plan("fedsimclr"), tmp_path)
    events = read_run(tmp_path).events
    assert events[0].event == "warning" and "this trains for about" in events[0].text
    assert events[0].round == 0
