"""`covey audit-forgetting`: two runs, and runs without the data, looked at from all sides."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from common.config.options import Plan
from common.membership import Scores
from common.record.reader import read_run
from common.utils.errors import UserError
from deploy.audit.attack import Attack, attack
from deploy.audit.figures import compare, reported
from deploy.audit.found import Audit, Cost, Counts
from deploy.audit.looking import Kept, Looking
from deploy.audit.material import material
from deploy.audit.references import PLACE, Say, check_references, without
from deploy.audit.same import published, sums
from deploy.audit.verdict import conclude


def check_audited(plan: Plan) -> None:
    """`UserError` for a plan whose runs no audit can look at."""
    if plan.batchnorm == "local":
        raise UserError(
            "an audit cannot look at the run: with batchnorm local each site has a model of its "
            "own, which is not here"
        )


def audit(
    original: Path,
    forgotten: Path,
    references: int,
    say: Say = lambda _: None,
    place: Path | None = None,
) -> Audit:
    """Look at both; runs without the data, one under the same seed and as many `references` under
    the next ones, are made in `place` (if not given, in the forgotten run's folder) if they are not
    there. `UserError` where the two are no such pair, or their images are not here."""
    check_references(references)
    about = material(original, forgotten)
    place = place or forgotten / PLACE
    check_audited(about.forgotten.settings())
    seed = about.forgotten.settings().seed
    seeds = tuple(seed + number for number in range(1, references + 1))
    twin, *others = (without(about, place / f"seed-{s}", s, say) for s in (seed, *seeds))
    say("looking at the runs")
    kept = Kept()
    first, second, same = (Looking.at(each, about, kept) for each in (original, forgotten, twin))
    looks = [Looking.at(each, about, kept) for each in others]
    found = tuple(attacks(first, second, looks)) if len(about.unseen.images) else ()
    bits, added = published(first, second, same), sums(second)
    records = [read_run(each) for each in (original, forgotten, twin)]
    if about.test is None:
        figures = tuple(reported(records[0], records[1], [read_run(each) for each in others]))
    else:
        figures = tuple(compare(first, second, looks))
    return Audit(
        original=records[0],
        forgotten=records[1],
        counts=Counts.of(about),
        seeds=seeds,
        published=tuple(bits),
        sums=tuple(added),
        attacks=found,
        figures=figures,
        cost=Cost.of(records[1], records[2]),
        verdict=conclude(bits, added, found, figures),
        wanting=about.wanting,
    )


def attacks(original: Looking, forgotten: Looking, references: Sequence[Looking]) -> list[Attack]:
    """Those that the recipe gives reason for: by the points that stand for groups of images, and
    where an encoder was trained, by how alike it finds views of an image."""
    looks = (original, forgotten, *references)

    def by(name: str, about: str, scores: Callable[[Looking], Scores]) -> Attack:
        first, second, *others = map(scores, looks)
        return attack(name, about, first, second, others)

    if original.has_landmarks:
        about = "An image lies near a landmark, which is a mean of some images, if it is in it."
        found = [by("landmarks", about, Looking.by_landmarks)]
    else:
        about = "An image lies near a centroid if it has drawn it."
        found = [by("centroids", about, Looking.by_centroids)]
    if original.trained.plan.rounds:
        spaces = ["encoder", *(["projector"] if original.projecting is not None else [])]
        for space in spaces:
            about = (
                f"Views of an image are alike in the output of the {space} if it has learned it."
            )
            found.append(by(f"views in the {space}", about, partial(Looking.by_views, space=space)))
    return found
