"""The documents as tests read them: headings by their anchor, fenced blocks, the commands of the
numbered steps by which coordinator and site get from nothing to a report."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SERVER = DOCS / "coordinator" / "server.md"
SITE = DOCS / "site" / "join.md"
STEP = re.compile(r"^### (\d+\. [^\n]*)\n(.*?)(?=^##)", re.S | re.M)
SITES_STEP = re.compile(r"\d+\. \[[^]]+\]\(\.\./site/join\.md#([\w-]+)\)$")
BLOCK = re.compile(r"^```\w*\n(.*?)^```$", re.S | re.M)
LINK = re.compile(r"!?\[([^]]*)\]\([^)]*\)")


def anchor(heading: str) -> str:
    """What a link to a heading ends in, as GitHub makes it of the heading's words."""
    words = re.sub(r"[^\w\- ]", "", LINK.sub(r"\1", heading).lower())
    return words.strip().replace(" ", "-")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings; a comment in a fenced block is no heading."""
    text = BLOCK.sub("", page.read_text("utf-8"))
    return {anchor(heading) for heading in re.findall(r"^#+ (.*)", text, re.M)}


def commands(text: str) -> list[str]:
    """The lines of the fenced blocks."""
    return [line for block in BLOCK.findall(text) for line in block.splitlines() if line.strip()]


def printed_steps() -> list[tuple[str, str]]:
    """(who, command) of every line in the fenced blocks of the numbered steps, in the order of the
    coordinator's page; where a step of that page is a link, those of the site's step.

    Raises ValueError where the coordinator's page does not come to a step of the site's."""
    of_site = {anchor(title): text for title, text in STEP.findall(SITE.read_text("utf-8"))}
    lines: list[tuple[str, str]] = []
    for title, text in STEP.findall(SERVER.read_text("utf-8")):
        lines += [("Coordinator", line) for line in commands(text)]
        if step := SITES_STEP.match(title):
            lines += [("Site", line) for line in commands(of_site.pop(step[1]))]
    if of_site:
        raise ValueError(f"{SERVER} has no link to {sorted(of_site)}")
    return lines
