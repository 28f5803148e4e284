"""What a run cost and who took part: bytes, seconds, sites round by round, warnings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from common.record.metrics import COSTS
from common.record.reader import RunRecord
from common.record.schema import DeliveredEvent, RoundEvent, SiteFacts, StageEvent
from server.report import formats
from server.report.curves import colour_of, round_strip, stacked_bars
from server.report.figures import Figure, bands
from server.report.formats import is_number
from server.report.headline import planned_rounds

TIMES = " \N{MULTIPLICATION SIGN} "
PHASES = 7  # parts of a bar that can be told apart; smaller phases are "other"


@dataclass(frozen=True)
class Site:
    """A line of the table of sites. `share`: of the largest site's images, 0 to 1."""

    name: str
    examples: str
    share: float
    images: str
    device: str
    answered: str
    strip: Markup | None
    trouble: str
    problem: str
    fingerprint: str


@dataclass(frozen=True)
class Warnings:
    """Warnings to show at once, and those to fold away; each is (where, text)."""

    reason: str
    first: tuple[tuple[str, str], ...]
    more: tuple[tuple[str, str], ...]


def cost(record: RunRecord) -> list[Figure]:
    """Bytes and seconds of each round."""
    return [figure for figure in (_bytes(record), _seconds(record)) if figure is not None]


def _bytes(record: RunRecord) -> Figure | None:
    down, up = COSTS["bytes_down"], COSTS["bytes_up"]
    columns = {
        event.round: {down.name: float(event.bytes_down), up.name: float(event.bytes_up)}
        for event in record.rounds
    }
    total = formats.size(total_bytes(record))
    note = f"Over all sites. In all {total}, stage ends included.{_counted(record)}"
    return _bars(
        record,
        columns,
        [down.name, up.name],
        title="Sent per round",
        note=note,
        written=formats.size,
    )


def _seconds(record: RunRecord) -> Figure | None:
    columns = {event.round: _phases(event) for event in record.rounds}
    sums: dict[str, float] = {}
    for parts in columns.values():
        for name, seconds in parts.items():
            sums[name] = sums.get(name, 0.0) + seconds
    last = [name for name in ("other", "wait") if name in sums]
    ranked = sorted(sums.keys() - set(last), key=lambda name: (-sums[name], name))
    kept, small = ranked[:PHASES], ranked[PHASES:]
    if small:
        columns = {number: _folded(parts, small) for number, parts in columns.items()}
        last = ["other", *(name for name in last if name != "other")]
    note = f"{COSTS['seconds'].about} In all {formats.duration(total_seconds(record))}."
    return _bars(
        record, columns, [*kept, *last], title="Time per round", note=note, written=formats.duration
    )


def _phases(event: RoundEvent) -> dict[str, float]:
    """Seconds by phase; what the phases leave of the total is "other"."""
    parts = {name: _positive(value) for name, value in event.seconds.items() if name != "total"}
    total = _positive(event.seconds.get("total"))
    rest = total - sum(parts.values())
    if rest > 0.01 * total:
        parts["other"] = parts.get("other", 0.0) + rest
    return {name: value for name, value in parts.items() if value}


def _folded(parts: Mapping[str, float], small: list[str]) -> dict[str, float]:
    kept = {name: value for name, value in parts.items() if name not in small}
    rest = sum(parts.get(name, 0.0) for name in small)
    return {**kept, "other": kept.get("other", 0.0) + rest}


def _bars(
    record: RunRecord,
    columns: Mapping[int, Mapping[str, float]],
    keys: list[str],
    *,
    title: str,
    note: str,
    written: Callable[[Any], str],
) -> Figure | None:
    if not any(any(parts.values()) for parts in columns.values()):
        return None
    rounds = planned_rounds(record)
    svg = stacked_bars(columns, keys, bands(record, 0.5), rounds, label=title, written=written)
    return Figure(title, note, svg, [(colour_of(key, i), key) for i, key in enumerate(keys)])


def is_simulated(record: RunRecord) -> bool:
    """Whether its sites were in one process, or in Flower's simulation: nothing was sent."""
    return record.run.engine in ("in-process", "ray")


def _counted(record: RunRecord) -> str:
    if not is_simulated(record):
        return ""
    return " Simulated: counted as if the sites were on other machines; nothing was sent."


def total_bytes(record: RunRecord) -> float:
    """Bytes of all rounds and stage ends, and of the model's way to the sites, both ways."""
    given = [e for e in record.events if isinstance(e, DeliveredEvent)]
    held = (*record.rounds, *record.stages, *record.unlearned, *given)
    return sum(e.bytes_down + e.bytes_up for e in held)


