"""The lock names all that Covey brings, and the page of dependencies has its versions."""

import re
import sys

import pytest
from packaging.requirements import Requirement

from tests.builders.pages import DOCS
from tests.lock import LOCK, TORCH, TORCH_LOCK, needed

PYTHON = re.compile(r'python_version == "([\d.]+)"')


def locked() -> dict[str, str]:
    """Name -> version, of both files."""
    pins = [line for path in (LOCK, TORCH_LOCK) for line in path.read_text().splitlines()]
    found = [Requirement(pin) for pin in pins if pin and not pin.startswith("#")]
    return {one.name: str(one.specifier).removeprefix("==") for one in found}


def test_it_holds_for_the_python_that_it_was_made_with_alone() -> None:
    text = LOCK.read_text() + TORCH_LOCK.read_text()
    assert len(set(PYTHON.findall(text))) == 1
    assert len(PYTHON.findall(text)) == len(locked())


def test_all_that_is_needed_is_locked() -> None:
    (python,) = set(PYTHON.findall(LOCK.read_text()))
    if python != ".".join(map(str, sys.version_info[:2])):
        pytest.skip(f"needs Python {python}, which the lock was made with")
    assert sorted(needed().keys() - locked().keys()) == [], "`make lock` adds what is new"


def test_what_a_pytorch_brings_is_apart() -> None:
    """Where another build is installed, `make install` leaves the second file aside; whatever that
    build pins (sympy, of some) must not be in the first."""
    first, second = LOCK.read_text(), TORCH_LOCK.read_text()
    assert all(f"\n{name}==" in second and f"\n{name}==" not in first for name in TORCH)
    assert "\nsympy==" in second and "\nsympy==" not in first


def test_the_page_of_dependencies_has_the_locked_versions() -> None:
    rows = re.findall(
        r"^\| ([\w, -]+) \|.*\| ([\d., ]+) \|$", (DOCS / "dependencies.md").read_text(), re.M
    )
    listed = {
        name.lower().replace("_", "-"): version
        for names, versions in rows
        for name, version in zip(names.split(", "), versions.split(", "), strict=True)
    }
    assert len(listed) > 25
    here = locked()
    assert {n: v for n, v in listed.items() if here.get(n, v) != v} == {}
