"""What a site has taken back is in no run any more, however it is called and read."""

import hashlib
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from client.site import Site, load_site_data, open_site
from client.statistics import exact
from client.storage.exclusions import FILE, Exclusions
from client.validation import run_folder
from client.workbench import Workshop
from common.data import Preparation, load
from common.data.identity import identities
from common.protocol import layout
from common.protocol.messages import Instruction, Reply
from common.stages import build_stage
from common.utils.errors import UserError
from tests.builders.runs import plan
from tests.builders.sites import CPU


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        pixels = rng.integers(0, 256, (10, 10)).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    return images


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "n.npz", images=rng.integers(0, 256, (8, 8, 8)).astype(np.uint8))
    return tmp_path / "n.npz"


def site(spec: Path, home: Path) -> Site:
    source = partial(load_site_data, str(spec), 0, 0, None, 0)
    exclusions = Exclusions(home, str(spec))
    data = source(Preparation())
    return open_site("ward", data, home, Workshop(CPU), 1, source, exclusions)


def take_back(spec: Path, home: Path, *names: str) -> int:
    exclusions = Exclusions(home, str(spec))
    return exclusions.add(identities(str(spec), names), "files")


def hello(of: Site, **options: object) -> Reply:
    return of.trainer.handle(Instruction("hello", "run", 0, plan("fedsimclr", **options)))


