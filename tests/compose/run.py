"""`make compose-test`: compose.yaml for real, wherever a Docker engine is. A line for each case.

    python3 -m tests.compose.run [LOG]      LOG: a file for all that was said, too

Needs an engine, compose (either generation) and Python's standard library alone: Covey is in the
image. BASE and TORCH_INDEX say what that is built from (docker/Dockerfile). Without BASE, and where
no image registry is reached, root makes a base from Debian's packages with debootstrap, which takes
this machine's certificates along.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from tests.compose.docker_engine import (
    PROJECT,
    FailedError,
    Federation,
    NeededError,
    Record,
    check_index,
    find_base,
    find_compose,
    output_of,
    works,
)

IMAGE = "covey:test"
SITES = ("north", "south", "west")
BUILD_LIMIT, RUN_LIMIT = 7200.0, 1800.0  # seconds
BACK = 300.0  # seconds in which a killed site is in again
LOOK = 0.5
ABSENCE = 180.0  # seconds that the second run goes on after the kill, so that the site is back
KILLED_AFTER = 3  # rounds
KILL_ALL = "import os; os.kill(-1, 9)"  # everything in a container but its init


def _builds(federation: Federation) -> str:
    started = time.monotonic()
    federation.call("build", limit=BUILD_LIMIT, noted=False)
    size = int(output_of(["docker", "image", "inspect", "--format", "{{.Size}}", IMAGE]))
    return f"{size / 2**30:.1f} GiB in {time.monotonic() - started:.0f} s"


def _runs_to_a_report(federation: Federation) -> str:
    before = set(federation.runs.iterdir())
    federation.call("up", "--no-build", "run", limit=RUN_LIMIT)
    status = federation.inspect("run")["State"]["ExitCode"]
    if status != 0:
        raise FailedError(f"the run's container ended with status {status}")
    return _check_run(federation, before)


def _check_run(federation: Federation, before: Collection[Path]) -> str:
    """What a run since `before` left on this machine; `FailedError` where that is not all."""
    [folder] = set(federation.runs.iterdir()) - set(before)
    missing = [
        name
        for name in ("report.html", "encoder.safetensors", "centroids.safetensors", "metrics.jsonl")
        if not (folder / name).stat().st_size
    ]
    if missing:
        raise FailedError(f"{folder.name} has no {', '.join(missing)}")
    rounds = federation.rounds(before)
    size = (folder / "report.html").stat().st_size // 1024
    return f"{len(rounds)} rounds, report.html of {size} KiB"


def _nobody_is_root(federation: Federation) -> str:
    users = {}
    for service in ("server", *SITES):
        status = output_of(
            ["docker", "exec", federation.container(service), "cat", "/proc/1/status"]
        )
        users[service] = next(
            line.split()[1] for line in status.splitlines() if line.startswith("Uid:")
        )
    if "0" in users.values():
        raise FailedError(f"user ids: {users}")
    return f"user {', '.join(sorted(set(users.values())))}"


def _sites_keep_apart(federation: Federation) -> str:
    """A site has its own volume alone, and the server no way to it but the site's own."""
    for site in SITES:
        mounts = {mount.get("Name") for mount in federation.inspect(site)["Mounts"]}
        if mounts != {f"{PROJECT}_{site}"}:
            raise FailedError(f"{site} has the volumes {mounts}")
    return "one volume each"


def _pace(federation: Federation) -> float:
    """Seconds for a round in the run that has been."""
    times = [float(each["time"]) for each in federation.rounds(())]
    return (times[-1] - times[0]) / (len(times) - 1)


