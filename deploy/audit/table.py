"""An audit in the terminal."""

from rich.console import Console

from deploy.audit.figures import NAMES
from deploy.audit.found import Audit
from deploy.terminal.table import show_table
from server.report import formats


def show(audit: Audit, console: Console) -> None:
    """Attacks and figures as tables, then the verdict."""
    heads = ("", "before", "after", "without the data")
    attacks = [
        (
            f"{each.name}: {what}",
            *(formats.score(getattr(s, what)) for s in (each.original, each.forgotten)),
            ", ".join(formats.score(getattr(s, what)) for s in each.without),
        )
        for each in audit.attacks
        for what in ("auc", "tpr")
    ]
    if attacks:
        show_table(console, heads, attacks, title="Who can be found", numbers=heads[1:])
    figures = [
        (
            NAMES[each.key],
            formats.score(each.original),
            formats.score(each.forgotten),
            f"{formats.score(each.mean)} ± {formats.score(each.spread)}",
        )
        for each in audit.figures
    ]
    show_table(console, heads, figures, title="What it is worth", numbers=heads[1:])
    cost = audit.cost
    console.print(
        f"\n{formats.duration(cost.seconds)}, {formats.score(cost.share)} of the "
        f"{formats.duration(cost.seconds_anew)} of a run anew",
        highlight=False,
    )
    wanting = [f"not to be had: {each}" for each in audit.wanting]
    verdict = audit.verdict
    for line in (f"{verdict.outcome}: {verdict.text}", *verdict.notes, *wanting):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
