"""Between a connection and its trainer: answers, refusals, and a trainer that dies."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from client.resident import process, service
from client.resident.channel import Channel, ask, put
from client.resident.process import AGAIN, ENDED, TrainerProcess
from client.resident.service import NamedSocket, serve_inherited, serve_named
from client.resident.warm_up import warm_up
from common.utils.errors import UserError

PIECES = """
import ctypes
from pathlib import Path
from common.utils import memory

def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith("VmRSS"))

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
pieces = [library.malloc(1000) for _ in range(100_000)]
for piece in pieces:
    ctypes.memset(ctypes.c_void_p(piece), 1, 1000)
last = library.malloc(1000)
for piece in pieces:
    library.free(ctypes.c_void_p(piece))
before = resident()
memory.release()
print(before, resident())
"""
# A trainer of three lines: the file that it is given counts its answers; "die" ends it, the first
# time.
SCRIPT = """
import os, sys
from pathlib import Path
from client.resident.service import serve_inherited
from common.utils.errors import UserError

count = Path(sys.argv[1])

def handle(record):
    count.open("a").write(".")
    if record == b"die" and len(count.read_text()) == 1:
        os.kill(os.getpid(), 9)
    if record == b"always die":
        os._exit(1)
    if record == b"refuse":
        raise UserError("images are too few")
    if record == b"fail":
        raise KeyError("x")
    return record + str(os.getpid()).encode()

print("ready")
serve_inherited(int(sys.argv[3]), handle)
"""


@pytest.fixture
def said():
    return []


@pytest.fixture
def trainer(tmp_path, said, monkeypatch):
    monkeypatch.setattr(process, "FIRST", 0.05)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "count")]
    made = TrainerProcess(command, tmp_path / "trainer.log", said.append)
    yield made
    made.stop()


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_a_record_goes_there_and_an_answer_comes_back(trainer, tmp_path):
    large = os.urandom(20_000_000)
    assert trainer.ask(large).startswith(large)
    assert (tmp_path / "trainer.log").read_text() == "ready\n"


def test_what_the_trainer_refuses_is_told_in_its_own_words_and_it_goes_on(trainer):
    before = trainer.ask(b"")
    with pytest.raises(UserError, match=r"^images are too few$"):
        trainer.ask(b"refuse")
    with pytest.raises(RuntimeError, match="KeyError: 'x'"):
        trainer.ask(b"fail")
    assert trainer.ask(b"") == before


def test_a_trainer_that_dies_at_work_is_asked_again(trainer, tmp_path, said):
    assert trainer.ask(b"die").startswith(b"die")
    assert (tmp_path / "count").read_text() == ".."
    assert said == [AGAIN]


def test_a_trainer_that_dies_of_every_attempt_is_one_line_and_not_for_ever(trainer, said):
    with pytest.raises(UserError, match="ended 5 times at work on this"):
        trainer.ask(b"always die")
    assert trainer.ask(b"").isdigit()


def test_a_trainer_that_is_killed_while_idle_is_back(trainer, said):
    pid = int(trainer.ask(b""))
    os.kill(pid, signal.SIGKILL)
    until(lambda: said)
    assert int(trainer.ask(b"")) != pid


def test_a_trainer_that_cannot_start_is_one_line_and_is_not_started_again(tmp_path, said):
    broken = TrainerProcess([sys.executable, "-c", "1/0"], tmp_path / "log", said.append)
    with pytest.raises(UserError, match=ENDED):
        broken.wait()
    assert "ZeroDivisionError" in (tmp_path / "log").read_text() and said == []


def test_a_trainer_that_is_not_up_yet_is_waited_for_so_long(tmp_path, said):
    slow = TrainerProcess([sys.executable, "-c", SLEEPS], tmp_path / "log", said.append)
    with pytest.raises(UserError, match="not ready within 0 s"):
        slow.wait(0.2)
    slow.stop()


def test_a_trainer_ends_with_whoever_started_it(tmp_path):
    code = f"""
