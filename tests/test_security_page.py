"""Every row of docs/security.md names a test that is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"\| `(tests/[\w/]+\.py)::(\w+)` \|$", re.MULTILINE)


def test_every_row_of_the_table_can_be_run_by_name() -> None:
    rows = ROW.findall((ROOT / "docs" / "security.md").read_text())
    assert len(rows) > 30
    for path, name in rows:
        tree = ast.parse((ROOT / path).read_text())
        assert name in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}, (path, name)
