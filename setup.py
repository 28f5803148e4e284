"""Everything about the package is in pyproject.toml, but for what a package index shows.

An index has no files beside the README: its pictures are left out there, and what it links to in
this project is named instead, as a path in the source archive.
"""

import re
from pathlib import Path

from setuptools import setup

README = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
PICTURE = re.compile(r"!\[[^]]*\]\((?!\w+:)[^)]*\)\n*")
LINK = re.compile(r"\[([^]]*)\]\((?!\w+:)([^)#]*)[^)]*\)")


def for_an_index(text: str) -> str:
    """The README without relative links."""
    return LINK.sub(r"\1 (`\2`)", PICTURE.sub("", text))


setup(
    long_description=for_an_index(README),
    long_description_content_type="text/markdown",
)