def test_a_file_that_was_taken_back_is_left_out_by_its_content(
    folder: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert take_back(folder, home, "2.png", "5.png") == 2
    (folder / "2.png").rename(folder / "renamed.png")
    (folder / "copy.png").write_bytes((folder / "5.png").read_bytes())
    told = hello(site(folder, home))
    assert (told.examples, told.info["withdrawn"]) == (6, 3)
    assert told.info["files"][0] == 6
    line = (home / FILE).read_text().splitlines()[0]
    assert "png" not in line and set(json.loads(line)) == {"digest", "size", "time", "why"}
    assert (home / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("side", [0, 6, 20])
def test_the_form_in_which_a_plan_wants_the_images_changes_nothing(
    folder: Path, numbers: Path, tmp_path: Path, side: int
) -> None:
    for spec, name in ((folder, "3.png"), (numbers, "3")):
        home = tmp_path / spec.stem
        take_back(spec, home, name)
        opened = site(spec, home)
        told = hello(opened, side=side)
        assert (told.examples, told.info["withdrawn"]) == (7, 1)
        assert name not in opened.trainer.holdings.of(plan("fedsimclr", side=side)).data.names


def test_a_site_that_has_joined_leaves_out_what_is_taken_back_from_the_next_message_on(
    folder: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    opened = site(folder, home)
    whole = hello(opened)
    take_back(folder, home, "1.png")
    (folder / "1.png").unlink()  # at once: the site has read it before
    fewer = hello(opened)
    assert (whole.examples, fewer.examples, fewer.info["withdrawn"]) == (8, 7, 1)
    assert whole.info["fingerprint"] != fewer.info["fingerprint"]
    again = identities(str(folder), ["0.png"])
    take_back(folder, home, "0.png")
    assert hello(opened).examples == 6
    assert Exclusions(home).remove(again) == 1 and Exclusions(home).remove(again) == 0
    assert hello(opened).examples == 7


def test_neither_features_nor_sums_of_the_others_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = load("digits", images=60).images
    spec, home = tmp_path / "n.npz", tmp_path / "home"
    np.savez(spec, images=np.concatenate([digits, digits[:3] // 2 * 2]))
    the_plan = plan("covey-exact", encoder="noise-filters", rounds=0, images=0, sites=1)
    shared = build_stage(the_plan, 0, 1, 8, 10).shared()
    digest, groups = layout.layout_of(shared).digest, layout.flatten(shared)
    asked = Instruction("moments", "run", 0, the_plan, 0, digest, groups=groups)
    opened = site(spec, home)
    first = opened.trainer.handle(asked)
    encoder = opened.trainer.workshop.bench(asked, 1, 8, "natural").model.encoder
    forwarded: list[int] = []
    added: list[int] = []
    forward, add = encoder.forward, exact.view_moments

    def counted(pairs, *more):
        pairs = list(pairs)
        added.append(sum(len(a) for a, _ in pairs))
        return add(pairs, *more)

    monkeypatch.setattr(encoder, "forward", lambda x: (forwarded.append(len(x)), forward(x))[1])
    monkeypatch.setattr(exact, "view_moments", counted)
    answers = [first]
    for names in (("7", "9"), ("60",), ("1", "2", "3")):
        take_back(spec, home, *names)
        answers.append(opened.trainer.handle(asked))
    assert not forwarded and added == [2, 1, 3]
    assert [each.sums["images"] for each in answers] == [63, 61, 60, 57]
    assert opened.trainer.handle(asked).halves["gram"].tobytes() == (
        answers[-1].halves["gram"].tobytes()
    )
    fresh = site(spec, home).trainer.handle(asked)
    for name in ("gram", "within"):
        assert answers[-1].halves[name].tobytes() == fresh.halves[name].tobytes()
        assert answers[-1].halves[name].tobytes() != first.halves[name].tobytes()


def test_a_site_that_has_taken_back_everything_takes_no_part(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    opened = site(folder, home)
    take_back(folder, home, *(f"{number}.png" for number in range(7)))
    for _ in range(2):
        with pytest.raises(UserError, match="site ward has taken back 7 images: too few are left"):
            hello(opened)
    Exclusions(home).remove(Exclusions(home).read().keys())
    assert hello(opened).examples == 8


@pytest.mark.parametrize("content", [b"{", b"[]\n", b"\xff\n", b'{"digest": "a"}\n'])
def test_a_list_that_is_damaged_lets_nothing_leave(
    folder: Path, tmp_path: Path, content: bytes
) -> None:
    home = tmp_path / "home"
    opened = site(folder, home)
    (home).mkdir(exist_ok=True)
    (home / FILE).write_bytes(content)
    for _ in range(2):
        with pytest.raises(UserError, match="is damaged: what was taken back is not known"):
            hello(opened)


def test_taking_back_twice_is_once(folder: Path, tmp_path: Path) -> None:
    assert take_back(folder, tmp_path, "1.png", "2.png") == 2
    before = (tmp_path / FILE).read_bytes()
    assert take_back(folder, tmp_path, "2.png", "1.png") == 0
    assert (tmp_path / FILE).read_bytes() == before
    with pytest.raises(UserError, match=r"'x\.png' cannot be read"):
        take_back(folder, tmp_path, "x.png")


def test_an_image_of_an_array_is_known_by_its_number(numbers: Path, tmp_path: Path) -> None:
    for name in ("8", "-1", "x"):
        with pytest.raises(UserError, match="it has 0 to 7"):
            take_back(numbers, tmp_path, name)
    assert not (tmp_path / FILE).exists()


def test_no_run_can_be_called_as_the_list_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="something else of this site's"):
        run_folder(tmp_path, FILE)


def test_a_file_is_read_once_for_its_digest_and_again_when_it_has_changed(
    folder: Path, tmp_path: Path, monkeypatch
) -> None:
    data, taken = load(str(folder)), Exclusions(tmp_path, str(folder))
    reads = []
    digest = hashlib.file_digest
    monkeypatch.setattr(
        "common.data.identity.hashlib.file_digest",
        lambda file, kind: reads.append(file.name) or digest(file, kind),
    )
    take_back(folder, tmp_path, data.names[0])
    assert taken.left_in(data).withdrawn == taken.left_in(data).withdrawn == 1
    assert len(reads) == len(set(reads))
    changed = folder / data.names[0]
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    assert taken.left_in(data).withdrawn == 0
