"""A SuperLink in a process of its own: killed, whenever it is, it costs no message and no reply;
large messages do not fill its memory."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.supercore.retry import make_simple_http_retry_invoker

from deploy.flower import commands as flower
from deploy.flower.control import Control, UnreachableError
from deploy.flower.whole import AppCalls
from deploy.identity.certificates import (
    Authority,
    issue_server,
    make_authority,
    private_folder,
    write_secret,
)
from deploy.processes.supervisor import LOOPBACK, environment, free_port
from tests.deploy.flower.place import App, Place, Site, content_of, message_to, reply_to, state_in

pytestmark = [pytest.mark.federation, pytest.mark.timeout(600)]
PATIENCE = 120.0


class Killed:
    """A SuperLink in a process of its own, to be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority: Authority = make_authority(private_folder(folder / "certificates"))
        certificate = issue_server(self.authority, folder / "certificates", ())
        self.command = flower.superlink_command(
            LOOPBACK,
            free_port(),
            self.authority,
            certificate,
            secret=write_secret(folder / "superexec.secret"),
            database=folder / "superlink.db",
        )
        self.port = int(self.command[self.command.index("--port") + 1])
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        variables = environment(private_folder(self.folder / "flwr")) | {
            "PYTHONPATH": str(Path.cwd())
        }
        with (self.folder / "superlink.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=variables, stdout=log, stderr=log
            )
        end = time.monotonic() + PATIENCE
        while True:
            try:
                Control(LOOPBACK, self.port, self.authority.certificate, timeout=2.0).sites()
                return
            except UnreachableError:
                assert time.monotonic() < end and self.process.poll() is None
                time.sleep(0.1)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def superlink(tmp_path_factory) -> Iterator[Killed]:
    killed = Killed(tmp_path_factory.mktemp("superlink"))
    killed.start()
    try:
        yield killed
    finally:
        killed.kill()


@pytest.fixture(scope="module")
def place(superlink: Killed) -> Iterator[Place]:
    """Another process's look into the same database, which lets sites and ServerApps in."""
    with state_in(superlink.folder) as state:
        yield Place(superlink.port, superlink.folder, state, None)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as executor:
        yield executor


def ends(place: Place, superlink: Killed) -> tuple[Site, App]:
    """A site and a ServerApp over TLS, with Flower's own retries."""
    authority = superlink.authority.certificate.read_bytes()
    site, app = place.site(), place.serverapp(authority)
    site.calls = site.through(place.address, authority, make_simple_http_retry_invoker())
    app.calls = AppCalls(app.client, make_simple_http_retry_invoker())
    return site, app


def test_what_had_arrived_is_there_and_nothing_is_handed_out_twice(
    place: Place, superlink: Killed
) -> None:
    site, app = ends(place, superlink)
    ids = app.ask(site, content=b"first")
    site.answer(b"answered before")
    superlink.kill()
    superlink.start()
    assert app.hear(ids) == b"answered before"
    second = app.ask(site, content=b"second")
    superlink.kill()
    superlink.start()
    delivery = site.calls.pull(20.0)
    assert delivery is not None and delivery.head.metadata.message_id == second[0]
    assert content_of(delivery.open()) == b"second"


def test_questions_that_were_held_are_asked_again(place: Place, superlink: Killed, pool) -> None:
    site, app = ends(place, superlink)
    asked = pool.submit(site.calls.pull, 20.0)
    time.sleep(1.0)
    superlink.kill()
    superlink.start()
    ids = app.ask(site, content=b"after")
    message = asked.result(PATIENCE).open()
    heard = pool.submit(app.hear, ids, None, 20.0)
    time.sleep(1.0)
    superlink.kill()
    superlink.start()
    site.calls.push(reply_to(message, b"heard"), 1.0)
    assert heard.result(PATIENCE) == b"heard"


def test_it_ends_when_it_is_told_to_though_questions_are_held(
    place: Place, superlink: Killed, pool
) -> None:
    site, _ = ends(place, superlink)
    asked = pool.submit(site.calls.pull, 20.0)
    time.sleep(1.0)
    assert superlink.process is not None
    start = time.monotonic()
    superlink.process.send_signal(signal.SIGTERM)
    superlink.process.wait(PATIENCE)
    assert time.monotonic() - start < 15
    superlink.start()
    assert asked.result(PATIENCE) is None


@pytest.mark.parametrize("wait", [0.05, 0.2, 0.5])
def test_a_large_reply_under_way_arrives_once(
    place: Place, superlink: Killed, pool, wait: float
) -> None:
    site, app = ends(place, superlink)
    ids = app.ask(site, content=b"large")
    message = site.calls.pull(20.0).open()
    content = os.urandom(60_000_000)
    pushing = pool.submit(site.calls.push, reply_to(message, content), 1.0)
    time.sleep(wait)
    superlink.kill()
    superlink.start()
    pushing.result(PATIENCE)
    assert app.hear(ids) == content
    assert not list(superlink.folder.glob("tmp*"))  # of what was coming in, nothing is left
    app.calls.pull([], ids, 0.0)


def test_large_messages_do_not_fill_its_memory(place: Place, superlink: Killed) -> None:
    """40 MB down and 160 MB up, by three sites; as much again would be 600 MB."""
    app = ends(place, superlink)[1]
    sites = [ends(place, superlink)[0] for _ in range(3)]
    rng = np.random.default_rng(0)
    assert superlink.process is not None
    peak, over = Peak(superlink.process.pid), threading.Event()
    watching = threading.Thread(target=peak.watch, args=(over,))
    before = peak.now()
    watching.start()
    try:
        record = RecordDict({"model": ArrayRecord({"a": Array(rng.random(10**7, np.float32))})})
        messages = [message_to(site.node, app.run.run_id, record) for site in sites]
        ids = app.calls.push(messages)
        for site in sites:
            message = site.calls.pull(20.0).open()
            larger = ArrayRecord({"a": Array(rng.random(4 * 10**7, np.float32))})
            site.calls.push(Message(RecordDict({"model": larger}), reply_to=message), 1.0)
            del message, larger
        left = set(ids)
        while left:
            delivery = app.calls.pull(left, [], 20.0)
            assert delivery.open().content["model"]["a"].numpy().nbytes == 160_000_000
            done = delivery.head.metadata.reply_to_message_id
            left.discard(done)
            app.calls.pull([], [done], 0.0)
            del delivery
    finally:
        over.set()
        watching.join()
    assert peak.most - before < 150e6


class Peak:
    """The most memory that a process has had of its own."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/status")
        self.most = 0.0

    def now(self) -> float:
        lines = self._path.read_text().splitlines()
        return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))

    def watch(self, over: threading.Event) -> None:
        while not over.wait(0.05):
            self.most = max(self.most, self.now())
