"""Full disks, wrong clocks, an expired certificate (docs/reliability.md)."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from deploy.flower.lines import AGAIN_THERE
from deploy.identity import certificates
from tests.builders.records import events
from tests.faults.command import until
from tests.faults.federation import Federation, Site, lost

PAGE = 4096  # bytes
SMALL = "24m"  # a disk that holds a run of these, or a site


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A disk of its own at `place`."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it mounts a small disk")
    place.mkdir()
    options = ("-t", "tmpfs", "-o", f"size={SMALL}", "tmpfs", str(place))
    if subprocess.run(["mount", *options], check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


def fill(disk: Path) -> Path:
    """A file that takes all that is left."""
    path = disk / "full"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65536)
        except OSError:
            return path


@contextmanager
def moved_to(site: Site, folder: Path) -> Iterator[None]:
    """The site keeps its files in `folder` for a while."""
    home = site.folder
    join_in(site, folder, "--folder", str(folder))
    try:
        yield
    finally:
        join_in(site, home)


def join_in(site: Site, folder: Path, *more: str) -> None:
    site.command.end()
    site.folder = folder
    site.command = site.join(*more)
    site.command.says("joined; what leaves")


def fill_the_page(ledger: Path) -> None:
    """So long a log that the next line needs another page of the disk."""
    last = ledger.read_bytes().splitlines(keepends=True)[-1]
    with ledger.open("ab") as file:
        while PAGE - file.tell() % PAGE > len(last):
            file.write(last)


def test_the_sites_disk_is_full_and_the_others_go_on(federation: Federation) -> None:
    """Nothing leaves that cannot be noted in the log; with room again the site is back."""
    federation.running()
    south = federation.sites["south"]
    with (
        small_disk(federation.home / "disk") as disk,
        moved_to(south, disk / "site"),
    ):
        federation.rounds_since(federation.rounds(), whole=1)
        done = federation.rounds()
        fill_the_page(south.folder / "left.jsonl")
        full = fill(disk)
        until(lambda: any(r["refused"] for r in federation.since(done)))
        (reason,) = federation.since(done)[-1]["refused"].values()
        assert reason == "left.jsonl at the site: No space left on device"
        full.unlink()
        rounds = federation.rounds_since(done)
        assert lost(rounds, "north") == 0
        notes = (south.folder / "left.jsonl").read_text()
        assert notes.endswith("}\n") and "\0" not in notes


def test_the_servers_disk_is_full_and_the_printed_command_goes_on(federation: Federation) -> None:
    federation.end_run()
    with small_disk(federation.home / "runs") as disk:
        federation.run_command = federation.submit(500, "--run-folder", str(disk / "run"))
        until(lambda: federation.rounds() > 0)
        full = fill(disk)
        assert federation.run_command.ends() == 1
        said = federation.run_command.said
        assert "No space left on device" in said and str(disk / "run") in said
        done = federation.rounds()
        full.unlink()
        federation.resume()
        rounds = federation.rounds_since(done)
        assert [r["round"] for r in events(disk / "run", "round")] == list(
            range(1, done + len(rounds) + 1)
        )
        federation.end_run()


@pytest.mark.parametrize("offset", ["+1d", "-1d", "-3d"])
def test_a_clock_that_is_wrong_by_days_is_named_before_anything_starts(
    server: Federation, offset: str
) -> None:
    if shutil.which("faketime") is None:
        pytest.skip("needs faketime (Debian's package of that name)")
    name = f"clock{offset}".replace("+", "-ahead-")
    arguments = ("client", "join", str(server.invite(name)), "--data", str(server.images(name)))
    said = server.covey(*arguments, expect=2, prefix=["faketime", "-f", offset])
    (line,) = [text for text in said.splitlines() if text.startswith("covey: ")]
    named = {"+1d": "ahead of the server's", "-1d": "behind the server's", "-3d": "not yet valid"}
    assert named[offset] in line and "clock" in line


def test_an_expired_certificate_is_named_and_a_restart_of_the_server_renews_it(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sites of before come back by themselves."""
    federation.end_run()
    sites = [federation.sites[name] for name in ("north", "south")]
    said_before = [site.command.said.count(AGAIN_THERE) for site in sites]
    monkeypatch.setattr(certificates, "SERVER_VALIDITY", timedelta(hours=-1))
    federation.folder.certify()
    federation.kill_server("deploy.coordinator.front")
    north = federation.sites["north"]
    arguments = ("client", "join", str(north.invitation), "--data", str(north.data))
    folder = ("--folder", str(federation.home / "expired"))
    said = ""

    def expired() -> bool:
        nonlocal said
        said = federation.covey(*arguments, *folder, expect=2)
        return "has expired" in said

    until(expired)
    assert "its certificate is refused (certificate has expired" in said
    monkeypatch.undo()
    federation.server.process.send_signal(signal.SIGINT)
    assert federation.server.ends() == 0
    federation.server = federation.start_server()
    for site, times in zip(sites, said_before, strict=True):
        site.command.says(AGAIN_THERE, times + 1)
    assert federation.submit(1).ends() == 0
    (event,) = events(federation.run_folder, "round")
    assert event["answered"] == ["north", "south"]
