"""How many clusters? What a run that was asked it has found, as charts; what was taken apart."""

from dataclasses import dataclass

from common.record.later import Candidate, ChoiceEvent, SplitEvent
from common.record.reader import RunRecord
from server.report import formats
from server.report.curves import Series, line_chart
from server.report.figures import Figure

AXIS = "clusters"


@dataclass(frozen=True)
class Later:
    """What came of questions to a finished run: a sentence for each, and charts."""

    told: tuple[str, ...]
    figures: tuple[Figure, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    suggested: int = 0


def later(record: RunRecord) -> Later | None:
    """Of the last question of each kind; None where nothing was asked."""
    splits = tuple(e.text for e in record.events if isinstance(e, SplitEvent))
    choices = [e for e in record.events if isinstance(e, ChoiceEvent)]
    if not choices:
        return Later(splits) if splits else None
    last = choices[-1]
    told = (*splits, last.text)
    return Later(told, _figures(last), last.candidates, last.suggested)


def _figures(event: ChoiceEvent) -> tuple[Figure, ...]:
    tried = event.candidates
    if len(tried) < 2:
        return ()
    parts = {
        "silhouette": [each.silhouette for each in tried],
        "views": [each.views for each in tried],
        "starts": [each.restarts for each in tried],
        "score": [each.score for each in tried],
    }
    return (
        _chart(
            "Silhouette, stability, score",
            "Score: silhouette times the lesser of the two agreements (of two views of each image, "
            "of clusterings from other starts; 0 by chance). Of those that do nearly as well as "
            "the best, the smallest is suggested.",
            event,
            parts,
            (0.0, 1.0),
        ),
        _chart(
            "What one cluster less would cost",
            "By how much of all squared distances those inside the clusters would grow, were the "
            "two that are cheapest to join joined. Where it falls to almost nothing, one of them "
            "is not needed.",
            event,
            {"merge cost": [each.merge_cost for each in tried]},
        ),
    )


def _chart(
    title: str,
    note: str,
    event: ChoiceEvent,
    parts: dict[str, list[float]],
    bounds: tuple[float, float] | None = None,
) -> Figure:
    numbers = [each.clusters for each in event.candidates]
    at = numbers.index(event.suggested)
    series = [
        Series(
            name,
            (tuple((float(k), v) for k, v in zip(numbers, values, strict=True)),),
            ((float(event.suggested), values[at]),),
        )
        for name, values in parts.items()
    ]
    svg = line_chart(
        series,
        [],
        numbers[-1],
        label=f"{title} against the number of clusters",
        written="{:.2f}".format if bounds else formats.number,
        bounds=bounds,
        x=(AXIS, numbers[0]),
    )
    return Figure(title, note, svg)