import os, sys
from pathlib import Path
from client.resident.process import TrainerProcess
trainer = TrainerProcess([sys.executable, "-c", {SCRIPT!r}, sys.argv[1]], Path(sys.argv[2]), print)
print(trainer.ask(b"").decode(), flush=True)
os.kill(os.getpid(), 9)
"""
    arguments = [str(tmp_path / "count"), str(tmp_path / "log")]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    pid = int(done.stdout)

    def over():
        try:
            return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True

    until(over)


def test_the_trainers_end_says_that_it_is_ready_and_ends_with_the_other():
    ours, its = socket.socketpair()
    channel = Channel(ours)
    thread = threading.Thread(
        target=serve_inherited, args=(os.dup(its.fileno()), lambda r: r[::-1])
    )
    its.close()
    thread.start()
    assert channel.receive() == b"+" and put(channel, b"abc") == b"cba"
    ours.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_trainer_that_is_not_asked_gives_freed_memory_back_and_answers_as_ever(monkeypatch):
    given_back = threading.Event()
    monkeypatch.setattr(service, "IDLE", 0.01)
    monkeypatch.setattr(service.memory, "release", given_back.set)
    ours, its = socket.socketpair()
    threading.Thread(target=serve_inherited, args=(its.detach(), lambda r: r), daemon=True).start()
    with Channel(ours) as channel:
        assert channel.receive() == b"+" and given_back.wait(10)
        assert put(channel, b"abc") == b"abc"


def test_memory_that_was_freed_goes_back_to_the_system():
    """A process of its own: many small pieces, all freed but the last, which keeps the C library
    from giving back the rest by itself."""
    done = subprocess.run(
        [sys.executable, "-c", PIECES], capture_output=True, text=True, check=True
    )
    before, after = map(int, done.stdout.split())
    assert after < before - 40_000  # kB


def serve(path):
    threading.Thread(
        target=serve_named, args=(NamedSocket(path), lambda record: record + b"!"), daemon=True
    ).start()


def test_a_named_socket_answers_in_a_private_folder(tmp_path):
    serve(tmp_path / "s" / "t.sock")
    assert ask(str(tmp_path / "s" / "t.sock"), b"x" * 20_000_000) == b"x" * 20_000_000 + b"!"
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("how", ["the file", "the folder", "another in its place"])
def test_a_named_socket_that_is_deleted_is_there_again(tmp_path, how):
    """What a system's cleaner does to files in the temporary folder after ten days."""
    path = tmp_path / "s" / "t.sock"
    serve(path)
    assert ask(str(path), b"a") == b"a!"
    if how == "the folder":
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    if how == "another in its place":
        path.write_text("")
    assert ask(str(path), b"b", patience=20.0) == b"b!"


def test_no_trainer_at_all_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no trainer answers"):
        ask(str(tmp_path / "t.sock"), b"", patience=0.3)


def test_a_socket_path_that_is_too_long_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="longer than"):
        NamedSocket(tmp_path / ("x" * 120) / "t.sock")


def test_warming_up_changes_no_random_number():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    warm_up(torch.device("cpu"))
    assert torch.equal(torch.rand(3), wanted)


SLEEPS = "import time; time.sleep(60)"
LEAN = """
import sys, torch
if sys.argv[1] == "lean":
    from client.resident.lean_torch import leave_compiler_out
    leave_compiler_out()
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(20, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
for kind, more in ((torch.optim.AdamW, {}), (torch.optim.SGD, {"momentum": 0.9})):
    optimiser = kind(net.parameters(), lr=1e-2, fused=True, **more)
    for _ in range(3):
        optimiser.zero_grad(set_to_none=True)
        net(torch.rand(4, 20)).square().mean().backward()
        optimiser.step()
    optimiser.load_state_dict(optimiser.state_dict())
print("torch._dynamo.utils" in sys.modules, *(p.sum().item().hex() for p in net.parameters()))
import torch._dynamo.config
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item())
print(torch._dynamo.config.__name__, "torch._dynamo.utils" in sys.modules)
"""


def test_without_the_compiler_optimisers_do_the_same_and_who_wants_it_has_it():
    lean, whole = (
        subprocess.run(
            [sys.executable, "-c", LEAN, how], capture_output=True, text=True, check=True
        ).stdout.split("\n", 1)
        for how in ("lean", "whole")
    )
    assert lean[0].split()[0] == "False" and whole[0].split()[0] == "True"
    assert lean[0].split()[1:] == whole[0].split()[1:]
    assert lean[1] == whole[1] == "2.0\ntorch._dynamo.config True\n"


def test_the_shim_imports_no_torch():
    """Flower starts a process per message: two seconds of imports each would be felt."""
    code = "import sys, client.app; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