def _comes_back(federation: Federation) -> str:
    before = set(federation.runs.iterdir())
    order = ["submit", "covey", "--server=/covey/server", "--sites=3", "--views=digits"]
    order.append(f"--rounds={KILLED_AFTER + 2 + int(ABSENCE / _pace(federation))}")
    federation.record.note(f"\n$ docker compose run --rm run {' '.join(order)}")
    with federation.started("run", "--rm", "-T", "run", *order) as (process, output):
        end = time.monotonic() + RUN_LIMIT
        _await(lambda: len(federation.rounds(before)) >= KILLED_AFTER, end, process, output)
        works(["docker", "exec", federation.container("west"), "python", "-c", KILL_ALL])
        killed = time.monotonic()
        rounds = len(federation.rounds(before))
        _await(
            lambda: federation.inspect("west")["RestartCount"] > 0 and federation.healthy("west"),
            killed + BACK,
        )
        back = time.monotonic() - killed
        _await(lambda: process.poll() is not None, end)
        federation.record.note(output.read_text())
    federation.record.note(f"[west was killed after round {rounds}, and in after {back:.0f} s]")
    if process.returncode:
        raise FailedError(f"the run ended with status {process.returncode}")
    answered = ["west" in round_["answered"] for round_ in federation.rounds(before)]
    without = answered.count(False)
    if not answered[-1]:
        raise FailedError(f"west did not take part again: {without} rounds without it")
    left = _check_run(federation, before)
    return f"in again after {back:.0f} s, {without} rounds without it; {left}"


def _leaves_nothing(federation: Federation) -> str:
    federation.call("down", "--volumes")
    label = ["--filter", f"label=com.docker.compose.project={PROJECT}"]
    for kind in (["ps", "--all"], ["volume", "ls"], ["network", "ls"]):
        left = output_of(["docker", *kind, "--quiet", *label]).split()
        if left:
            raise FailedError(f"docker {' '.join(kind)}: {len(left)} left")
    return "no container, volume or network"


CASES: Mapping[str, Callable[[Federation], str]] = {
    "the image builds": _builds,
    "compose up is a federation that ends with a report on the host": _runs_to_a_report,
    "no process is root": _nobody_is_root,
    "each site has a volume of its own and no other": _sites_keep_apart,
    "a site whose container is killed in a run comes back by itself": _comes_back,
    "compose down leaves nothing": _leaves_nothing,
}


def check(federation: Federation) -> bool:
    """Every case, until one fails; whether all went well."""
    record = federation.record
    try:
        for case, carry_out in CASES.items():
            try:
                record.say(f"ok       {case}: {carry_out(federation)}")
            except FailedError as error:
                record.say(f"FAILED   {case}: {error}")
                return False
            if carry_out is _comes_back:
                federation.call("logs", "--no-color", "--timestamps")
    finally:
        if federation.left():
            federation.call("logs", "--no-color", "--timestamps")
            federation.call("down", "--volumes")
    return True


def main(arguments: list[str]) -> int:
    """The exit status: 1 where a case failed, 0 also where there is nothing to test with."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # also then it is taken down
    record = Record()
    try:
        compose = find_compose()
        check_index()
        base = find_base(record)
    except NeededError as error:
        record.say(f"SKIPPED  compose.yaml for real: needs {error}")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        runs = Path(scratch) / "runs"
        runs.mkdir()
        user = os.getuid() or 1000
        os.chown(runs, user, -1)
        record.replaced[str(runs)] = "runs"
        variables = {"BASE": base, "IMAGE": IMAGE, "RUNS": str(runs), "USER_ID": str(user)}
        good = check(Federation(compose, variables, runs, record))
    if arguments:
        Path(arguments[0]).write_text("\n".join(record.lines) + "\n", encoding="utf-8")
    return 0 if good else 1


def _await(
    done: Callable[[], bool],
    end: float,
    process: "subprocess.Popen[bytes] | None" = None,
    output: Path | None = None,
) -> None:
    """Look until `done`; `FailedError` at `end`, or where `process` has ended without it."""
    while not done():
        if process is not None and process.poll() is not None:
            said = output.read_text().strip().splitlines()[-1:] if output else []
            raise FailedError(f"the run ended early: {' '.join(said)}")
        if time.monotonic() > end:
            raise FailedError("waited in vain")
        time.sleep(LOOK)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("stopped, and taken down")
