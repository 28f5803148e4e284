"""The package is small, typed, quick to import, and as its page says."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import covey

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "researcher" / "python.md"


def test_what_is_public_has_a_text_and_the_rest_a_name_that_says_it_is_private() -> None:
    names = {name for name in vars(covey) if not name.startswith("_")}
    assert names == set(covey.__all__)
    for name in covey.__all__:
        assert name in PAGE.read_text(), name
    files = {path.name for path in (ROOT / "covey").glob("*.py")}
    assert all(name.startswith("_") for name in files)
    assert (ROOT / "covey" / "py.typed").exists()


def test_importing_it_imports_no_torch() -> None:
    code = "import covey, sys; assert not {'torch', 'sklearn', 'flwr'} & set(sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )


def test_the_code_of_the_page_runs_as_it_is_printed(tmp_path: Path, monkeypatch, capsys) -> None:
    """In its order, each block knowing what those before it made; a comment after an expression is
    how what it gives begins."""
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    checked = 0
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S):
        lines = block.splitlines()
        for node in ast.parse(block).body:
            text = ast.unparse(node)
            if not isinstance(node, ast.Expr):
                exec(text, space)
                continue
            value = eval(text, space)
            said = re.search(r"  # (.+)$", lines[node.end_lineno - 1])
            if said:
                assert repr(value).startswith(said[1].removesuffix("...")), (text, value)
                checked += 1
    assert checked >= 5
