"""What the rows of `methods.csv` say: the ranking, three claims of Miao and Koyuncu on two-stage
methods, and how `covey` stands to its aims. Prints the tables that docs/results.md and the pages in
docs/results/ quote.

    python benchmarks/claims.py [--csv docs/results/methods.csv]

"New images" are the data set's test images, which no site has, of the runs in `--unseen`; a dash is
a recipe that has not run since they are looked at.
A figure is mean±standard deviation (n-1) over seeds; a difference is taken within each seed first,
so that what a seed's split and images do to both sides drops out.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from _methods_run import REFERENCES, is_centralised, is_untrained
from methods import RECIPES, TABLE, read_rows

UNSEEN = Path("docs/results/training.csv")
Row = dict[str, Any]
Table = dict[tuple[str, str, str], dict[int, Row]]
"""(data set, partition, recipe) -> seed -> row."""

PARTITIONS = ("iid", "dirichlet(0.1)", "p-skew(1.0)")
ALIKE_AND_NOT = (PARTITIONS[0], PARTITIONS[-1])
DATASETS = ("fashion-mnist", "mnist", "cifar10")
PARTS = (
    "fedsimclr", "fedsimclr+group", "fedkmeans", "fedsimclr-projection",
    "fedsimclr-projection+group", "fedsimclr-landmarks", "orchestra", "orchestra+group",
    "covey-projection+batch", "covey-projection", "covey-landmarks", "covey", "centralised",
    "centralised-spectral", "centralised-covey-projection", "centralised-covey",
)  # fmt: skip
"""What tells the parts of `covey` apart: normalisation, start, stage 1, projection, landmarks."""
BEST = (
    "covey", "orchestra", "fedbyol-reg", "fedmoco-v3", "fedsimclr", "fedsimclr-projection",
    "fedsimclr-landmarks", "covey-projection", "covey-landmarks", "centralised",
)  # fmt: skip
"""Who runs on every data set and with 20 sites: the best under skew at seed 0, SimCLR with
`covey`'s projection and with its landmarks, `covey` without its parts, and the ceiling."""
FAMILIES = {  # stage 1 alone, with a contrastive and with a non-contrastive second stage
    "contrastive (C)": ("fedmc", "fedmcc", "fedmcc-nc"),
    "non-contrastive (NC)": ("fedbyol", "fedbyol-c", "fedbyol-nc"),
    "NC with a contrastive regulariser": ("fedbyol-reg", "fedbyol-reg-c", "fedbyol-reg-nc"),
}
C, NC, REGULARISED = FAMILIES.values()
CLAIMS = {
    "1. a second stage helps clustering": (
        "nmi",
        [(stages[second], stages[0]) for stages in FAMILIES.values() for second in (1, 2)],
    ),
    "2. a contrastive regulariser helps clustering": (
        "nmi",
        list(zip(REGULARISED, NC, strict=True)),
    ),
    "2. … and representation": ("linear", list(zip(REGULARISED, NC, strict=True))),
    "3. clustering is best with contrast in both stages": (
        "nmi",
        [(C[1], other) for stages in FAMILIES.values() for other in stages if other != C[1]],
    ),
    "3. representation is best without contrast": ("linear", [(NC[0], C[0])]),
}


