"""The lock file: one holder at a time, and none after a kill."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from common.utils.errors import UserError
from common.utils.lock import is_locked, locked

HOLD = (
    "import sys, time\n"
    "from pathlib import Path\n"
    "from common.utils.lock import locked\n"
    "with locked(Path(sys.argv[1])):\n"
    "    print('held', flush=True)\n"
    "    time.sleep(300)\n"
)


def test_it_is_held_inside_and_free_before_and_after(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "lock"
    assert not is_locked(path)
    with locked(path):
        assert is_locked(path)
    assert not is_locked(path)


def test_a_second_holder_is_refused_in_one_line_that_names_the_folder(tmp_path: Path) -> None:
    with (
        locked(tmp_path / "lock"),
        pytest.raises(UserError, match=f"^{tmp_path}: another process is at work in it$"),
        locked(tmp_path / "lock"),
    ):
        pass


def test_a_patient_one_comes_in_when_the_first_has_gone(tmp_path: Path) -> None:
    def hold() -> None:
        with locked(tmp_path / "lock"):
            inside.set()
            time.sleep(0.4)

    inside = threading.Event()
    first = threading.Thread(target=hold)
    first.start()
    inside.wait()
    with locked(tmp_path / "lock", patience=20):
        assert is_locked(tmp_path / "lock")
    first.join()


def test_a_killed_process_holds_nothing_even_before_it_is_reaped(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert is_locked(path)
    holder.kill()
    end = time.monotonic() + 20
    while is_locked(path):
        assert time.monotonic() < end
        time.sleep(0.02)
    holder.wait()
    holder.stdout.close()
