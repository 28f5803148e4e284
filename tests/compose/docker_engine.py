"""A Docker engine, as the test of compose.yaml uses it: compose commands, containers, a base image.

The standard library alone, so that it works where nothing of Covey is installed.
"""

import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "deploy" / "compose.yaml"
PROJECT = "covey-test"
USUAL_BASE, MADE_BASE = "python:3.11-slim", "covey-base:debian"
USUAL_INDEX, INDEX_LIMIT = "https://download.pytorch.org/whl/cpu", 20.0  # seconds
SUITE, PACKAGES = "bookworm", "python3,python3-venv,ca-certificates"
_LABEL = f"label=com.docker.compose.project={PROJECT}"
CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")


class NeededError(Exception):
    """This machine lacks something, so that there is no test."""


class FailedError(Exception):
    """A case has failed."""


@dataclass
class Record:
    """What was said, for the log; paths of this machine are replaced in it."""

    replaced: dict[str, str] = field(default_factory=lambda: {str(ROOT): "."})
    lines: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Add lines to the log alone."""
        for path, name in self.replaced.items():
            text = text.replace(path, name)
        self.lines.extend(line.rstrip() for line in text.splitlines())

    def say(self, text: str) -> None:
        """Print a line, too."""
        print(text, flush=True)
        self.note(text)


@dataclass(frozen=True)
class Federation:
    """The project that compose.yaml describes: the compose command, its environment, the folder
    of runs on this machine."""

    compose: Sequence[str]
    variables: Mapping[str, str]
    runs: Path
    record: Record

    def call(self, *arguments: str, limit: float | None = None, noted: bool = True) -> str:
        """Run a compose command and return what it prints; `FailedError` where it fails. A build
        is not `noted` in the log: it prints hundreds of lines, and names this machine's indexes."""
        self.record.note(f"\n$ docker compose {' '.join(arguments)}")
        with self.started(*arguments) as (process, output):
            try:
                status = process.wait(limit)
            except subprocess.TimeoutExpired:
                status = -1
            text = output.read_text()
        if noted:
            self.record.note(text)
        if status:
            what = "takes too long" if status < 0 else f"exit status {status}"
            raise FailedError(f"docker compose {arguments[0]}: {what}: {_last_line(text)}")
        return text

    @contextmanager
    def started(self, *arguments: str) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
        """A compose command under way, and the file of what it prints; ended on the way out."""
        command = [
            *self.compose,
            "--ansi",
            "never",
            "-f",
            str(COMPOSE_FILE),
            "-p",
            PROJECT,
            *arguments,
        ]
        with tempfile.TemporaryDirectory() as scratch:
            output = Path(scratch) / "output"
            with output.open("wb") as file:
                process = subprocess.Popen(
                    command,
                    env=os.environ | self.variables,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            try:
                yield process, output
            finally:
                if process.poll() is None:
                    process.terminate()
                process.wait()

    def container(self, service: str) -> str:
        """The id of its container."""
        own = f"label=com.docker.compose.service={service}"
        found = output_of(
            ["docker", "ps", "--all", "--quiet", "--filter", _LABEL, "--filter", own]
        ).split()
        if not found:
            raise FailedError(f"there is no container of {service}")
        return found[0]

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker knows of the container of `service`."""
        known = json.loads(output_of(["docker", "inspect", self.container(service)]))
        return dict(known[0])

    def left(self) -> bool:
        """Whether it has a container, running or not."""
        return bool(output_of(["docker", "ps", "--all", "--quiet", "--filter", _LABEL]).split())

    def healthy(self, service: str) -> bool:
        """Whether its health check passes."""
        state = self.inspect(service)["State"]
        return bool(state.get("Health", {}).get("Status") == "healthy")

    def rounds(self, known: Collection[Path]) -> list[dict[str, Any]]:
        """The rounds so far of the run whose folder is not among `known`."""
        for file in self.runs.glob("*/metrics.jsonl"):
            if file.parent not in known:
                whole = file.read_text().split("\n")[:-1]  # the last one may be half written
                events = [json.loads(line) for line in whole]
                return [event for event in events if event["event"] == "round"]
        return []


def output_of(command: Sequence[str]) -> str:
    """What a command prints; `FailedError` where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise FailedError(f"{' '.join(command[:3])}: {_last_line(done.stderr)}")
    return done.stdout


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def works(command: Sequence[str]) -> bool:
    """Whether the program is there and the command succeeds."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def find_compose() -> list[str]:
    """The compose command; `NeededError` where there is no engine, or no compose."""
    if not works(["docker", "info"]):
        raise NeededError("a running Docker engine that this user may use (`docker info`)")
    for command in (["docker", "compose"], ["docker-compose"]):
        if works([*command, "version"]):
            return command
    raise NeededError("docker compose")


def check_index() -> None:
    """`NeededError` where the index that torch is to come from (TORCH_INDEX) is not reached."""
    index = os.environ.get("TORCH_INDEX", USUAL_INDEX)
    if not index:
        return
    try:
        address = f"{index.rstrip('/')}/torch/"
        with urllib.request.urlopen(address, timeout=INDEX_LIMIT):
            return
    except (OSError, ValueError) as error:
        raise NeededError(
            f"an index with torch: {index} cannot be read ({error}); set TORCH_INDEX, "
            "empty for pip's own"
        ) from None


def find_base(record: Record) -> str:
    """An image to build from: BASE; the usual one; or one made here. `NeededError` for none."""
    named = os.environ.get("BASE", "")
    if named:
        return named
    for image in (USUAL_BASE, MADE_BASE):
        if works(["docker", "image", "inspect", image]):
            return image
    if works(["docker", "pull", "--quiet", USUAL_BASE]):
        return USUAL_BASE
    if os.getuid() != 0 or shutil.which("debootstrap") is None:
        raise NeededError(
            f"a base image: {USUAL_BASE} cannot be pulled; set BASE, or be root with debootstrap"
        )
    record.say(f"no image registry is reached: making {MADE_BASE} with debootstrap (minutes)")
    return _make_base()


def _make_base() -> str:
    """A minimal Debian with Python, and this machine's certificates, also for pip."""
    with tempfile.TemporaryDirectory() as scratch:
        system = Path(scratch) / "system"
        output_of(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(system)])
        shutil.copyfile(Path("/") / CERTIFICATES, system / CERTIFICATES)
        (system / "etc" / "pip.conf").write_text(f"[global]\ncert = /{CERTIFICATES}\n")
        archive = Path(scratch) / "system.tar"
        output_of(["tar", "--create", "--directory", str(system), "--file", str(archive), "."])
        output_of(["docker", "import", str(archive), MADE_BASE])
    return MADE_BASE
