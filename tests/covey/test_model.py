"""`covey.load`: images in any form give the embeddings and clusters that the sites see."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import covey
from common.data import load
from common.learned.file import LearnedModel, read_learned
from deploy.evaluation.trained import load_trained
from tests.covey.conftest import SMALL, save_images

MANY = 40


@pytest.fixture(scope="module")
def model(labelled: covey.Run) -> covey.Model:
    return covey.load(labelled)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """(N, 8, 8) uint8."""
    return load("digits").images[:MANY, 0]


def forms(digits: np.ndarray, folder: Path) -> dict[str, covey.Pictures]:
    """The same images in every form."""
    (folder / "images").mkdir()
    pictures = [Image.fromarray(image) for image in digits]
    for number, picture in enumerate(pictures):
        picture.save(folder / "images" / f"{number:03}.png")
    np.savez(folder / "images.npz", images=digits)
    return {
        "(N, H, W)": digits,
        "(N, H, W, C)": digits[..., None],
        "(N, C, H, W)": digits[:, None],
        "integers": digits.astype(np.int64),
        "tensor": torch.from_numpy(digits),
        "tensor with channels": torch.from_numpy(digits[:, None]),
        "PIL": pictures,
        "PIL in colour": [picture.convert("RGB") for picture in pictures],
        "folder": folder / "images",
        "folder as text": str(folder / "images"),
        "npz": folder / "images.npz",
    }


def test_every_form_of_the_same_images_gives_the_same_bits(model, digits, tmp_path: Path) -> None:
    given = forms(digits, tmp_path)
    expected = model.embed(digits)
    for name, images in given.items():
        assert model.embed(images).tobytes() == expected.tobytes(), name
        assert model.embed(model.read(images)).tobytes() == expected.tobytes(), name
    assert model.embed(given["PIL"][3]).shape == (1, expected.shape[1])
    assert np.allclose(model.embed("digits")[:MANY], expected, atol=1e-5)


def test_embeddings_are_those_of_the_sites_of_unit_length(model, labelled) -> None:
    z = model.embed("digits")
    assert z.dtype == np.float32
    assert np.allclose(np.linalg.norm(z, axis=1), 1, atol=1e-5)
    assert np.array_equal(z, load_trained(labelled.folder).embed(load("digits")).numpy())


def test_the_cluster_is_the_nearest_centroid_and_its_name_the_class_that_it_mostly_has(
    model, labelled
) -> None:
    z, centroids = model.embed("digits"), model.centroids
    assert centroids.shape == (10, z.shape[1])
    clusters = model.predict("digits")
    assert clusters.dtype == np.int64
    assert np.array_equal(clusters, (z @ centroids.T).argmax(axis=1))
    table = labelled.stages[-1].table
    assert table.sum() == 240  # all images of the sites
    named = [labelled.classes[np.argmax(row)] for row in table]
    assert list(model.classes_or_names) == named


def test_without_labels_clusters_have_numbers_and_clusters_may_be_in_the_projection(
    unlabelled, tmp_path: Path
) -> None:
    model = unlabelled.model()
    assert model.classes_or_names == ("cluster 0", "cluster 1", "cluster 2", "cluster 3")
    assert (model.channels, model.side, model.recipe) == (3, 8, "fedkmeans-pixels")
    options = {**SMALL, "images": 120, "encoder": "small-convnet", "embedding": "projector"}
    projected = covey.simulate("fedsimclr", folder=tmp_path / "run", **options).model()
    assert projected.space == "projector"
    assert projected.embed("digits").shape[1] == projected.centroids.shape[1] == 128


def test_photographs_are_cropped_scaled_and_given_the_runs_channels(
    unlabelled, labelled, tmp_path: Path
) -> None:
    colour = save_images(tmp_path / "colour", 5, side=20)
    grey = save_images(tmp_path / "grey", 5, side=20, mode="L")
    (colour / "damaged.png").write_bytes(b"no image")
    for run, channels in ((unlabelled, 3), (labelled, 1)):
        for folder in (colour, grey):
            images = run.model().read(folder)
            assert images.pixels.shape == (5, channels, 8, 8)
            assert images.names == tuple(f"{number:03}.png" for number in range(5))
            assert images.unreadable == (("damaged.png",) if folder == colour else ())
            assert len(run.model().predict(folder)) == len(images) == 5
    wide = Image.new("RGB", (16, 8))
    wide.paste((255, 255, 255), (4, 0, 12, 8))  # the middle square alone is white
    assert unlabelled.model().read(wide).pixels.min() == 255


def test_arrays_of_another_side_are_scaled_when_that_is_asked_for(model, digits) -> None:
    large = digits.repeat(2, axis=1).repeat(2, axis=2)
    assert model.read(large, resize=True).pixels.shape == (MANY, 1, 8, 8)
    assert model.embed(large, resize=True).shape == model.embed(digits).shape


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 16, 16), np.uint8), "takes 1×8×8 images, these are 1×16×16: resize=True"),
        (np.zeros((2, 8, 8, 3), np.uint8), "takes 1×8×8 images, these are 3×8×8"),
        (np.zeros((2, 8, 8), np.float32), "images must be integers from 0 to 255, not float32"),
        (np.full((2, 8, 8), 256), "images must be integers from 0 to 255"),
        (np.zeros((8, 8), np.uint8), r"images has shape \(8, 8\); expected square images"),
        (np.zeros((2, 8, 9), np.uint8), "expected square images"),
        (np.zeros((0, 8, 8), np.uint8), "images has no images"),
        (torch.zeros(2, 8, 8, dtype=torch.bfloat16), "an array or tensor of uint8, not Tensor"),
        ([], "the list is empty"),
        ([3], "a list takes PIL images, not int"),
        (None, "expected a path, PIL images, or an array or tensor of uint8, not NoneType"),
        ("./nowhere", "there is no file or folder ./nowhere"),
        ("digit", "unknown data set 'digit': did you mean 'digits'?"),
    ],
)
def test_images_that_do_not_fit_are_one_line(model, images, message: str) -> None:
    for use in (model.embed, model.predict):
        with pytest.raises(covey.Error, match=message.replace("?", r"\?")) as told:
            use(images)
        assert "\n" not in str(told.value)


def test_with_statistics_of_the_sites_own_images_have_to_be_given_first(tmp_path: Path) -> None:
    options = {**SMALL, "images": 120, "encoder": "small-convnet", "batchnorm": "local"}
    model = covey.simulate("fedsimclr", folder=tmp_path / "run", **options).model()
    with pytest.raises(covey.Error, match=r"adapt\(images\) takes them from yours"):
        model.embed("digits")
    model.adapt("digits")
    trained = load_trained(tmp_path / "run")
    trained.estimate_statistics(load("digits"))
    assert np.array_equal(model.embed("digits"), trained.embed(load("digits")).numpy())
    assert model.centroids is None
    with pytest.raises(covey.Error, match="each site has centroids of its own"):
        model.predict("digits")


def test_the_file_alone_is_the_same_model(model, labelled, digits, tmp_path: Path) -> None:
    path = tmp_path / "mine.covey"
    path.write_bytes((labelled.folder / "model.covey").read_bytes())
    alone = covey.load(path)
    assert alone.run is None and (alone.recipe, alone.figures) == (model.recipe, model.figures)
    assert alone.classes_or_names == model.classes_or_names
    assert alone.embed(digits).tobytes() == model.embed(digits).tobytes()
    assert alone.sizes == labelled.stages[-1].sizes and sum(alone.sizes) == 240
    before = tmp_path / "before"  # a run of a Covey that wrote no such file
    shutil.copytree(labelled.folder, before)
    (before / "model.covey").unlink()
    earlier = covey.load(before)
    assert earlier.classes_or_names == model.classes_or_names
    assert earlier.embed(digits).tobytes() == model.embed(digits).tobytes()


def test_a_file_whose_tensors_are_not_its_plans_is_refused(labelled, tmp_path: Path) -> None:
    whole = read_learned(labelled.folder / "model.covey")
    for name, tensors in {
        "without": {k: v for k, v in whole.tensors.items() if not k.startswith("encoder")},
        "wide": {**whole.tensors, "centroids/points": np.ones((10, 3), np.float32)},
    }.items():
        path = LearnedModel(whole.facts, tensors).write(tmp_path / f"{name}.covey")
        with pytest.raises(covey.Error, match=f"{name}.covey does not fit"):
            covey.load(path)


def test_what_is_no_finished_run_is_not_loaded(labelled, tmp_path: Path) -> None:
    with pytest.raises(covey.Error, match="holds no run"):
        covey.load(tmp_path)
    with pytest.raises(covey.Error, match="device 'abacus'"):
        covey.load(labelled, "abacus")
    half = tmp_path / "half"
    half.mkdir()
    text = (labelled.folder / "run.json").read_text()
    (half / "run.json").write_text(text.replace('"finished"', '"running"'))
    with pytest.raises(covey.Error, match="has not finished"):
        covey.load(half)
