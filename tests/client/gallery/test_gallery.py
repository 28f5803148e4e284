"""What a gallery shows, how much at most, and that nothing in it is loaded or obeyed."""

import base64
import hashlib
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from client.gallery import gallery
from client.gallery.choice import MAPPED, TILES, Seen, mapped, strips
from client.gallery.thumbnails import CELL, TILE, sprite, tile
from common.config import recipes
from common.learned.facts import Facts, Preprocessing, portable_plan
from tests.builders.browser import addresses

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'"
LIBRARIES = """
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

from client.gallery.behind import page_of
from tests.client.gallery.test_gallery import facts

torch.manual_seed(0)
points = torch.randn(60, 5)
data = SimpleNamespace(
    site="north",
    names=[f"{n}.png" for n in range(60)],
    images=torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8),
)
model = SimpleNamespace(facts=facts(), identity="0123")
page = page_of(Path("model.covey"), model, points, points[:3], data)
print(page.count("0.png") > 1, sorted({name.partition(".")[0] for name in sys.modules}))
"""
PLAN = recipes.load("fedsimclr").plan({"clusters": 3})


def seen(count: int, clusters: int, names: str = "{}.png") -> Seen:
    rng = np.random.default_rng(0)
    return Seen(
        [names.format(n) for n in range(count)],
        rng.integers(0, clusters, count),
        rng.integers(0, clusters, count),
        rng.random(count, np.float32),
        rng.random(count, np.float32),
    )


def facts(**more: object) -> Facts:
    given = {
        "run": "a-run", "recipe": "fedsimclr", "created": "today", "covey": "0.1.0",
        "plan": portable_plan(PLAN), "space": "encoder", "names": ("dent", "", ""),
        "preprocessing": Preprocessing(channels=3, side=32), "sizes": (1000, 20, 3000),
        "images": 4020, "sites": 3, **more,
    }  # fmt: skip
    return Facts(**given)


def page(about: Facts, names: str = "{}.png", save: str = "", clusters: int = 3) -> str:
    some = seen(90, clusters, names)
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, (90, 3, 40, 40), np.uint8)
    points = rng.normal(size=(90, 5)).astype(np.float32)
    made = gallery.build(
        some, np.arange(90), points, lambda rows, side: [pictures[row] for row in rows], 3, 0
    )
    command = "covey name model.covey names.json"
    return gallery.render(made, about, "0123", "photos", command, save)


def test_the_central_are_nearest_the_doubtful_least_sure_and_no_picture_is_shown_twice() -> None:
    some = seen(200, 4)
    found = strips(some, 4, seed=0)
    assert list(found) == sorted(found, key=lambda k: -np.count_nonzero(some.cluster == k))
    for cluster, (central, doubtful, drawn) in found.items():
        rows = np.flatnonzero(some.cluster == cluster)
        assert max(some.distance[list(central.rows)]) <= min(
            some.distance[np.setdiff1d(rows, central.rows)]
        )
        rest = np.setdiff1d(rows, [*central.rows, *doubtful.rows])
        assert max(some.confidence[list(doubtful.rows)]) <= min(some.confidence[rest])
        shown = [*central.rows, *doubtful.rows, *drawn.rows]
        assert len(set(shown)) == len(shown) == 24 and set(shown) <= set(rows)
    assert found == strips(some, 4, seed=0) != strips(some, 4, seed=1)


@pytest.mark.parametrize(("count", "clusters"), [(50_000, 20), (50_000, 10_000), (3, 2), (1, 1)])
def test_a_page_has_a_bounded_number_of_pictures(count: int, clusters: int) -> None:
    found = strips(seen(count, clusters), clusters, 0)
    shown = [row for each in found.values() for strip in each for row in strip.rows]
    assert 1 <= len(shown) <= min(TILES, count)
    assert len(mapped(count, 0)) == min(count, MAPPED)


def test_a_thumbnail_is_small_and_a_tiny_picture_keeps_every_pixel() -> None:
    def opened(address: str) -> Image.Image:
        return Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))

    rng = np.random.default_rng(0)
    large, tiny = (rng.integers(0, 256, (3, side, side), np.uint8) for side in (300, 8))
    assert opened(tile(large)).size == (TILE, TILE)
    assert np.array_equal(np.asarray(opened(tile(tiny))).transpose(2, 0, 1), tiny)
    grey = tile(tiny[:1])
    assert np.array_equal(np.asarray(opened(grey)), tiny[0])
    address, across = sprite([large] * 5, 5)
    assert across == 3 and opened(address).size == (3 * CELL, 2 * CELL)


def test_sizes_are_said_here_and_in_the_federation_in_counts_alone() -> None:
    html = page(facts())
    here = np.bincount(seen(90, 3).cluster)
    text = " ".join(re.sub(r"<[^>]+>", "", html).split())
    for number, size in enumerate(here):
        assert f"{size} here · {facts().sizes[number]:,} in the federation" in text
    assert "4,020 at 3 sites" in text
    assert "in the federation ·" not in " ".join(page(facts(sites=1)).split())
    only = page(facts(), clusters=1)
    assert "Not here" in only and "3,000 elsewhere" in " ".join(only.split())


def test_nothing_is_loaded_and_only_the_pages_own_script_runs() -> None:
    for save in ("", "names"):
        html = page(facts(), save=save)
        assert addresses(html) == set()
        script = re.findall(r"<script>(.*?)</script>", html, re.S)
        digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
        policy = re.search(r'Security-Policy" content="([^"]+)"', html)
        assert len(script) == 1 and policy is not None
        assert f"script-src 'sha256-{digest}'" in policy[1] and "default-src 'none'" in policy[1]
        assert ("connect-src &#39;self&#39;" in policy[1]) == bool(save)


def test_hostile_names_are_texts_wherever_they_stand() -> None:
    about = facts(names=(HOSTILE, "", ""), run=HOSTILE)
    html = page(about, names="{}" + HOSTILE)
    assert "<img src=x" not in html and html.count("<script") == 2
    assert html.count("</script>") == 2


def test_a_site_that_draws_its_page_does_not_keep_what_the_map_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIBRARIES], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("True") and "PIL" in done.stdout
    assert "sklearn" not in done.stdout and "scipy" not in done.stdout
