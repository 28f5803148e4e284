"""A line per case instead of pytest's dots: `pytest -p tests.case_lines tests/faults`.

    ok       a site that was killed comes back by itself: while training (12 s)
    FAILED   all sites gone and back: assert 3 == 4
    SKIPPED  the link is cut for 10 s: needs root

What a case shows is its test's name, in words, with its parameters behind the colon. A test that
cannot run here calls `pytest.skip("needs ...")`. Tracebacks and pytest's count come after that.
"""

import re

import pytest

WORDS = re.compile(r"test_(?P<name>[^\[]+)(\[(?P<case>.*)\])?")
COLOURS = {"ok": "green", "FAILED": "red", "SKIPPED": "yellow"}
SLOW = 1.0  # seconds from which on a line says how long its case took


def words(nodeid: str) -> str:
    """`tests/x.py::test_a_site_leaves[in_a_round]` -> `a site leaves: in a round`."""
    head, bracket, case = nodeid.partition("[")  # a parameter may hold "::"
    found = WORDS.fullmatch(head.rpartition("::")[2] + bracket + case)
    if found is None:
        return nodeid
    said = found["name"].replace("_", " ")
    return f"{said}: {found['case'].replace('_', ' ')}" if found["case"] else said


class CaseLines:
    """Prints the lines as the reports come in."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report):
        """The counts stay pytest's; its letters are not printed."""
        if report.when == "call" or not report.passed:
            kind = "error" if report.failed and report.when != "call" else report.outcome
            return kind, "", ""
        return None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One line for a case that ended, or whose fixtures failed."""
        if report.skipped:
            self._say("SKIPPED", f"{words(report.nodeid)}: {_skip_reason(report)}")
        elif report.failed:
            self._say("FAILED", f"{words(report.nodeid)}: {_reason(report)}")
        elif report.when == "call":
            took = f" ({report.duration:.0f} s)" if report.duration >= SLOW else ""
            self._say("ok", f"{words(report.nodeid)}{took}")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be read at all."""
        if report.failed:
            self._say("FAILED", f"{report.nodeid}: {_reason(report)}")

    def pytest_collection(self) -> None:
        """Before the first test: no file names between the lines."""
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None:
            terminal.showfspath = False

    def _say(self, verdict: str, text: str) -> None:
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        if terminal is not None:
            terminal.ensure_newline()
            terminal.write(f"{verdict:<7}", bold=True, **{COLOURS[verdict]: True})
            terminal.write_line(f"  {text}")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The first line of what went wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else report.longreprtext
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines[0] if crash is not None else lines[-1]) if lines else "no reason given"


def _skip_reason(report: pytest.TestReport) -> str:
    place = report.longrepr
    text = place[2] if isinstance(place, tuple) else str(place)
    return text.removeprefix("Skipped: ")


def pytest_configure(config: pytest.Config) -> None:
    """pytest's entry."""
    config.pluginmanager.register(CaseLines(config), "case-lines-printer")
