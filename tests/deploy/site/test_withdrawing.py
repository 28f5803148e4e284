"""What a site takes back it may still let be used, for what it says and no more."""

from pathlib import Path

import numpy as np
import pytest

from common.utils.errors import UserError
from deploy.forgetting.choosing import Wish
from deploy.site.folder import SiteFolder
from deploy.site.withdrawing import Withdrawing, to_forget

WISH = Wish(names=("0", "1"))
USES = {"unlearn": "used once more, here, to take the network away", "audit": "looked at, here"}


@pytest.fixture
def spec(tmp_path: Path) -> str:
    np.savez(tmp_path / "data.npz", images=np.arange(8 * 64, dtype=np.uint8).reshape(8, 8, 8))
    return str(tmp_path / "data.npz")


def taken_back(spec: str, **allowed: bool) -> Withdrawing:
    found = to_forget(SiteFolder(Path(spec).parent), WISH, data=spec, **allowed)
    found.exclusions.add(found.images, found.why, found.unlearn, found.audit)
    return found


def allowed(of: Withdrawing) -> set[tuple[bool, bool]]:
    return {(how.unlearn, how.audit) for how in of.exclusions.read().values()}


def test_nothing_is_allowed_that_is_not_said(spec: str) -> None:
    found = taken_back(spec)
    assert allowed(found) == {(False, False)}
    assert not any(said in line for line in found.lines() for said in USES.values())


@pytest.mark.parametrize("use", USES)
def test_a_use_is_said_before_and_allowed_at_once_or_later(spec: str, use: str) -> None:
    found = taken_back(spec)
    found = taken_back(spec, **{use: True})
    assert any(USES[use] in line for line in found.lines())
    assert allowed(found) == {(use == "unlearn", use == "audit")}
    with pytest.raises(UserError, match="nothing to do"):
        taken_back(spec, **{use: True})


def test_one_use_does_not_take_the_other_away(spec: str) -> None:
    taken_back(spec, unlearn=True)
    assert allowed(taken_back(spec, audit=True)) == {(True, True)}
    with pytest.raises(UserError, match="nothing to do"):
        taken_back(spec)
