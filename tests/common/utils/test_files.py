"""Files that are never half written, also where the disk is full."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.utils.files import append_line, write_atomic


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes: what is written is cut there, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_that_does_not_fit_leaves_nothing_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "left.jsonl"
    append_line(path, "a" * 50)
    with room_for(80), pytest.raises(OSError, match=r"left\.jsonl"):
        append_line(path, "b" * 50)
    append_line(path, "c")
    assert path.read_text() == "a" * 50 + "\nc\n"


@pytest.mark.parametrize("broken", ["", '{"half', "x" * 100_000])
def test_what_a_killed_process_left_of_a_line_is_taken_off(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "left.jsonl"
    path.write_text("first\n" + broken)
    append_line(path, "second")
    assert path.read_text() == "first\nsecond\n"


def test_a_file_that_does_not_fit_leaves_the_old_one_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    write_atomic(path, b"old")
    with room_for(1000), pytest.raises(OSError, match="checkpoint"):
        write_atomic(path, b"n" * 5000)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["checkpoint"]
