"""The two tables of docs/design.md that the declarations of the exchanges say.

python -m tests.builders.exchange_table      writes them into the page
"""

from collections.abc import Iterable
from pathlib import Path

from common.protocol.declaration import Behind, Brings, Exchange, Given, List, Number, Sum
from common.protocol.exchanges import EXCHANGES
from common.protocol.parts import IMAGES, SOME_IMAGES

PAGE = Path(__file__).parents[2] / "docs/design.md"
BEGIN, END = "<!-- exchanges -->\n", "<!-- /exchanges -->\n"
Parameters = tuple[Brings, bool]  # what is brought, and whether it is of one step's batch
PARAMETERS = {
    (Brings.SHARED, False): "the shared modules after local training",
    (Brings.PREPARED, False): "the one shared module that is prepared, from the model that all "
    "received",
    (Brings.PREPARED, True): "means over the site's images in the batch of what the loss is a "
    "function of",
    (Brings.GRADIENT, True): "the mean over the site's images in the batch of what they add to the "
    "gradient",
}
Part = Parameters | List | Sum | Number | str


def tables() -> str:
    """Both, as Markdown."""
    return f"{_kinds(EXCHANGES.values())}\n{_parts(EXCHANGES.values())}"


def between(text: str) -> str:
    """What stands between the page's two marks."""
    return text.partition(BEGIN)[2].partition(END)[0]


def _kinds(exchanges: Iterable[Exchange]) -> str:
    lines = ["| exchange | held when | asked | the message brings | for |", "|---|---|---|---|---|"]
    for each in exchanges:
        centroids = f", centroids ({each.centroids})" if each.centroids is not Given.PERHAPS else ""
        brings = f"no model: it came with `{each.after}`" if each.after else str(each.needs)
        brings = "the model, in the first step" if each.goes_on else brings
        brings = "the model, once" if each.after == each.kind else brings
        steps = " (in steps)" if each.steps else ""
        lines.append(
            f"| `{each.kind}`{steps} | {each.when} | {each.asks} | {brings}{centroids} "
            f"| {each.about} |"
        )
    return "\n".join(lines) + "\n"


def _parts(exchanges: Iterable[Exchange]) -> str:
    """One line for each part, with all the exchanges that bring it."""
    one = {SOME_IMAGES: IMAGES}  # but for whether it is needed, the same
    rows: dict[Part, list[str]] = {}
    for each in exchanges:
        found: list[Part] = [*each.lists, *each.sums, *each.numbers]
        if each.brings is not Brings.NOTHING:
            found.insert(0, (each.brings, each.of_batch))
        if each.tells:
            found.append(", ".join(each.tells))
        for part in found:
            row = one.get(part, part) if isinstance(part, Number) else part
            rows.setdefault(row, []).append(f"`{each.kind}`")
    head = "| what leaves | in | what it is | shape | one image adds | images behind a number |"
    lines = [_row(part, ", ".join(kinds)) for part, kinds in rows.items()]
    return "\n".join([head, "|---|---|---|---|---|---|", *lines]) + "\n"


def _row(part: Part, kinds: str) -> str:
    if isinstance(part, tuple):
        behind = Behind.MIN_COUNT if part[1] else Behind.ALL
        cells = ["parameters", kinds, PARAMETERS[part], "of the model", "", behind]
    elif isinstance(part, List):
        what = f"{part.what}. A list, since {part.why}"
        shape = f"≤ {part.most.symbol} × d"
        cells = [part.words, kinds, what, shape, "", part.behind]
    elif isinstance(part, Sum):
        cells = [part.words, kinds, part.what, part.symbols, _most(part), part.behind]
    elif isinstance(part, Number):
        times = "" if part.times.symbol == "1" else f", times {part.times.symbol}"
        bounds = "" if part.family == "loss" else f"{part.low:g} to {part.high:g}{times}"
        cells = [f"`{part.name}`", kinds, part.what, "1", bounds, part.behind]
    else:
        cells = ["facts", kinds, part, "", "", ""]
    return f"| {' | '.join(map(str, cells))} |"


def _most(part: Sum) -> str:
    times = "" if part.repeats.symbol == "1" else ", by each set"
    return f"≤ {part.bound:g} a number, length ≤ {part.norm:.3g}{times}"


if __name__ == "__main__":
    page = PAGE.read_text()
    PAGE.write_text(page.replace(f"{BEGIN}{between(page)}{END}", f"{BEGIN}{tables()}{END}"))
