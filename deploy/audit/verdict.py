"""What the findings come to, in plain words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from deploy.audit.attack import Attack
from deploy.audit.figures import NAMES, Figure
from deploy.audit.same import Same

Outcome = Literal["exact", "passed", "no signal", "failed"]


@dataclass(frozen=True)
class Verdict:
    """`outcome`: "exact" where all bits are those of a run without the data, whatever else was
    found; `text`: what that means; `notes`: what else there is to know, a sentence each."""

    outcome: Outcome
    text: str
    notes: tuple[str, ...] = ()


def conclude(
    published: Sequence[Same],
    sums: Sequence[Same],
    attacks: Sequence[Attack],
    figures: Sequence[Figure],
    others: str = "images that nobody has seen",
    more: Sequence[str] = (),
) -> Verdict:
    """The verdict. Where bits differ it is that of the attacks which found something before: one
    that fails decides. `others`: what the forgotten images were compared with; `more`: to note."""
    outcome, text = _outcome(published, attacks, others)
    notes = [_told(each) for each in attacks]
    if outcome != "exact":  # whose seed has given it what it has
        notes += [
            f"{NAMES[each.key]} is {-each.gap:.3f} below runs without the data ({each.mean:.3f})."
            for each in figures
            if each.worse
        ]
    wrong = [each.name for each in sums if not each.same]
    if wrong:
        notes.append(f"Sums less the forgotten are not the sums of the others: {', '.join(wrong)}.")
    return Verdict(outcome, text, (*notes, *more))


def _outcome(
    published: Sequence[Same], attacks: Sequence[Attack], others: str
) -> tuple[Outcome, str]:
    if published and all(each.same for each in published):
        return "exact", (
            "What was learned is, bit for bit, that of a run that never had the forgotten images."
        )
    states = {each.state for each in attacks}
    if "failed" in states:
        return "failed", (
            "Forgetting failed its own test: from the run that was made to forget, the forgotten "
            f"images can still be told from {others}."
        )
    if "overshot" in states:
        return "failed", (
            "Forgetting failed its own test: the forgotten images are now known less than "
            f"{others}, and that tells which they were."
        )
    if "passed" in states:
        return "passed", (
            "The attack found the forgotten images in the original run, and does no better on the "
            "run that was made to forget than on runs that never had them. The bits differ: this "
            "is evidence, no proof."
        )
    if not attacks:
        return "no signal", (
            "Nobody has attacked: whether the forgotten images can still be found is not known, "
            "and nothing is claimed."
        )
    return "no signal", (
        "These attacks find nobody even in the original run. They cannot tell whether the run has "
        "forgotten, and nothing is claimed."
    )


def _told(attack: Attack) -> str:
    before, after = attack.original.auc, attack.forgotten.auc
    without = ", ".join(f"{each.auc:.3f}" for each in attack.without)
    found = f"AUC {before:.3f} before, {after:.3f} after, {without} without the data"
    said = {
        "no signal": f"finds nobody in the original run ({found}): no signal",
        "passed": f"found members before and does not after ({found})",
        "failed": f"still finds them ({found})",
        "overshot": f"finds them by their absence ({found})",
    }
    return f"The attack by {attack.name} {said[attack.state]}."
