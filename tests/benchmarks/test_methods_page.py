"""The page of the benchmark of all methods: groups, tables, fronts, names."""

from tests.benchmarks.scripts import script

methods, page, plot = (script(name) for name in ("methods", "_methods_page", "_methods_plot"))


def row(name: str, seed: int = 0, partition: str = "iid", **values):
    base = dict.fromkeys(methods.FIGURES + methods.MORE, 0.5) | {"commit": "abc", "bytes": 1000}
    setting = {
        "recipe": name, "dataset": "digits", "images": 120, "partition": partition, "sites": 2,
        "participation": 1.0, "seed": seed, "rounds": 3, "local_steps": 3, "encoder": "convnet",
    }  # fmt: skip
    return {**setting, **base, **values}


def test_a_group_is_called_by_its_data_set_and_what_is_unlike_the_first() -> None:
    rows = [row("fedsimclr"), row("fedbyol"), row("fedsimclr", sites=4, rounds=9)]
    first, other = page.groups_of(rows)
    assert page._title(first, first) == "digits"
    assert page._title(other, first) == "digits, 4 sites, 9 rounds"


def test_a_table_has_means_and_deviations_over_seeds_the_best_marked() -> None:
    rows = [row("fedsimclr", 0, nmi=0.5), row("fedsimclr", 1, nmi=0.7), row("fedbyol", 0, nmi=0.55)]
    rows.append(row("centralised", 0, nmi=0.9, sites=1))
    text = page.render(rows, "a machine", "")
    (group,) = page.groups_of(rows)
    (table,) = page._group(group, group, rows, "")["tables"]
    names = [line["name"] for line in table["lines"]]
    assert names == ["centralised", "fedsimclr", "fedbyol"]  # by NMI
    ceiling, first, second = (line["scores"][0] for line in table["lines"])
    assert (first["text"], first["spread"], first["best"]) == ("0.600", "±.141", True)
    assert (second["spread"], second["best"], ceiling["best"]) == ("", False, False)
    assert [line["seeds"] for line in table["lines"]] == [1, 2, 1]
    assert "1 of 2 seeds" in text and "a machine" in text


def test_scales_are_not_mixed_and_references_join_each() -> None:
    rows = [
        row("fedbyol"),
        row("fedbyol", rounds=9),
        row("pixels", rounds=0, encoder="pixels"),
        row("centralised", sites=1),
    ]
    groups = page.groups_of(rows)
    held = [[(r["recipe"], r["rounds"]) for r in rows if group.holds(r)] for group in groups]
    assert held == [
        [("fedbyol", 3), ("pixels", 0), ("centralised", 3)],
        [("fedbyol", 9), ("pixels", 0)],
    ]


def test_the_front_is_what_none_beats_in_both() -> None:
    points = {"a": (1, 0.5), "b": (2, 0.4), "c": (2, 0.6), "d": (9, 0.6), "e": (0, 0.1)}
    entries = [plot.Entry(name, *point) for name, point in points.items()]
    assert [entry.name for entry in plot.front(entries)] == ["e", "a", "c"]


def test_thirty_names_on_few_costs_do_not_cover_each_other() -> None:
    entries = [plot.Entry(f"recipe-{i}", 1e6 * (1 + i % 4), 0.5 + 0.004 * i) for i in range(30)]
    x, y = plot._scales(entries, [])
    taken = [plot._around(x(e.cost), plot._height(y, e.merit)) for e in entries]
    points = len(taken)
    list(plot._labels(entries, [], x, y, taken))
    names = taken[points:]
    covered = sum(a.overlap(b) for i, a in enumerate(names) for b in names[:i])
    assert len(names) == 30 and covered < 0.01 * sum(b.overlap(b) for b in names)


def test_names_are_escaped() -> None:
    text = page.render([row("<b>fed</b>")], "<i>machine</i>", "")
    assert "<b>fed" not in text and "<i>machine" not in text
