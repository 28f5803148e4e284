"""`forget-report.html` and `forget-report.json`: an audit, for people and for programs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from markupsafe import Markup

from common.membership import Success
from common.pages.template import fill
from common.utils.files import write_atomic
from deploy.audit.attack import Attack
from deploy.audit.figures import ABOUT, NAMES, Figure
from deploy.audit.found import Audit
from deploy.audit.page import EXTRA, PAGE
from server.report import formats
from server.report.accounts import is_simulated
from server.report.style import STYLE
from server.report.svg import Scale, drawing, element, join, ticks

NAME = "forget-report"
FORMAT = 1
TITLES = {
    "exact": "Forgotten, to the bit",
    "passed": "The attack does not find them any more",
    "no signal": "No signal",
    "failed": "Forgetting failed its own test",
}
COLOURS = {"exact": "finished", "passed": "finished", "no signal": "", "failed": "failed"}
NOTICES = {"exact": " good", "passed": " good", "no signal": "", "failed": " failure"}
BESIDE = {
    False: "images of the same classes that nobody has had",
    True: "images of the same site that stayed (the sites have looked themselves; counts and sums "
    "have left them)",
}
WIDTH, ROW, EDGE = 520, 46, 22  # of the chart, in units of its view box


def write_report(audit: Audit, folder: Path) -> Path:
    """Write both files into `folder`, each whole or not at all; the page's path."""
    text = json.dumps(as_json(audit), indent=2, ensure_ascii=False) + "\n"
    write_atomic(folder / f"{NAME}.json", text.encode(errors="backslashreplace"))
    path = folder / f"{NAME}.html"
    write_atomic(path, fill(PAGE, STYLE + EXTRA, _context(audit)).encode(errors="backslashreplace"))
    return path


def as_json(audit: Audit) -> dict[str, Any]:
    """The audit as plain data."""
    verdict = audit.verdict
    return {
        "format": FORMAT,
        "original": audit.original.run.id,
        "forgotten": audit.forgotten.run.id,
        "recipe": audit.original.run.recipe,
        "images": {k: v for k, v in asdict(audit.counts).items() if k != "sites"},
        "sites": audit.counts.sites,
        "served": audit.served,
        "wanting": list(audit.wanting),
        "seeds": list(audit.seeds),
        "verdict": {"outcome": verdict.outcome, "text": verdict.text, "notes": list(verdict.notes)},
        "published": [{**asdict(each), "same": each.same} for each in audit.published],
        "sums": [{**asdict(each), "same": each.same} for each in audit.sums],
        "attacks": [{**asdict(a), "margin": a.margin, "state": a.state} for a in audit.attacks],
        "figures": [
            {**asdict(f), "mean": f.mean, "spread": f.spread, "gap": f.gap, "worse": f.worse}
            for f in audit.figures
        ],
        "cost": {**asdict(audit.cost), "share": audit.cost.share},
    }


def _context(audit: Audit) -> dict[str, Any]:
    counts, verdict, how = audit.counts, audit.verdict, audit.forgotten.run.forgetting
    sites = ", ".join(f"{site}: {count:,}" for site, count in counts.sites.items())
    beside = ("looked at beside", counts.stayed) if audit.served else ("never seen", counts.unseen)
    return {
        "id": audit.forgotten.run.id,
        "of": audit.original.run.id,
        "recipe": audit.original.run.recipe,
        "outcome": verdict.outcome,
        "kind": COLOURS[verdict.outcome],
        "notice": NOTICES[verdict.outcome],
        "title": TITLES[verdict.outcome],
        "text": verdict.text,
        "notes": verdict.notes,
        "facts": [
            ("forgotten", formats.count(counts.forgotten)),
            ("left", formats.count(counts.left)),
            (beside[0], formats.count(beside[1])),
            ("taken back at", sites),
            *([("method", how.method)] if how is not None else []),
            ("made", formats.moment(audit.forgotten.run.created)),
        ],
        "seeds": ", ".join(map(str, audit.seeds)),
        "margin": formats.score(max((a.margin for a in audit.attacks), default=0.0)),
        "attacks": [_attack(each) for each in audit.attacks],
        "chart": chart(audit.attacks) if audit.attacks else "",
        "own": not counts.test,
        "beside": BESIDE[audit.served],
        "wanting": audit.wanting,
        "figures": [_figure(each) for each in audit.figures],
        "published": audit.published,
        "sums": audit.sums,
        "cost": _cost(audit),
    }


def _attack(found: Attack) -> dict[str, str]:
    return {
        "name": found.name,
        "about": found.about,
        "before": formats.score(found.original.auc),
        "after": formats.score(found.forgotten.auc),
        "without": ", ".join(formats.score(each.auc) for each in found.without),
        "tpr_before": formats.score(found.original.tpr),
        "tpr_after": formats.score(found.forgotten.tpr),
        "tpr_without": ", ".join(formats.score(each.tpr) for each in found.without),
        "state": found.state,
    }


def _figure(figure: Figure) -> dict[str, str]:
    return {
        "name": NAMES[figure.key],
        "about": ABOUT[figure.key],
        "before": formats.score(figure.original),
        "after": formats.score(figure.forgotten),
        "without": f"{formats.score(figure.mean)} ± {formats.score(figure.spread)}",
        "gap": formats.change(figure.gap),
    }


def _cost(audit: Audit) -> list[dict[str, str]]:
    cost = audit.cost
    name = "bytes (simulated)" if is_simulated(audit.forgotten) else "bytes"
    return [
        {
            "name": "time",
            "forgetting": formats.duration(cost.seconds),
            "anew": formats.duration(cost.seconds_anew),
            "share": formats.score(cost.share),
        },
        {
            "name": name,
            "forgetting": formats.size(cost.bytes),
            "anew": formats.size(cost.bytes_anew),
            "share": formats.score(cost.bytes / cost.bytes_anew if cost.bytes_anew else 0.0),
        },
    ]


def chart(attacks: tuple[Attack, ...]) -> Markup:
    """Where each attack's AUCs lie, and the band that counts as guessing."""
    values = [s.auc for a in attacks for s in (a.original, a.forgotten, *a.without)]
    low, high = min(0.4, *values) - 0.02, max(0.6, *values) + 0.02
    x = Scale(low, high, EDGE, WIDTH - EDGE)
    height = ROW * len(attacks) + 24
    parts = []
    for value in ticks(low, high, 6):
        parts.append(element("line", x1=x(value), x2=x(value), y1=0, y2=height - 20, class_="grid"))
        text = f"{value:.2f}"
        parts.append(element("text", text, x=x(value), y=height - 4, class_="tick x"))
    for number, found in enumerate(attacks):
        parts += _row(found, x, number * ROW)
    return drawing(WIDTH, height, "AUC of each attack", join(parts))


def _row(found: Attack, x: Scale, top: float) -> list[Markup]:
    left, right = x(0.5 - found.margin), x(0.5 + found.margin)
    parts = [
        element("rect", x=left, y=top + 20, width=right - left, height=18, rx=3, class_="rest"),
        element("text", found.name, x=EDGE, y=top + 13, class_="name halo"),
    ]
    dots: list[tuple[Success, str, str]] = [
        *((each, "s8", "without the data") for each in found.without),
        (found.original, "s1", "before"),
        (found.forgotten, "s0", "after"),
    ]
    for at, colour, name in dots:
        title = element("title", f"{name}: {at.auc:.3f}")
        kind = f"{colour} end"
        parts.append(element("circle", title, cx=x(at.auc), cy=top + 29, r=5.5, class_=kind))
    return parts
