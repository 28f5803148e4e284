"""Random kill -9 of every process of small runs: nothing hangs, nothing is damaged, and what comes
out is what the same sites give undisturbed.

    python benchmarks/random_kills.py --kills 200
    python benchmarks/random_kills.py --kills 25 --recipe covey --rounds 6

Each run is a `covey run` of its own: SuperLink, ServerApp, SuperExec, the sites' connections and
trainers and the command itself are killed at random moments, drawn by seed; where the run
ends, the command that it printed goes on with it. A finished run is done again in this process with
the same sites answering in each round, and the encoders are compared byte by byte.
"""

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import typer
from _replay import answered, replay
from _table import show
from safetensors.numpy import load_file

from client.workbench import Workshop, pick_device
from common.data.partition import Partition
from common.data.planned import planned_data
from common.record.reader import has_run, read_events
from deploy.engines.in_process import sites_of
from server.run.folder import RunFolder

ROLES = {
    "covey run": "deploy.cli.main",
    "SuperLink": "deploy.flower.superlink",
    "ServerApp": "flwr-serverapp",
    "SuperExec": "flower-superexec",
    "connection": "deploy.flower.connection",
    "trainer": "client.resident",
}
OPTIONS = {
    "dataset": "digits",
    "images": "150",
    "sites": "3",
    "local-epochs": "2",
    "batch-size": "32",
    "device": "cpu",
}
MARK = "COVEY_RANDOM_KILLS"
GUARDIAN = "child.py"
LOOK = 0.1
FAREWELL = 20.0
SLOW = "did not come up within"
WAY_ON = re.compile(r"`covey run --resume (?P<run>.+)` goes on")


@dataclass
class Outcome:
    """What one run came to."""

    kills: Counter[str] = field(default_factory=Counter)
    resumed: int = 0
    seconds: float = 0.0
    incomplete: int = 0  # rounds without all sites
    faults: list[str] = field(default_factory=list)


