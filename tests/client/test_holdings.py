"""Sides, colours and windows that differ between sites are settled by the coordinator's plan."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from client.holdings import Holdings
from client.site import Site, load_site_data, open_site
from client.workbench import Workshop
from common.config import recipes
from common.config.options import Plan
from common.data import ImageData, Preparation, load
from common.record.reader import read_settings
from common.utils.errors import UserError
from deploy.engines.in_process import grid_of
from server.app import run
from server.run.folder import RunFolder

CPU = torch.device("cpu")
OPTIONS = {"sites": 2, "rounds": 1, "min-count": 1, "clusters": 2, "deadline": 5}


def the_plan(**options: object) -> Plan:
    return recipes.load("fedsimclr").plan({**OPTIONS, **options})


def photographs(folder: Path, size: tuple[int, int], mode: str) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(len(mode))
    for number in range(12):
        noise = rng.integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
        Image.fromarray(noise).convert(mode).save(folder / f"{number}.png")
    return folder


def opened(name: str, images: Path, home: Path) -> Site:
    source = partial(load_site_data, str(images), 0, 0, None, 0)
    return open_site(name, source(Preparation()), home / name, Workshop(CPU), 1, source)


@pytest.fixture
def sites(tmp_path: Path) -> list[Site]:
    north = photographs(tmp_path / "a", (20, 16), "RGB")
    south = photographs(tmp_path / "b", (30, 24), "L")
    return [opened("north", north, tmp_path), opened("south", south, tmp_path)]


def test_sites_whose_images_differ_take_part_in_the_plans_form(
    sites: list[Site], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    run(grid_of(sites), the_plan(side=12, colours="grey", fit="pad"), RunFolder(folder), "test")
    record = read_settings(folder)
    assert {name: site.shape for name, site in record.sites.items()} == {
        "north": "1×12×12",
        "south": "1×12×12",
    }
    held = sites[0].trainer.holdings.of(the_plan(side=12, colours="grey", fit="pad")).data
    assert held.images[:, 0, 0].min() == 255  # padded above and below, with white


def test_where_no_plan_settles_it_the_minority_is_refused_and_told_how(
    sites: list[Site], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("server.conversation.roster.LATECOMERS", 0.0)
    folder = tmp_path / "run"
    run(grid_of(sites), the_plan(), RunFolder(folder), "test")
    assert list(read_settings(folder).sites) == ["north"]
    events = (folder / "metrics.jsonl").read_text()
    assert "covey submit --side 16 --colours rgb makes all sites' alike" in events


def test_images_are_read_anew_once_for_a_plan_and_back_again(tmp_path: Path) -> None:
    images = photographs(tmp_path / "a", (20, 16), "RGB")
    asked: list[Preparation] = []

    def source(how: Preparation) -> ImageData:
        asked.append(how)
        return load(str(images), how=how)

    first = source(Preparation())
    holdings = Holdings("north", first, CPU, source)
    plain, squashed = the_plan(), the_plan(fit="squash", side=8)
    assert holdings.of(plain).data is first and len(asked) == 1
    for _ in range(2):
        assert holdings.of(squashed).data.side == 8
    assert len(asked) == 2
    again = holdings.of(plain).data
    assert len(asked) == 3 and again.fingerprint == first.fingerprint


def test_the_coordinators_window_goes_before_the_sites_own(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for number in range(3):
        values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 10 + number
        Image.fromarray(values).save(folder / f"{number}.png")
    source = partial(load_site_data, str(folder), 0, 0, None, 0)
    holdings = Holdings("north", source(Preparation()), CPU, source)
    own = holdings.of(the_plan()).data
    given = holdings.of(the_plan(window="0:2550")).data
    assert own.images.max() == 255 and given.images.max() == 63
    assert given.window == "0:2550" != own.window


def test_arrays_are_scaled_and_recoloured_as_they_are() -> None:
    holdings = Holdings("north", load("digits", images=5), CPU)
    assert holdings.of(the_plan(side=16, colours="rgb")).data.images.shape == (5, 3, 16, 16)
    assert holdings.of(the_plan(fit="pad")).data.images.shape == (5, 1, 8, 8)
    assert holdings.of(the_plan()).data.fingerprint == load("digits", images=5).fingerprint


def test_what_does_not_fit_into_memory_is_refused_before_it_is_read(monkeypatch) -> None:
    holdings = Holdings("north", load("digits", images=5), CPU)
    monkeypatch.setattr("client.holdings.available", lambda: 1000)
    with pytest.raises(UserError, match=r"5 images of 1×4096×4096 are 0\.1 GB"):
        holdings.of(the_plan(side=4096))
    assert holdings.of(the_plan()).data.side == 8
