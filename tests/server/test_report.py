"""The report stands alone, escapes what others have named, and is there for every kind of run."""

import re
import shlex
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape

from common.config import recipes
from common.record.metrics import FIGURES
from common.record.reader import read_run
from common.record.schema import RoundEvent
from common.utils.errors import UserError
from server.report import formats, render, write_report
from server.report.settings import command
from tests.server.sample_run import SampleRun

VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = "<script>alert(1)</script>\"'&"


class Page(HTMLParser):
    """Tags, texts and unbalanced elements of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.words.append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)


def page(run: SampleRun, folder: Path) -> Page:
    return Page(write_report(run.write(folder)).read_text(encoding="utf-8"))


def failed() -> SampleRun:
    run = SampleRun(rounds=5)
    run.run |= {"status": "failed", "reason": "round 6: the quorum was missed 3 times"}
    return run


KINDS = {
    "just begun": lambda: SampleRun(rounds=0),
    "one round": lambda: SampleRun(rounds=1),
    "failed": failed,
    "one stage": lambda: SampleRun(recipe="fedsimclr"),
    "no labels": lambda: SampleRun(classes=0).with_map(60),
    "many sites": lambda: SampleRun(sites=100, rounds=2),
    "many clusters": lambda: SampleRun(clusters=100, classes=100, rounds=8).with_map(400),
    "more clusters than classes": lambda: SampleRun(clusters=30, classes=4),
    "more classes than clusters": lambda: SampleRun(clusters=4, classes=30),
    "one site, one cluster": lambda: SampleRun(sites=1, clusters=1, classes=1),
    "long": lambda: SampleRun(sites=2, plan={"rounds": "500,100"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_has_a_whole_report_that_loads_nothing(kind, tmp_path) -> None:
    html = write_report(KINDS[kind]().write(tmp_path)).read_text(encoding="utf-8")
    tags = Page(html).tags
    assert not {"script", "link", "iframe", "img", "object", "embed", "base"} & {t for t, _ in tags}
    attributes = {name for _, attrs in tags for name in attrs}
    assert not {name for name in attributes if name.startswith("on")}
    assert not {"src", "href", "xlink:href"} & attributes
    assert "url(" not in html
    assert "@import" not in html
    policy = next(a["content"] for t, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        assert "nan" not in svg
        ElementTree.fromstring(svg)


def test_every_headline_number_is_on_the_page(tmp_path) -> None:
    run = SampleRun()
    ends = [event for event in run.events if event["event"] == "stage"]
    text = page(run, tmp_path).text
    assert len(ends) == 2
    for event in ends:
        for name in ("acc", "nmi", "ari", "purity", "knn", "linear", "silhouette", "std"):
            assert f"{event['figures'][name]:.3f}" in text, name
    gain = ends[1]["figures"]["acc"] - ends[0]["figures"]["acc"]
    assert f"{gain:+.3f}".replace("-", formats.MINUS) in text


def test_every_count_of_the_last_table_is_on_the_page(tmp_path) -> None:
    run = SampleRun(clusters=5, classes=5)
    table = np.array(run.events[-1]["table"])
    html = write_report(run.write(tmp_path)).read_text(encoding="utf-8")
    titles = re.findall(r"<title>cluster (\d+), (\d+): ([\d,]+)</title>", html)
    shown = {(int(k), int(c)): int(n.replace(",", "")) for k, c, n in titles}
    assert shown == {(k, c): n for (k, c), n in np.ndenumerate(table) if n}


@pytest.mark.parametrize("place", ["site", "class", "refusal", "warning", "loss", "plan", "map"])
def test_a_hostile_text_is_shown_and_never_becomes_a_tag(place, tmp_path) -> None:
    run = SampleRun(sites=2, rounds=8)
    first = run.events[0]
    if place == "site":
        run.run["sites"] = {HOSTILE: {"examples": 3, "device": HOSTILE, "kind": HOSTILE}}
        first["answered"] = [HOSTILE]
    elif place == "class":
        run.run["classes"][3] = HOSTILE[:11]
    elif place == "refusal":
        first["refused"] = {"site-1": HOSTILE}
    elif place == "warning":
        run.events.append({"event": "warning", "round": 1, "text": HOSTILE})
    elif place == "loss":
        first["loss"][HOSTILE[:16]] = 1.0
    elif place == "plan":
        run.run["plan"] |= {"dataset": HOSTILE}
        run.run |= {"recipe": HOSTILE, "engine": HOSTILE, "id": HOSTILE, "created": HOSTILE}
    else:
        run.with_map(30).map |= {"method": HOSTILE}
    written = write_report(run.write(tmp_path)).read_text(encoding="utf-8")
    parsed = Page(written)
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert HOSTILE[:8] in parsed.text


def test_a_cut_last_line_costs_only_that_line(tmp_path) -> None:
    SampleRun().write(tmp_path)
    path = tmp_path / "metrics.jsonl"
    whole = read_run(tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    cut = read_run(tmp_path)
    assert cut.rounds == whole.rounds
    assert cut.stages == whole.stages[:-1]
    assert write_report(tmp_path).exists()


def test_a_round_that_a_resumed_run_did_again_counts_once_as_last_written(tmp_path) -> None:
    run = SampleRun(rounds=3)
    again = {**run.events[1], "loss": {"loss": 9.25}}
    run.events.append(again)
    rounds = read_run(run.write(tmp_path)).rounds
    assert [event.round for event in rounds] == [1, 2, 3]
    assert rounds[1] == RoundEvent(**again)


@pytest.mark.parametrize("text", [None, "", '{"id": "x", "pl', "[]", "{}", '{"plan": 3}', "\xff"])
def test_a_missing_or_damaged_run_file_is_one_clear_line(text, tmp_path) -> None:
    if text is not None:
        (tmp_path / "run.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"run\.json") as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("text", ['{"x": [1', "[]", '{"x": [1], "y": [1, 2], "cluster": [0]}'])
def test_a_damaged_map_is_left_out(text, tmp_path) -> None:
    SampleRun(rounds=1).write(tmp_path)
    (tmp_path / "map.json").write_text(text)
    assert read_run(tmp_path).map is None


def test_values_that_are_no_numbers_leave_gaps_not_errors(tmp_path) -> None:
    run = SampleRun()
    run.run["plan"]["stages"][0].pop("name")
    run.events[1] |= {"loss": {"loss": float("nan")}, "received": {}, "cluster_sizes": []}
    run.events[2] |= {"seconds": {"total": None}, "received": {"acc": None}}
    run.events[-1] |= {"table": [[1], [2, 3]]}
    run.events[-1]["figures"] |= {"acc": float("inf"), "knn": None}
    text = page(run, tmp_path).text
    assert not re.search(r"\b(inf|nan|None)\b", text.split("Settings")[0])


def test_a_damaged_line_is_told_on_the_page(tmp_path) -> None:
    run = SampleRun(rounds=3)
    run.events[1] |= {"bytes_up": "many"}
    text = page(run, tmp_path).text
    assert "metrics.jsonl, line 2 is damaged: round.bytes_up" in text
    assert "many" in text.split("Learning")[0]


def test_each_figure_is_explained_where_it_is_shown(tmp_path) -> None:
    html = write_report(SampleRun().write(tmp_path)).read_text(encoding="utf-8")
    for key in ("acc", "nmi", "ari", "knn", "linear"):  # the headline's
        assert f'<p class="about">{escape(FIGURES[key].about)}</p>' in html
    for key in ("purity", "silhouette", "effective_rank", "std"):  # the table's
        assert f'title="{escape(FIGURES[key].about)}"' in html


def test_a_run_without_labels_shows_the_figures_that_need_none(tmp_path) -> None:
    run = SampleRun(classes=0)
    text = page(run, tmp_path).text
    before_settings = text.split("Settings")[0]
    assert "No site has labels" in before_settings
    for name in ("Silhouette", "Evenness", "Effective rank", "Spread"):
        assert name in before_settings
    assert not re.search(r"\bACC\b|\bNMI\b", before_settings)


def test_a_failed_run_says_why_before_anything_else(tmp_path) -> None:
    text = page(failed(), tmp_path).text
    assert 0 < text.index("the quorum was missed 3 times") < text.index("Learning")


def test_refused_and_missing_rounds_are_counted_with_their_site(tmp_path) -> None:
    run = SampleRun(sites=3, rounds=8)
    for event in run.events[1:3]:
        event["answered"] = ["site-0"]
        event["missing"] = ["site-2"]
        event["refused"] = {"site-1": "groups.encoder: has NaN or infinite values"}
    text = page(run, tmp_path).text
    assert "1 of 3 sites answered each time they were asked." in text
    assert re.search(r"site-1 .*6 of 8 2 refused round 3: groups\.encoder: has NaN", text)
    assert re.search(r"site-2 .*6 of 8 2 missing", text)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rounds": "3,2", "sites": 9, "learning-rate": "0.00123456789", "participation": 0.5},
        {"parameters": "temperature=0.2,momentum=0.9", "partition": "dirichlet(0.1)"},
        {"parameters": "temperature=0.2 symmetric=true", "images": 500, "batch-size": "64"},
        {"centroids": "k-means,lloyd", "proximal": "0.1", "normalisation": "group", "side": 28},
    ],
)
def test_the_command_gives_the_plan_of_the_run(options, tmp_path) -> None:
    run = SampleRun(rounds=0, seed=7, plan=options)
    words = shlex.split(" ".join(command(read_run(run.write(tmp_path)))))
    assert words[:3] == ["covey", "run", "fedmcc"]
    given = {name[2:]: text for name, text in zip(words[3::2], words[4::2], strict=True)}
    assert recipes.load("fedmcc").plan(given) == run.plan


def test_the_same_record_gives_the_same_bytes(tmp_path) -> None:
    record = read_run(SampleRun().with_map(50).write(tmp_path))
    assert render(record) == render(record)
