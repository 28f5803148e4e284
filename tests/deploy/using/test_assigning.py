"""`covey assign`, `embed`, `neighbours` and `name`: a model used on a folder of pictures."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import covey
from client.statistics.assigned import assign
from common.data import ImageData, load
from common.learned.file import read_learned
from common.utils.errors import UserError
from deploy.using import assigning, embedding, naming, pictures
from deploy.using.model import open_model
from tests.deploy.helpers import covey as command
from tests.deploy.using.conftest import MANY

QUIET = Console(quiet=True)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_says_of_each_picture_what_predict_says(
    run, photographs, tmp_path, capsys
) -> None:
    table = tmp_path / "out" / "table.csv"
    code, out, err = command(
        capsys, "assign", str(run), str(photographs), "-o", str(table),
        "--json", str(tmp_path / "told.json"), "--device", "cpu",
    )  # fmt: skip
    assert code == 0 and "table:" in out
    assert "files: 60 used, 1 unreadable" in err
    assert "odd/broken.png (it is no image, or of a kind that is not read)" in err
    assert (table.parent / "table.unreadable.txt").read_text() == "odd/broken.png\n"
    found, model = rows(table), covey.load(run, "cpu")
    images = model.read(photographs)
    assert [row["file"] for row in found] == list(images.names) and len(found) == MANY
    assert [int(row["cluster"]) for row in found] == model.predict(images).tolist()
    names = model.classes_or_names
    z, centroids = model.embed(images), model.centroids
    for row, point in zip(found, z, strict=True):
        near = np.sort(centroids @ point)[::-1]
        assert float(row["distance"]) == pytest.approx(1 - near[0], abs=1e-4)
        sure = (near[0] - near[1]) / (1 - near[1])
        assert float(row["confidence"]) == pytest.approx(sure, abs=1e-3)
        assert int(row["runner_up"]) == np.argsort(-(centroids @ point))[1]
        assert row["name"] == names[int(row["cluster"])]
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["images"], told["unreadable"]) == (MANY, 1) and sum(told["sizes"].values()) == MANY


def test_every_file_is_accounted_for_wherever_it_lies(model, photographs, tmp_path, capsys) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photographs, folder)
    (folder / "odd" / "empty.png").touch()
    (folder / "odd" / "gone.png").symlink_to("nowhere.png")
    (folder / "odd" / "out.png").symlink_to(photographs / "odd" / "001.png")
    (folder / "film.mov").touch()
    shutil.copy(folder / "odd" / "001.png", folder / "beside.png")  # no classes are asked for
    table = tmp_path / "t.csv"
    code, _, err = command(capsys, "assign", str(model), str(folder), "-o", str(table))
    assert code == 0
    assert ("files: 61 used, 3 unreadable, 1 link that is not followed, 1 of another kind") in err
    assert "odd/empty.png (it is empty)" in err and "1 .mov" in err
    told = (tmp_path / "t.unreadable.txt").read_text().split()
    assert told == ["odd/broken.png", "odd/empty.png", "odd/gone.png"]
    assert "beside.png" in [row["file"] for row in rows(table)]


def test_pages_of_a_stack_are_chosen_and_said(model, tmp_path, capsys) -> None:
    folder, table = tmp_path / "scans", tmp_path / "t.csv"
    folder.mkdir()
    pages = [Image.fromarray(image[0]) for image in load("digits").images[:3]]
    pages[0].save(folder / "a.tif", save_all=True, append_images=pages[1:])
    pages[0].save(folder / "b.png")

    def files(*given: str) -> list[str]:
        code, _, err = command(capsys, "assign", str(model), str(folder), "-o", str(table), *given)
        assert code == 0, err
        said.append(err)
        return [row["file"] for row in rows(table)]

    said: list[str] = []
    assert files() == ["a.tif", "b.png"]
    assert "1 with several pages (3 in all): the first is used (--pages all" in said[0]
    every = ["a.tif#1", "a.tif#2", "a.tif#3", "b.png"]
    assert files("--pages", "all") == every and "all are used" in said[1]
    clusters = [row["cluster"] for row in rows(table)]
    expected = covey.load(model, "cpu").predict([*pages, pages[0]]).tolist()
    assert list(map(int, clusters)) == expected
    assert files("--pages", "7") == ["b.png"] and "it has no page 7: it has 3" in said[2]
    page = tmp_path / "p.html"
    command(capsys, "gallery", str(model), str(folder), "-o", str(page), "--pages", "all")
    assert "a.tif#3" in page.read_text()


def test_what_was_ended_goes_on_where_it_was(opened, photographs, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pictures, "MOST", 16)
    found = pictures.pictures(str(photographs), opened.facts.preprocessing)
    whole = assigning.assign_folder(opened, found, tmp_path / "whole.csv", QUIET)
    networks = type(opened.networks)
    embed, calls = networks.embed, []

    def counted(self, data, space):
        calls.append(len(data.images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed(self, data, space)

    monkeypatch.setattr(networks, "embed", counted)
    output = tmp_path / "table.csv"
    with pytest.raises(KeyboardInterrupt):
        assigning.assign_folder(opened, found, output, QUIET)
    assert not output.exists()
    part = tmp_path / ".table.csv.part"
    with part.open("a") as file:
        file.write("odd/cut")  # as a kill in the middle of a line leaves it
    calls[:] = [0] * 10
    resumed = assigning.assign_folder(opened, found, output, QUIET)
    assert resumed.resumed == 32 and sum(calls[10:]) == MANY - 32
    assert output.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert resumed.lines == whole.lines and not part.exists()


def test_a_file_that_is_something_else_is_not_replaced(opened, photographs, tmp_path) -> None:
    found = pictures.pictures(str(photographs), opened.facts.preprocessing)
    mine = tmp_path / "mine.csv"
    mine.write_text("my,own,table\n")
    with pytest.raises(UserError, match="is there and is something else"):
        assigning.assign_folder(opened, found, mine, QUIET)
    assert mine.read_text() == "my,own,table\n"
    with pytest.raises(UserError, match=r"a table is a \.csv or a \.parquet file"):
        assigning.assign_folder(opened, found, tmp_path / "table.xlsx", QUIET)


def test_parquet_has_the_same_table_with_types(opened, photographs, tmp_path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    found = pictures.pictures(str(photographs), opened.facts.preprocessing)
    for name in ("table.csv", "table.parquet"):
        assigning.assign_folder(opened, found, tmp_path / name, QUIET)
    table = parquet.read_table(tmp_path / "table.parquet")
    assert [str(each) for each in table.schema.types] == [
        "string", "int32", "string", "float", "float", "int32",
    ]  # fmt: skip
    for one, other in zip(table.to_pylist(), rows(tmp_path / "table.csv"), strict=True):
        assert (one["file"], str(one["cluster"])) == (other["file"], other["cluster"])
        assert one["confidence"] == pytest.approx(float(other["confidence"]))


def test_a_name_is_kept_in_the_file_and_used(model, photographs, tmp_path, capsys) -> None:
    identity = read_learned(model).identity
    names = tmp_path / "names.json"
    said = {"model": identity, "names": {"0": "dents", "3": "scratches"}, "same": [[0, 1]]}
    names.write_text(json.dumps(said | {"split": [2]}))
    code, out, _ = command(capsys, "name", str(model), str(names), "4=holes, and = signs")
    assert code == 0 and "scratches" in out and "(several things)" in out and "kept in" in out
    facts = read_learned(model).facts
    assert facts.shown(1) == facts.shown(0) == "dents" and facts.shown(4) == "holes, and = signs"
    assert facts.split == (2,) and read_learned(model).identity == identity
    opened = open_model(model, "cpu")
    found = pictures.pictures(str(photographs), opened.facts.preprocessing)
    assigning.assign_folder(opened, found, tmp_path / "t.csv", QUIET)
    for row in rows(tmp_path / "t.csv"):
        assert row["name"] == facts.shown(int(row["cluster"]))
    assert json.loads(naming.as_json(read_learned(model)))["split"] == [2]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('{"model": "0123"}', "those of another model"),
        ('{"names": {"10": "x"}}', "there is no cluster 10: the model has 10"),
        ('{"names": {"-1": "x"}}', "greater than or equal to 0"),
        ('{"names": {"1": "a\\nb"}}', "not one printable line"),
        ('{"names": {"1": 3}}', "valid string"),
        ('{"split": [77]}', "a cluster beyond the 10"),
        ('{"other": 1}', "extra inputs are not permitted"),
        ("[]", "names: "),
        ("no json", "names: "),
    ],
)
def test_names_that_do_not_fit_are_one_line(model, tmp_path, given, message) -> None:
    before = model.read_bytes()
    path = tmp_path / "names.json"
    path.write_text(given)
    with pytest.raises(UserError, match=message) as told:
        naming.say(model, naming.parsed([str(path)], model))
    assert "\n" not in str(told.value) and model.read_bytes() == before
    with pytest.raises(UserError, match="neither a file of names nor"):
        naming.parsed(["nothing.json"], model)


def test_neighbours_are_the_nearest_from_a_folder_and_from_its_embeddings(
    run, photographs, tmp_path, capsys
) -> None:
    store = tmp_path / "all.npz"
    code, out, _ = command(capsys, "embed", str(run), str(photographs), "-o", str(store))
    assert code == 0 and f"{MANY} embeddings" in out
    with np.load(store, allow_pickle=False) as found:
        model = covey.load(run, "cpu")
        assert np.array_equal(found["embeddings"], model.embed(photographs))
    image = str(photographs / "odd" / "007.png")
    lists = []
    for among in (str(photographs), str(store)):
        told = tmp_path / "near.json"
        code, out, _ = command(
            capsys, "neighbours", str(run), image, among, "--count", "5", "--json", str(told)
        )
        assert code == 0
        lists.append(json.loads(told.read_text()))
    first, second = ([near["file"] for near in each] for each in lists)
    assert first == second and first[0] == "odd/007.png" and len(first) == 5
    assert lists[0][0]["similarity"] == pytest.approx(1, abs=1e-5)
    code, _, err = command(capsys, "neighbours", str(run), str(store), str(photographs))
    assert code == 2 and "is no picture that can be read" in err


def test_embeddings_of_another_model_are_refused(opened, photographs, tmp_path) -> None:
    found = pictures.pictures(str(photographs), opened.facts.preprocessing)
    store = tmp_path / "all.npz"
    embedding.embed_folder(opened, found, store, QUIET)
    other = type(opened)(opened.path, opened.facts, opened.networks, "another")
    with pytest.raises(UserError, match="is of another model"):
        embedding.read_embeddings(store, other)


def test_one_cluster_alone_is_sure_and_half_way_is_not() -> None:
    points = torch.eye(3)[:2]
    only = assign(points, torch.eye(3)[:1])
    assert only.cluster.tolist() == only.runner_up.tolist() == [0, 0]
    assert only.confidence.tolist() == [1, 1]
    between = torch.nn.functional.normalize(torch.tensor([[1.0, 1.0, 0.0]]), dim=1)
    found = assign(between, torch.eye(3))
    assert found.confidence.tolist() == pytest.approx([0], abs=1e-5)
    assert found.distance.tolist() == pytest.approx([1 - 0.5**0.5], abs=1e-5)


def test_pictures_of_another_shape_and_none_at_all_are_one_line(opened, tmp_path) -> None:
    with pytest.raises(UserError, match="there is no image in"):
        pictures.pictures(str(tmp_path), opened.facts.preprocessing)
    np.savez(tmp_path / "other.npz", images=np.zeros((3, 9, 9), np.uint8))
    with pytest.raises(UserError, match=r"takes 1×8×8 images, those of .* are 1×9×9"):
        pictures.pictures(str(tmp_path / "other.npz"), opened.facts.preprocessing)
    (tmp_path / "a.png").write_bytes(b"none")
    only = pictures.pictures(str(tmp_path), opened.facts.preprocessing)
    with pytest.raises(UserError, match=r"none of the 1 images can be read: a\.png"):
        list(embedding.embedded(opened, only, QUIET))
    assert isinstance(next(iter(only.chunks())).data, ImageData)


def test_a_picture_beyond_the_bound_is_not_decoded(model, photographs, tmp_path, capsys) -> None:
    folder = tmp_path / "scans"
    shutil.copytree(photographs / "even", folder)
    Image.new("1", (20_000, 20_000)).save(folder / "scan.tif", compression="group4")
    table = tmp_path / "table.csv"
    code, _, err = command(capsys, "assign", str(model), str(folder), "-o", str(table))
    assert code == 0 and "too large: scan.tif (20,000 × 20,000 pixels" in err
    assert "scan.tif" not in table.read_text()