def total_seconds(record: RunRecord) -> float:
    """Wall time of all rounds and stage ends at the server, and of unlearning."""
    held = (*record.rounds, *record.stages, *record.unlearned)
    return sum(_positive(e.seconds.get("total")) for e in held)


def _positive(value: Any) -> float:
    return max(0.0, float(value)) if is_number(value) else 0.0


def sites(record: RunRecord) -> list[Site]:
    """Every site that the run knows or that a round named."""
    facts: dict[str, SiteFacts | None] = dict(record.run.sites)
    states = [_states(event) for event in record.rounds or record.stages]
    for name in {name for round_states in states for name in round_states}:
        facts.setdefault(name, None)
    largest = max((fact.examples for fact in facts.values() if fact), default=0)
    return [
        _site(name, facts[name], [s.get(name, "unasked") for s in states], largest, record)
        for name in sorted(facts, key=_natural)
    ]


def files(record: RunRecord) -> list[tuple[str, str]]:
    """What became of the files, where not all were used: of the folder that a local federation
    shares, or (site, what) of each site's own."""
    run = record.run
    told = [("", run.files), *((name, run.sites[name].files) for name in sorted(run.sites))]
    return [(name, counts.text) for name, counts in told if counts and counts.text]


def attendance(several: list[Site]) -> str:
    """How many sites answered whenever they were asked."""
    asked = [site for site in several if site.strip is not None]
    faithful = sum(not site.trouble for site in asked)
    if faithful < len(asked):
        return f"{faithful} of {len(asked)} sites answered each time they were asked."
    return "Every site answered each time it was asked." if asked else ""


def _natural(name: str) -> tuple[str, int, str]:
    """site-2 before site-10."""
    stem = name.rstrip("0123456789")
    digits = name[len(stem) :]
    return stem, int(digits[:18] or 0), name


def _states(event: RoundEvent | StageEvent) -> dict[str, str]:
    found = dict.fromkeys(event.answered, "answered")
    found |= dict.fromkeys(event.missing, "missing")
    return found | dict.fromkeys(event.refused, "refused")


def _site(
    name: str, fact: SiteFacts | None, states: list[str], largest: int, record: RunRecord
) -> Site:
    counts = {s: states.count(s) for s in ("answered", "missing", "refused")}
    asked = sum(counts.values())
    trouble = [f"{counts[state]} {state}" for state in ("missing", "refused") if counts[state]]
    told = f"{name}: answered {counts['answered']} of {asked} rounds"
    return Site(
        name=name,
        examples=formats.count(fact and fact.examples),
        share=fact.examples / largest if fact and largest else 0.0,
        images=_shape(fact),
        device=(fact and fact.device) or formats.NONE,
        answered=f"{counts['answered']} of {asked}" if asked else formats.NONE,
        strip=round_strip(states, told) if asked else None,
        trouble=", ".join(trouble),
        problem=_last_refusal(record, name),
        fingerprint=((fact and fact.fingerprint) or "")[:12],
    )


def _shape(fact: SiteFacts | None) -> str:
    if fact is None or fact.side is None:
        return formats.NONE
    return TIMES.join(str(n) for n in (fact.side, fact.side, fact.channels) if n)


def _last_refusal(record: RunRecord, name: str) -> str:
    for event in reversed(record.rounds):
        if name in event.refused:
            return f"round {event.round}: {event.refused[name]}"
    return ""


def warnings(record: RunRecord, shown: int = 5) -> Warnings:
    """Why a run failed; what of its record is damaged; what was not as before when it went on;
    then its warnings, equal texts once with how often."""
    texts: dict[str, list[int]] = {}
    for event in record.warnings:
        texts.setdefault(event.text, []).append(event.round)
    resumed = [e for e in record.resumed if e.changes]
    lines = (
        *(("", text) for text in record.damaged),
        *((f"after round {e.round}", e.text) for e in resumed),
        *(_line(text, rounds) for text, rounds in texts.items()),
    )
    reason = record.run.reason or "" if record.run.status == "failed" else ""
    return Warnings(reason, lines[:shown], lines[shown:])


def _line(text: str, rounds: list[int]) -> tuple[str, str]:
    """Where and what; a text that begins with its round does not say it twice."""
    where = f"round {min(rounds)}"
    times = f", {len(rounds)} times" if len(rounds) > 1 else ""
    return where + times, text.removeprefix(f"{where}: ")
