"""A home and a folder of weights of the test's own."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where weights are looked for: `$COVEY_WEIGHTS`; the index is beside it."""
    folder = tmp_path / "weights"
    folder.mkdir()
    monkeypatch.setenv("COVEY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COVEY_WEIGHTS", str(folder))
    return folder
