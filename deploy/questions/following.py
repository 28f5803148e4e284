"""The run that answers a question to an earlier one: a new folder beside it, which begins where
that one ended, and the run in it, in this process or over the sites of a server."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from common.data.planned import PARTITION
from common.learned.file import FILE as MODEL
from common.learned.file import read_learned
from common.record.follow_up import FILE, FollowUp, Order
from common.record.orders import writer_of
from common.record.reader import EVENTS, has_run, lines, read_settings
from common.record.schema import ChoiceEvent, RoundEvent, SplitEvent, StageEvent
from common.utils.errors import RunFailed, UserError
from deploy.coordinator.folder import ServerFolder
from deploy.coordinator.submit import Order as Submission
from deploy.coordinator.submit import submit_run
from deploy.engines.runs import conclude
from deploy.engines.watched import simulate_watched
from deploy.forgetting.preparing import Earlier, earlier_run, make
from server.questions.splitting import check_split

SITES, STATES = "sites", "*/*/state-*.safetensors"  # of a simulation
KEPT = (RoundEvent, StageEvent, SplitEvent, ChoiceEvent)  # of the earlier run's record


@dataclass(frozen=True)
class Following:
    """What is to be done, before anything is: the run that is made, and what it asks."""

    earlier: Earlier
    folder: Path
    order: Order


def plan_following(run: Path, asked: FollowUp) -> Following:
    """What asking `run` this would do; nothing is changed. `UserError` for whatever does not
    fit."""
    earlier = earlier_run(run)
    plan = earlier.run.settings()
    if earlier.reached.centroids is None:
        raise UserError(f"{run} has no centroids")
    asked = asked.model_copy(update={"of": earlier.run.id})
    if asked.kind == "split":
        check_split(asked, earlier.reached.centroids.counts, plan.min_count)
    names = _names(earlier.folder, asked)
    order = Order(plan=plan, follow_up=asked, closed=earlier.reached.closed, names=names)
    return Following(earlier, _place(earlier.folder, asked), order)


def follow_here(following: Following, console: Console) -> dict[str, object]:
    """Do it where the run's images are on this machine; the new run's figures."""
    folder, partition = following.folder, following.earlier.folder / PARTITION
    if not partition.exists():
        raise UserError(
            f"{following.earlier.folder}: its sites hold their own images: --server DIR names the "
            "server that they have joined"
        )
    data = partition.read_bytes()
    _make(following, {PARTITION: data}, following.earlier.folder / SITES)
    try:
        simulate_watched(following.order.plan, folder, console)
    except UserError:
        shutil.rmtree(folder, ignore_errors=True)  # nothing is lost: it can be asked again
        raise
    return conclude(folder, console)


def follow_served(
    server: ServerFolder,
    following: Following,
    console: Console,
    files: Mapping[str, bytes] | None = None,
) -> dict[str, object]:
    """Do it over the sites that have joined the server; the new run's figures. `files`: what the
    folder is to have beside."""
    folder = following.folder
    if (following.earlier.folder / PARTITION).exists():
        raise UserError(
            f"{following.earlier.folder}: its images are on this machine: leave out --server"
        )
    _make(following, files or {})
    server.link_logs(folder)
    try:
        return submit_run(server, Submission("", {}, resume=folder), console)
    except (UserError, RunFailed):
        why = _discard(folder)
        if why:
            raise RunFailed(why) from None
        raise


def _discard(folder: Path) -> str:
    """Remove the folder of a run that has failed, or not begun, and return why it failed. It holds
    nothing that the earlier run does not, and can be asked for again. A stopped one stays."""
    run = read_settings(folder) if has_run(folder) else None
    if run is not None and run.status != "failed":
        return ""
    shutil.rmtree(folder, ignore_errors=True)  # its logs, a link, stay
    return run.reason or "" if run else ""


def _make(following: Following, files: Mapping[str, bytes], sites: Path | None = None) -> None:
    """The new run's folder. `sites`: the folders of the earlier one's, where they are here."""
    record = following.earlier.folder
    told = b"".join(line + b"\n" for line, event in lines(record) if isinstance(event, KEPT))
    kept = {**files, EVENTS: told}
    make(
        following.folder,
        following.earlier.reached,
        {
            **{name: partial(Path.write_bytes, data=data) for name, data in kept.items()},
            FILE: writer_of(following.order),
            **({SITES: partial(_copy_states, sites)} if sites else {}),
        },
    )


def _copy_states(sites: Path, place: Path) -> None:
    """What the sites of a simulation have kept, for theirs of another run."""
    for path in sites.glob(STATES):
        copy = place / path.relative_to(sites)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _place(earlier: Path, asked: FollowUp) -> Path:
    stem = f"{earlier.name}-{asked.kind}"
    stem += f"-{asked.cluster}" if asked.kind == "split" else ""
    number, path = 1, earlier.with_name(stem)
    while path.exists():
        number += 1
        path = earlier.with_name(f"{stem}-{number}")
    return path


def _names(earlier: Path, asked: FollowUp) -> tuple[str, ...]:
    """What the clusters are called that stay as they are."""
    if asked.kind != "split" or not (earlier / MODEL).exists():
        return ()
    names = list(read_learned(earlier / MODEL).facts.names)
    names[asked.cluster] = ""
    return tuple(names)