def main(
    csv: Annotated[Path, typer.Option(help="rows of methods.py")] = TABLE,
    unseen: Annotated[Path, typer.Option(help="rows with figures on new images")] = UNSEEN,
    images: Annotated[int, typer.Option(help="of the runs that are compared")] = 5000,
    sites: int = 10,
    rounds: int = 10,
) -> None:
    """Print the ranking, the claims, the other data sets, the aims, the controls and the runs with
    more sites and of other lengths, as Markdown."""
    rows = [row for row in read_rows(csv) if not is_untrained(row)]
    table = table_of([row for row in rows if belongs(row, images, sites, rounds)])
    seen = [row for row in read_rows(unseen) if not is_untrained(row)]
    new = table_of([row for row in seen if belongs(row, images, sites, rounds)])
    print("\n".join(ranking(table, new)), end="\n\n")
    for section in (two_stages, claims, datasets, aims, parts):
        print("\n".join(section(table)), end="\n\n")
    partial = table_of([row for row in rows if belongs(row, images, 2 * sites, rounds, 0.5)])
    print("\n".join(more_sites(table, partial)), end="\n\n")
    lengths = {
        number: table_of([row for row in rows if belongs(row, images, sites, number)])
        for number in (rounds // 2, rounds, 2 * rounds)
    }
    print("\n".join(more_rounds(lengths)), end="\n\n")


def belongs(row: Row, images: int, sites: int, rounds: int, participation: float = 1.0) -> bool:
    """Whether a row is of the scale that is compared; entries without training have no rounds, the
    centralised run has one site."""
    return (
        row["images"] == images
        and (row["participation"] == participation or is_centralised(row["recipe"]))
        and row["rounds"] in (0, rounds)
        and (row["sites"] == sites or is_centralised(row["recipe"]))
    )


def table_of(rows: Sequence[Row]) -> Table:
    """The rows by data set, partition, recipe and seed; the centralised run has every partition."""
    table: Table = {}
    for row in rows:
        for partition in PARTITIONS if is_centralised(row["recipe"]) else (row["partition"],):
            key = (row["dataset"], partition, row["recipe"])
            table.setdefault(key, {})[row["seed"]] = row
    return table


def ranking(
    table: Table, unseen: Table | None = None, dataset: str = "fashion-mnist"
) -> Iterator[str]:
    """Every recipe at every partition, best under skew first; NMI on new images where `unseen` has
    it."""

    def skewed(name: str) -> float:
        return mean(values(table, dataset, PARTITIONS[-1], name, "nmi"))

    there = [n for n in RECIPES if any((dataset, p, n) in table for p in PARTITIONS)]
    scores_of = [score for p in PARTITIONS for score in (f"NMI, {p}", "ACC")]
    new = [f"NMI, new images, {p}" for p in PARTITIONS]
    yield from grid("recipe", [*scores_of, *new, "linear", "MB"])
    for name in sorted(there, key=skewed, reverse=True):
        scores = [
            figure(values(table, dataset, partition, name, score))
            for partition in PARTITIONS
            for score in ("nmi", "acc")
        ]
        linear = figure(values(table, dataset, PARTITIONS[-1], name, "linear"), spread=False)
        sent = values(table, dataset, PARTITIONS[-1], name, "bytes")
        megabytes = f"{mean(sent) / 1e6:,.0f}" if sent and not is_centralised(name) else "–"
        scores += [figure(values(unseen or {}, dataset, p, name, "test_nmi")) for p in PARTITIONS]
        yield f"| {name} | " + " | ".join([*scores, linear, megabytes]) + " |"


def two_stages(table: Table, dataset: str = "fashion-mnist") -> Iterator[str]:
    """NMI of the nine two-stage methods: {C, NC, NC+λC} x second stage {none, C, NC}."""
    yield from grid("stage 1", ["partition", "alone", "stage 2: C", "stage 2: NC"])
    for family, names in FAMILIES.items():
        for partition in PARTITIONS:
            scores = (figure(values(table, dataset, partition, n, "nmi")) for n in names)
            yield f"| {family} | {partition} | " + " | ".join(scores) + " |"


def claims(table: Table, dataset: str = "fashion-mnist") -> Iterator[str]:
    """Each claim as differences within a seed, and in how many of them it holds."""
    yield from grid("claim", ["figure", *PARTITIONS])
    for claim, (score, pairs) in CLAIMS.items():
        cells = []
        for partition in PARTITIONS:
            found = [
                d
                for one, other in pairs
                for d in gains(table, dataset, partition, one, other, score)
            ]
            held = sum(d > 0 for d in found)
            cells.append(f"{mean(found):+.3f}, {held} of {len(found)}" if found else "–")
        yield f"| {claim} | {score} | " + " | ".join(cells) + " |"


def datasets(table: Table) -> Iterator[str]:
    """NMI of the best recipes on each data set, where sites are alike and where they are not."""
    columns = [(dataset, partition) for dataset in DATASETS for partition in ALIKE_AND_NOT]
    yield from grid("recipe", [f"{dataset}, {partition}" for dataset, partition in columns])
    for name in ("covey-exact", "covey-sync", *BEST):
        scores = [figure(values(table, *column, name, "nmi")) for column in columns]
        yield f"| {name} | " + " | ".join(scores) + " |"


def parts(table: Table, dataset: str = "fashion-mnist") -> Iterator[str]:
    """NMI and ACC of `covey` and of others with one of its parts."""
    scores = [(partition, score) for partition in ALIKE_AND_NOT for score in ("nmi", "acc")]
    yield from grid("run", [f"{score.upper()}, {partition}" for partition, score in scores])
    for name in PARTS:
        cells = [figure(values(table, dataset, where, name, score)) for where, score in scores]
        yield f"| {name} | " + " | ".join(cells) + " |"


def more_sites(whole: Table, partial: Table, dataset: str = "fashion-mnist") -> Iterator[str]:
    """NMI of the best recipes with all sites in each round, and with twice as many sites of which
    half take part."""
    settings = {"all sites": whole, "half of twice as many": partial}
    columns = [(partition, setting) for partition in ALIKE_AND_NOT for setting in settings]
    yield from grid("recipe", [f"{partition}, {setting}" for partition, setting in columns])
    for name in BEST[:-1]:
        scores = [
            figure(values(settings[setting], dataset, partition, name, "nmi"))
            for partition, setting in columns
        ]
        yield f"| {name} | " + " | ".join(scores) + " |"


def more_rounds(
    lengths: Mapping[int, Table], dataset: str = "fashion-mnist", seed: int = 0
) -> Iterator[str]:
    """Half and twice the rounds, one seed: whether the runs are long enough to be compared."""
    scores = {"nmi": "NMI", "acc": "ACC", "linear": "linear"}
    columns = [f"{name}, {number} rounds" for name in scores.values() for number in lengths]
    yield from grid("run", columns)
    for name, partition in (("centralised", "iid"), ("covey-projection", PARTITIONS[-1])):
        cells = []
        for score in scores:
            for table in lengths.values():
                row = table.get((dataset, partition, name), {}).get(seed)
                cells.append(figure([row[score]] if row else []))
        yield f"| {name}, {partition} | " + " | ".join(cells) + " |"


def grid(first: str, columns: Sequence[str]) -> Iterator[str]:
    """The two lines that a Markdown table begins with."""
    yield f"| {first} | " + " | ".join(columns) + " |"
    yield "|---" * (len(columns) + 1) + "|"


def aims(table: Table) -> Iterator[str]:
    """How `covey` stands: against iid, against the centralised run, against the best that is none
    of its kind."""
    ceilings = ("centralised", "centralised-spectral")
    columns = ["NMI at p-skew(1.0) / iid", *(f"iid - {name}" for name in ceilings)]
    yield from grid("data", [*columns, "p-skew(1.0) - next best", "next"])
    for dataset in DATASETS:
        skewed = values(table, dataset, PARTITIONS[-1], "covey", "nmi")
        alike = values(table, dataset, "iid", "covey", "nmi")
        if not skewed or not alike:
            continue
        over = [gains(table, dataset, "iid", "covey", name, "nmi") for name in ceilings]
        others = [n for n in RECIPES if not n.startswith("covey") and n not in REFERENCES]
        measured = [n for n in others if values(table, dataset, PARTITIONS[-1], n, "nmi")]
        second = max(
            measured,
            key=lambda n: mean(values(table, dataset, PARTITIONS[-1], n, "nmi")),
            default="",
        )
        lead = gains(table, dataset, PARTITIONS[-1], "covey", second, "nmi")
        cells = [f"{mean(skewed) / mean(alike):.3f}", *map(figure, over), figure(lead)]
        yield f"| {dataset} | " + " | ".join(cells) + f" | {second or '–'} |"


def values(table: Table, dataset: str, partition: str, recipe: str, score: str) -> list[float]:
    """One figure of one recipe, a value for each seed."""
    return [row[score] for row in table.get((dataset, partition, recipe), {}).values()]


def gains(
    table: Table, dataset: str, partition: str, one: str, other: str, score: str
) -> list[float]:
    """By how much `one` is above `other`, for each seed that both have."""
    mine, theirs = (table.get((dataset, partition, name), {}) for name in (one, other))
    return [mine[seed][score] - theirs[seed][score] for seed in sorted(mine.keys() & theirs.keys())]


def mean(found: Sequence[float]) -> float:
    """Their mean; minus infinity of none, which sorts last."""
    return statistics.fmean(found) if found else float("-inf")


def figure(found: Sequence[float], spread: bool = True) -> str:
    """`.612±.007` of several values, `.612` of one, a dash of none."""
    if not found:
        return "–"
    short: Callable[[float], str] = lambda x: f"{x:.3f}".replace("0.", ".", 1)  # noqa: E731
    if len(found) == 1 or not spread:
        return short(mean(found))
    return f"{short(mean(found))}±{short(statistics.stdev(found))}"


if __name__ == "__main__":
    typer.run(main)
