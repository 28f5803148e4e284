"""What a run cost and who took part: bytes, seconds, sites round by round, warnings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from server.report import formats
from server.report.curves import colour_of, round_strip, stacked_bars
from server.report.figures import Figure, bands
from server.report.formats import is_number
from server.report.headline import planned_rounds
from server.report.record import Event, RunRecord

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
    columns = {
        event["round"]: {
            "to sites": _positive(event.get("bytes_down")),
            "from sites": _positive(event.get("bytes_up")),
        }
        for event in record.rounds
    }
    note = f"Over all sites. In all {formats.size(total_bytes(record))}, stage ends included."
    return _bars(
        record,
        columns,
        ["to sites", "from sites"],
        title="Sent per round",
        note=note,
        written=formats.size,
    )


def _seconds(record: RunRecord) -> Figure | None:
    columns = {event["round"]: _phases(event) for event in record.rounds}
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
    note = f"Wall time by phase, mean over sites. In all {formats.duration(total_seconds(record))}."
    return _bars(
        record, columns, [*kept, *last], title="Time per round", note=note, written=formats.duration
    )


def _phases(event: Event) -> dict[str, float]:
    """Seconds by phase; what the phases leave of the total is "other"."""
    seconds = event.get("seconds")
    if not isinstance(seconds, dict):
        return {}
    parts = {str(name): _positive(value) for name, value in seconds.items() if name != "total"}
    rest = _positive(seconds.get("total")) - sum(parts.values())
    if rest > 0.01 * _positive(seconds.get("total")):
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


def total_bytes(record: RunRecord) -> float:
    """Bytes of all rounds and stage ends, both ways."""
    events = [*record.rounds, *record.stages]
    return sum(_positive(e.get(k)) for e in events for k in ("bytes_down", "bytes_up"))


def total_seconds(record: RunRecord) -> float:
    """Wall time of all rounds and stage ends at the server."""
    events = [*record.rounds, *record.stages]
    parts = (e["seconds"] for e in events if isinstance(e.get("seconds"), dict))
    return sum(_positive(seconds.get("total")) for seconds in parts)


def _positive(value: Any) -> float:
    return max(0.0, float(value)) if is_number(value) else 0.0


def sites(record: RunRecord) -> list[Site]:
    """Every site that the run knows or that a round named."""
    known = record.run.get("sites")
    facts: dict[str, Any] = dict(known) if isinstance(known, dict) else {}
    states = [_states(event) for event in record.rounds or record.stages]
    for name in sorted({name for round_states in states for name in round_states}):
        facts.setdefault(name, {})
    facts = {name: fact if isinstance(fact, dict) else {} for name, fact in facts.items()}
    largest = max((_positive(fact.get("examples")) for fact in facts.values()), default=0.0)
    return [
        _site(name, facts[name], [s.get(name, "unasked") for s in states], largest, record)
        for name in sorted(facts, key=_natural)
    ]


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


def _states(event: Event) -> dict[str, str]:
    found: dict[str, str] = {}
    for state in ("answered", "missing", "refused"):
        names = event.get(state)
        if isinstance(names, list | dict):
            found |= {str(name): state for name in names}
    return found


def _site(name: str, fact: Event, states: list[str], largest: float, record: RunRecord) -> Site:
    counts = {s: states.count(s) for s in ("answered", "missing", "refused")}
    asked = sum(counts.values())
    trouble = [f"{counts[state]} {state}" for state in ("missing", "refused") if counts[state]]
    told = f"{name}: answered {counts['answered']} of {asked} rounds"
    return Site(
        name=name,
        examples=formats.count(fact.get("examples")),
        share=_positive(fact.get("examples")) / largest if largest else 0.0,
        images=_shape(fact),
        device=str(fact.get("device", formats.NONE)),
        answered=f"{counts['answered']} of {asked}" if asked else formats.NONE,
        strip=round_strip(states, told) if asked else None,
        trouble=", ".join(trouble),
        problem=_last_refusal(record, name),
        fingerprint=str(fact.get("fingerprint", ""))[:12],
    )


def _shape(fact: Event) -> str:
    side, channels = fact.get("side"), fact.get("channels")
    if not is_number(side):
        return formats.NONE
    return f"{side}{TIMES}{side}" + (f"{TIMES}{channels}" if is_number(channels) else "")


def _last_refusal(record: RunRecord, name: str) -> str:
    for event in reversed(record.rounds):
        refused = event.get("refused")
        if isinstance(refused, dict) and name in refused:
            return f"round {event['round']}: {refused[name]}"
    return ""


def warnings(record: RunRecord, shown: int = 5) -> Warnings:
    """Why a run failed, then its warnings, equal texts once with how often."""
    texts: dict[str, list[Any]] = {}
    for event in record.warnings:
        texts.setdefault(str(event.get("text", "")), []).append(event.get("round"))
    lines = tuple(_line(text, rounds) for text, rounds in texts.items())
    reason = str(record.run.get("reason", "")) if record.run.get("status") == "failed" else ""
    return Warnings(reason, lines[:shown], lines[shown:])


def _line(text: str, rounds: list[Any]) -> tuple[str, str]:
    """Where and what; a text that begins with its round does not say it twice."""
    numbers = [n for n in rounds if is_number(n)]
    if not numbers:
        return "", text
    where = f"round {min(numbers)}"
    times = f", {len(rounds)} times" if len(rounds) > 1 else ""
    return where + times, text.removeprefix(f"{where}: ")
