"""The socket between shim and trainer: answers, refusals, and a trainer that dies."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from client.resident.channel import ask
from client.resident.service import serve
from common.utils.errors import UserError


def test_a_record_goes_there_and_an_answer_comes_back(tmp_path: Path) -> None:
    large = b"x" * 20_000_000  # beyond gRPC's default limit of 4 MB
    server = serve(tmp_path / "s" / "t.sock", lambda record: record + b"!")
    try:
        assert ask(str(tmp_path / "s" / "t.sock"), large) == large + b"!"
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700
    finally:
        server.stop(None)


def test_what_the_trainer_refuses_is_told_in_its_own_words(tmp_path: Path) -> None:
    def refuse(_record: bytes) -> bytes:
        raise UserError("images are too few")

    server = serve(tmp_path / "t.sock", refuse)
    try:
        with pytest.raises(UserError, match="images are too few"):
            ask(str(tmp_path / "t.sock"), b"")
    finally:
        server.stop(None)


def test_a_trainer_that_is_not_up_yet_is_waited_for(tmp_path: Path) -> None:
    servers = []

    def start_late() -> None:
        time.sleep(0.5)
        servers.append(serve(tmp_path / "t.sock", lambda record: record))

    thread = threading.Thread(target=start_late)
    thread.start()
    assert ask(str(tmp_path / "t.sock"), b"hello") == b"hello"
    thread.join()
    servers[0].stop(None)


def test_no_trainer_at_all_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trainer answers"):
        ask(str(tmp_path / "t.sock"), b"", patience=0.3)


def test_a_socket_path_that_is_too_long_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="longer than"):
        serve(tmp_path / ("x" * 120) / "t.sock", lambda record: record)


def test_the_shim_imports_no_torch() -> None:
    """Flower starts a process per message: two seconds of imports each would be felt."""
    code = "import sys, client.app; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
