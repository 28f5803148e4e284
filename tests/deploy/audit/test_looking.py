"""What a model gives away of an image: by its landmarks, and by how it sees views of it."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from client.embedding import embed_outputs, view_outputs
from client.statistics.knowing import VIEWS, likeness, nearest_landmark
from common.augmentations import build_augmentation
from common.data import ImageData, load
from common.models.encoders import Encoder
from common.solvers.landmark_spectral import LandmarkSpectral, Parameters
from common.utils import seeds
from deploy.audit.attack import attack
from deploy.engines.simulate import simulate
from deploy.evaluation.trained import load_trained
from tests.builders.runs import plan

WIDTH, MEMBERS, OTHERS = 12, 60, 240


def solver(points: torch.Tensor) -> LandmarkSpectral:
    """With landmarks at these points (m, 12), of unit length, in the space of features."""
    encoder = Encoder(torch.nn.Identity(), WIDTH)
    made = LandmarkSpectral(encoder, Parameters(width=WIDTH, landmarks=len(points) + 3), 2).eval()
    with torch.no_grad():
        made.projection.linear.weight.copy_(torch.eye(WIDTH))
        made.projection.linear.bias.zero_()
    made.statistics()["landmarks"].solve({"points": points})
    return made


def images(seed: int, n: int) -> torch.Tensor:
    drawn = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, WIDTH, generator=drawn), dim=1)


def means(points: torch.Tensor, of: int) -> torch.Tensor:
    return F.normalize(points.unflatten(0, (-1, of)).mean(1), dim=1)


def test_the_nearest_landmark_by_hand() -> None:
    landmarks, h = images(0, 5), images(1, 7)
    wanted = (h @ landmarks.T).max(dim=1).values
    assert torch.allclose(nearest_landmark(solver(landmarks), 3 * h), wanted, atol=1e-6)


def found(original: torch.Tensor, forgotten: torch.Tensor):
    """The attack, with landmarks of other images at three references."""
    gone, unseen = images(2, MEMBERS), images(3, OTHERS)
    solvers = [solver(each) for each in (original, forgotten, *(images(s, 60) for s in (4, 5, 6)))]
    scores = [(nearest_landmark(s, gone), nearest_landmark(s, unseen)) for s in solvers]
    return attack("landmarks", "", scores[0], scores[1], scores[2:])


def test_a_landmark_of_one_image_gives_it_away() -> None:
    by = found(images(2, MEMBERS), images(7, 60))
    assert by.original.auc > 0.95
    assert by.state == "passed"


def test_a_landmark_of_more_images_gives_less_away() -> None:
    aucs = [found(means(images(2, MEMBERS), of), images(7, 60)).original.auc for of in (1, 3, 12)]
    assert aucs[0] > aucs[1] > aucs[2]


def test_landmarks_that_stay_are_found_and_of_others_are_not() -> None:
    assert found(images(2, MEMBERS), images(2, MEMBERS)).state == "failed"
    assert found(images(8, 60), images(7, 60)).state == "no signal"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    simulate(plan("fedsimclr", rounds=1), folder)
    return folder


def some() -> ImageData:
    return load("digits", images=30, seed=5)


def test_likeness_is_the_mean_over_all_pairs_of_views(run: Path) -> None:
    trained, data = load_trained(run, "cpu"), some()
    generator = seeds.generator("cpu", 0, "audit", "x")
    augmentation = build_augmentation("auto", data.kind, data.side)
    views = []
    with torch.no_grad():
        for _ in range(VIEWS // 2):
            (h,) = view_outputs(
                trained.model,
                augmentation,
                torch.from_numpy(data.images),
                torch.arange(30),
                generator,
            )
            views += [embed_outputs(trained.model, [half], "encoder").points for half in h.chunk(2)]
    pairs = [(a * b).sum(1) for i, a in enumerate(views) for b in views[:i]]
    assert len(pairs) == VIEWS * (VIEWS - 1) // 2
    wanted = torch.stack(pairs).mean(0)
    assert torch.allclose(alike(trained, data), wanted, atol=1e-5)


def alike(trained, data: ImageData) -> torch.Tensor:
    generator = seeds.generator("cpu", 0, "audit", "x")
    augmentation = build_augmentation("auto", data.kind, data.side)
    images = torch.from_numpy(data.images)
    return likeness(trained.model, augmentation, images, "encoder", generator)


def test_all_models_see_the_same_views(run: Path) -> None:
    trained, data = load_trained(run, "cpu"), some()
    one, other = (alike(trained, data) for _ in range(2))
    assert torch.equal(one, other)