class Run:
    """One `covey run`, killed and resumed until it has finished."""

    def __init__(self, folder: Path, options: list[str], chance: random.Random) -> None:
        self.folder, self.options, self.generator = folder, options, chance
        self.sockets = tempfile.mkdtemp(prefix="ck-")
        self.text = folder.with_suffix(".txt")
        self.outcome = Outcome()

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        variables = {"TMPDIR": self.sockets, MARK: self.folder.name, "COLUMNS": "200"}
        with self.text.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "deploy.cli.main", "run", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | variables,
                cwd=self.folder.parent,
            )

    def carry_through(self, kills: int, every: float, patience: float) -> Outcome:
        """Run to the end with at most `kills` kills, `every` seconds apart on average. A run that
        shows nothing new for `patience` seconds hangs."""
        started = time.monotonic()
        process = self.start(*self.options, "--run-folder", str(self.folder))
        try:
            while True:
                left = kills - self.outcome.kills.total()
                if not self._disturb(process, left, every, patience):
                    self.outcome.faults.append(f"hung: {self.text}")
                    break
                if process.returncode == 0:
                    break
                self._await_the_end()
                self.outcome.resumed += 1
                way_on = ["--resume", str(self.folder)]
                if not has_run(self.folder):  # it had not begun
                    way_on = [*self.options, "--run-folder", str(self.folder)]
                elif process.returncode > 0 and not self._names_the_way_on():
                    self.outcome.faults.append(f"ended without a way on: {self.text}")
                    break
                process = self.start(*way_on)
        finally:
            process.kill()
            process.wait()
        self.outcome.seconds = time.monotonic() - started
        return self.outcome

    def _await_the_end(self) -> None:
        """Of what a killed command has started: its guardians end it within seconds."""
        end = time.monotonic() + FAREWELL
        while self._victims() and time.monotonic() < end:
            time.sleep(LOOK)

    def _names_the_way_on(self) -> bool:
        text = self.text.read_text()
        if SLOW in text.splitlines()[-1]:  # a busy machine: nothing was begun
            return True
        found = WAY_ON.findall(text)
        return bool(found) and shlex.split(found[-1]) == [str(self.folder)]

    def _disturb(
        self, process: subprocess.Popen[bytes], kills: int, every: float, patience: float
    ) -> bool:
        """Kill now and then until the process has ended; False where nothing happens any more."""
        due = time.monotonic() + self.generator.expovariate(1 / every)
        role = self.generator.choice(sorted(ROLES))
        seen, changed = "", time.monotonic()
        while process.poll() is None:
            now = time.monotonic()
            state = self._state()
            if state != seen:
                seen, changed = state, now
            if now - changed > patience:
                return False
            if kills and now >= due and self._kill(role):  # or as soon as there is one
                kills -= 1
                role = self.generator.choice(sorted(ROLES))
                due = now + self.generator.expovariate(1 / every)
            time.sleep(LOOK)
        return True

    def _state(self) -> str:
        events = len(read_events(self.folder)[0])
        return f"{events} {self.text.stat().st_size} {self.outcome.kills.total()}"

    def _kill(self, role: str) -> bool:
        """Kill one process of this role, if there is one."""
        victims = self._victims()
        if not victims.get(role):
            return False
        os.kill(self.generator.choice(sorted(victims[role])), signal.SIGKILL)
        self.outcome.kills[role] += 1
        return True

    def _victims(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        mark = f"{MARK}={self.folder.name}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark not in (entry / "environ").read_bytes().split(b"\0"):
                    continue
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if GUARDIAN in command:
                continue
            for role, word in ROLES.items():
                if word in command:
                    found.setdefault(role, []).append(int(entry.name))
                    break
        return found


def check(folder: Path, outcome: Outcome) -> None:
    """Note what is wrong with a finished run: damaged files, a result that is not its own."""
    for path in folder.rglob("*"):
        try:
            if path.suffix == ".safetensors":
                load_file(path)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".jsonl":
                [json.loads(line) for line in path.read_text().splitlines()]
        except Exception as error:
            outcome.faults.append(f"damaged: {path}: {error}")
    plan = RunFolder(folder).plan()
    rounds = answered(folder)
    outcome.incomplete = sum(len(sites) < plan.sites for sites in rounds.values())
    if sorted(rounds) != list(range(1, plan.rounds + 1)):
        outcome.faults.append(f"rounds {sorted(rounds)}: {folder}")
        return
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // plan.sites))
    again = folder.with_name(f"{folder.name}-again")
    partition = Partition.load(folder / "partition.json")
    workshop = Workshop(pick_device(plan.device))
    replay(folder, sites_of(planned_data(plan), partition, again / "sites", workshop), again)
    if any(
        (folder / name).read_bytes() != (again / name).read_bytes()
        for name in ("encoder.safetensors",)
    ):
        outcome.faults.append(f"another encoder than undisturbed: {folder}")


def main(
    kills: Annotated[int, typer.Option(help="in all")] = 200,
    per_run: Annotated[int, typer.Option(help="at most so many in one run")] = 10,
    every: Annotated[float, typer.Option(help="seconds between two, on average")] = 15.0,
    recipe: str = "fedsimclr",
    rounds: Annotated[str, typer.Option(help="of the recipe's stages")] = "6",
    seed: Annotated[int, typer.Option(help="of roles and moments")] = 0,
    minutes: Annotated[float, typer.Option(help="after which no new run is started")] = 180.0,
    patience: Annotated[float, typer.Option(help="seconds without news: it hangs")] = 900.0,
    deadline: Annotated[float, typer.Option(help="of a round, in seconds")] = 90.0,
    folder: Annotated[Path | None, typer.Option(help="where the runs go")] = None,
) -> None:
    """Kill until there were enough, and print what came of it."""
    home = (folder or Path(tempfile.mkdtemp(prefix="covey-kills-"))).absolute()
    home.mkdir(parents=True, exist_ok=True)
    given = {**OPTIONS, "rounds": rounds, "deadline": f"{deadline:g}"}
    options = [recipe, *(part for k, v in given.items() for part in (f"--{k}", v))]
    end = time.monotonic() + 60 * minutes
    outcomes: list[Outcome] = []
    while (done := sum(o.kills.total() for o in outcomes)) < kills and time.monotonic() < end:
        number = len(outcomes)
        chance = random.Random(f"{seed} {number}")
        run = Run(home / f"run-{number}", options, chance)
        outcome = run.carry_through(min(per_run, kills - done), every, patience)
        if not outcome.faults:
            check(run.folder, outcome)
        outcomes.append(outcome)
        print(
            f"run {number}: {outcome.kills.total()} kills, resumed {outcome.resumed} times, "
            f"{outcome.seconds:.0f} s, {outcome.incomplete} rounds without all sites: "
            + ("; ".join(outcome.faults) or "equal to the undisturbed run"),
            flush=True,
        )
    total = sum((o.kills for o in outcomes), Counter[str]())
    show(
        f"{total.total()} random kills over {len(outcomes)} runs, seed {seed}",
        ["killed", "times"],
        [[role, str(total[role])] for role in ROLES],
    )
    faults = [fault for outcome in outcomes for fault in outcome.faults]
    print("\n".join(faults) or "no hang, no damaged file, every encoder equal to the undisturbed")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    typer.run(main)
