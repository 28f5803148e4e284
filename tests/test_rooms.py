"""The house keeps its order: imports go one way, Flower's insides are touched in one room."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wheel import ROOT, packages

MAY_IMPORT = {
    "common": set(),
    "client": {"common"},
    "server": {"common"},
    "deploy": {"common", "client", "server"},
    "covey": {"common", "client", "server", "deploy"},
}
LONGEST = 300  # lines of a file


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, in full."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def test_every_package_is_a_room() -> None:
    assert set(packages()) == MAY_IMPORT.keys()


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_go_one_way(room: str) -> None:
    others = MAY_IMPORT.keys() - MAY_IMPORT[room] - {room}
    wrong = [
        f"{path.relative_to(ROOT)}: {module}"
        for path in files(room)
        for module in imports(path)
        if module.partition(".")[0] in others
    ]
    assert wrong == []


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_file_is_read_in_one_go(room: str) -> None:
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in files(room)}
    assert lines
    assert {str(p.relative_to(ROOT)): n for p, n in lines.items() if n > LONGEST} == {}
