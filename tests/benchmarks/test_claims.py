"""What is said of the matrix: differences within a seed, dashes where there is nothing."""

import pytest

from tests.benchmarks.scripts import FOLDER, script

claims = script("claims")


def rows(name: str, values: dict[int, float], partition: str = "iid") -> list[dict]:
    setting = {"recipe": name, "dataset": "fashion-mnist", "partition": partition, "sites": 10}
    scores = dict.fromkeys(("acc", "linear", "bytes"), 0.5)
    return [{**setting, **scores, "seed": seed, "nmi": nmi} for seed, nmi in values.items()]


def line(table: dict, section, start: str) -> list[str]:
    (found,) = (text for text in section(table) if text.startswith(f"| {start} "))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_a_claim_is_judged_within_each_seed() -> None:
    # The seeds differ by more than the two methods do, and seed 2 has one of them only.
    table = claims.table_of(
        [*rows("fedbyol", {0: 0.3, 1: 0.6, 2: 0.9}), *rows("fedbyol-reg", {0: 0.4, 1: 0.65})]
    )
    cells = line(table, claims.claims, "2. a contrastive regulariser helps clustering")
    assert cells[1:] == ["nmi", "+0.075, 2 of 2", "–", "–"]


def test_the_ranking_is_by_what_skew_leaves() -> None:
    table = claims.table_of(
        [
            *rows("fedbyol", {0: 0.9}),
            *rows("fedbyol", {0: 0.3, 1: 0.5}, "p-skew(1.0)"),
            *rows("covey", {0: 0.6, 1: 0.6}, "p-skew(1.0)"),
        ]
    )
    names = [text.split("|")[1].strip() for text in list(claims.ranking(table))[2:]]
    assert names == ["covey", "fedbyol"]
    cells = line(table, claims.ranking, "fedbyol")
    assert cells[1] == ".900" and cells[5] == ".400±.141" and "–" in cells
    (seen,) = rows("fedbyol", {0: 0.3}, "p-skew(1.0)")
    unseen = claims.table_of([{**seen, "test_nmi": 0.25}])
    (found,) = (text for text in claims.ranking(table, unseen) if "| fedbyol |" in text)
    assert found.split("|")[8:11] == [" – ", " – ", " .250 "]


def test_the_aims_compare_covey_with_the_best_other_recipe_and_not_with_the_references() -> None:
    table = claims.table_of(
        [
            *rows("covey", {0: 0.60, 1: 0.62}),
            *rows("covey", {0: 0.57, 1: 0.61}, "p-skew(1.0)"),
            *rows("fedbyol", {0: 0.5, 1: 0.5}, "p-skew(1.0)"),
            *rows("orchestra", {0: 0.55, 1: 0.53}, "p-skew(1.0)"),
            *rows("covey-exact", {0: 0.7, 1: 0.7}, "p-skew(1.0)"),
            *rows("pixels", {0: 0.9, 1: 0.9}, "p-skew(1.0)"),
            *rows("centralised", {0: 0.6, 1: 0.6}),
            *rows("centralised-spectral", {0: 0.6, 1: 0.6}),
        ]
    )
    cells = line(table, claims.aims, "fashion-mnist")
    assert cells[1:] == ["0.967", ".010±.014", ".010±.014", ".050±.042", "orchestra"]


def test_twice_the_sites_stand_beside_all_of_half_as_many() -> None:
    whole = claims.table_of(rows("orchestra", {0: 0.5}))
    partial = claims.table_of(rows("orchestra", {0: 0.4}, "p-skew(1.0)"))
    (found,) = (t for t in claims.more_sites(whole, partial) if t.startswith("| orchestra "))
    assert [cell.strip() for cell in found.strip("|").split("|")][1:] == [".500", "–", "–", ".400"]


def test_figures_read_as_in_the_docs() -> None:
    assert [claims.figure(found) for found in ([], [0.5], [0.5, 0.7])] == ["–", ".500", ".600±.141"]
    assert claims.figure([-0.02, -0.04]) == "-.030±.014"
    assert claims.mean([]) == float("-inf")


@pytest.mark.parametrize(
    ("change", "inside"),
    [
        ({}, True),
        ({"rounds": 0}, True),
        ({"rounds": 5}, False),
        ({"sites": 1}, False),
        ({"sites": 1, "recipe": "centralised"}, True),
        ({"participation": 0.5}, False),
        ({"images": 100}, False),
    ],
)
def test_scales_are_not_mixed(change: dict, inside: bool) -> None:
    row = {"recipe": "a", "images": 5000, "sites": 10, "rounds": 10, "participation": 1.0}
    assert claims.belongs({**row, **change}, 5000, 10, 10) == inside
    half = {**row, **change, "participation": 0.5}
    assert claims.belongs(half, 5000, 10, 10, 0.5) == (inside or "participation" in change)


def test_the_results_pages_quote_what_the_script_prints(capsys) -> None:
    claims.main(csv=FOLDER.parent / claims.TABLE)
    docs = FOLDER.parent / "docs"
    pages = (
        docs / "results.md",
        docs / "results" / "methods.md",
        docs / "results" / "ablations.md",
    )
    quoted = {text for page in pages for text in page.read_text().splitlines()}
    printed = [text for text in capsys.readouterr().out.splitlines() if text]
    assert len(printed) > 40
    assert [text for text in printed if text not in quoted] == []
