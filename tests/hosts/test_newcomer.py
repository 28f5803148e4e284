"""docs/coordinator/server.md and docs/site/join.md, typed by two who know nothing else."""

import shlex
from pathlib import Path

import pytest

from tests.builders.pages import printed_steps
from tests.hosts.federation import IMAGES, NAME, draw_images
from tests.hosts.machine import Machine, Typed
from tests.hosts.network import Network

STAYS = {
    ("server", "start"): "ready",
    ("client", "join"): "joined",
}  # what they say when they are up


def type_in(machine: Machine, line: str) -> Typed:
    """Type a line as it is printed, and wait until it has ended or is up."""
    command = machine.start(*shlex.split(line))
    up = STAYS.get(tuple(shlex.split(line)[1:3]))
    if up is None or "--detach" in line:
        command.ends(600)
    else:
        command.until(up)
    return command


def hand_over(coordinator: Machine, site: Machine) -> None:
    """Carry the invitations over by a private way."""
    for invitation in coordinator.folder.glob("*.covey"):
        invitation.rename(site.folder / invitation.name)


@pytest.mark.timeout(1800)
def test_newcomers_get_from_nothing_to_a_report_with_the_commands_as_they_are_printed(
    tmp_path: Path,
) -> None:
    with Network() as network:
        coordinator = Machine(network.add("coordinator"), tmp_path / "coordinator")
        site = Machine(network.add("site"), tmp_path / "site")
        site.host.knows({NAME: coordinator.host.address})
        draw_images(site.folder / "images", 0, IMAGES)
        typed: dict[str, Typed] = {}
        for who, line in printed_steps():
            if who == "Site":
                hand_over(coordinator, site)
            typed[line] = type_in(coordinator if who == "Coordinator" else site, line)

        (submitted,) = (t for line, t in typed.items() if line.startswith("covey submit"))
        (report,) = coordinator.folder.glob("fl/runs/*/report.html")
        assert f"report: {report}" in submitted.said
        assert report.stat().st_size > 10_000
        (assignments,) = site.folder.glob("covey-site-*/*/assignments.csv")
        assert len(assignments.read_text().splitlines()) == IMAGES + 1
        (log,) = (t for line, t in typed.items() if line.startswith("covey client log"))
        assert "round 3 (train)" in log.said
        for stays in STAYS:
            (command,) = (t for line, t in typed.items() if tuple(line.split()[1:3]) == stays)
            command.interrupt()
        assert not network.processes()
