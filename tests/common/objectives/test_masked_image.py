"""Masked images: what is hidden, what is compared, and that nobody else's images matter."""

import numpy as np
import pytest
import torch

from common.models.normalisation import without_batch_norm
from common.objectives.masked_image import MaskedImage, covered
from common.objectives.pooled import part_of
from common.utils.errors import UserError
from tests.builders.objectives import objective, total, views


def masked(**parameters: float) -> MaskedImage:
    found = objective("masked-image", parameters={"patches": 4, "detail": 8, **parameters})
    assert isinstance(found, MaskedImage)
    return found.eval()


def test_the_asked_share_is_hidden_in_every_view_and_elsewhere_in_the_other() -> None:
    part, batch = masked(share=0.5), views(16)
    one, other = part.masks(batch.a), part.masks(batch.b)
    assert one.shape == (16, 1, 4, 4)
    assert set(one.sum(dim=(1, 2, 3)).tolist()) == {8.0}
    assert not torch.equal(one, other)
    hidden = covered(batch.a, one)
    rows = one.repeat_interleave(2, 2).repeat_interleave(2, 3).bool()
    assert (hidden[rows] == 0.5).all()
    assert torch.equal(hidden[~rows], batch.a[~rows])


def test_each_patch_is_hidden_as_often_as_any_other() -> None:
    often = masked(share=0.5).masks(views(2000).a).mean(dim=0)
    assert (often - 0.5).abs().max() < 4 * (0.25 / 2000) ** 0.5  # four standard errors


def test_the_loss_is_the_mean_difference_over_hidden_pixels_alone() -> None:
    part, batch = masked(share=0.5), views(3)
    seen = part.represent(batch)
    expected = []
    for view, foretold in ((batch.a, seen.z_a), (batch.b, seen.z_b)):
        for image, mask, guess in zip(view, part.masks(view), foretold, strict=True):
            of_pixels = np.kron(mask[0].numpy(), np.ones((2, 2)))  # 4 patches of 2 pixels
            maps = guess.detach().numpy().reshape(3, 8, 8)
            apart = [abs(maps[c] - image[0].numpy())[of_pixels == 1].mean() for c in range(3)]
            expected.append(np.mean(apart))
    assert total(part.terms(seen)).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_the_encoder_does_not_see_what_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    part, batch = masked(), views(4)
    mask = part.masks(batch.a)
    monkeypatch.setattr(part, "masks", lambda views: mask)
    noise = torch.rand(batch.a.shape, generator=torch.Generator().manual_seed(5))
    rows = mask.repeat_interleave(2, 2).repeat_interleave(2, 3)
    other = batch._replace(a=torch.where(rows.bool(), noise, batch.a))
    assert torch.equal(part.represent(batch).z_a, part.represent(other).z_a)
    assert not torch.equal(part.terms(part.represent(batch))["hidden"],
                           part.terms(part.represent(other))["hidden"])  # fmt: skip


def test_an_images_mask_and_loss_are_the_same_in_any_batch() -> None:
    part, batch = masked(), views(6)
    alone = batch._replace(a=batch.a[4:5], b=batch.b[4:5], rows=batch.rows[4:5])
    assert torch.equal(part.masks(batch.a)[4:5], part.masks(alone.a))


def test_in_a_synchronous_step_a_sites_part_is_its_own_loss() -> None:
    """Nothing is shared beforehand but for BatchNorms: no module that a round begins with."""
    part = masked()
    without_batch_norm(part)
    part.synchronise()
    assert part.prepares == "" and set(part.shared()) == {"encoder", "projector"}
    terms, loss = part_of(part, part.represent(views(5)))
    assert loss.item() == total(terms).item()


@pytest.mark.parametrize(
    ("given", "said"),
    [({"share": 1.0}, "not in (0, 1)"), ({"patches": 0}, "patches = 0"), ({"detail": 0}, "detail")],
)
def test_a_mask_that_cannot_be_is_one_clear_line(given: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match="masked-image") as refused:
        masked(**given)
    assert said in str(refused.value)
