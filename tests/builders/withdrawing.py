"""Three sites that have joined a server, over processes; runs that never had some images."""

from contextlib import contextmanager

import numpy as np
from sklearn.datasets import load_digits

from client.site import open_site
from client.workbench import Workshop, pick_device
from common.data import load
from common.learned.file import read_learned
from common.record.reader import read_run, read_settings
from deploy.engines.in_process import grid_of
from deploy.processes.supervisor import free_port
from server.app import run
from server.run.folder import RunFolder
from tests.deploy.machines import Covey

SITES = ("east", "north", "south")
QUICK = (
    "covey-exact", "--parameters", "landmarks=40 images=10", "--encoder", "noise-filters",
    "--clusters", "10", "--min-count", "5",
)  # fmt: skip


def write_images(folder):
    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype(np.uint8)
    for index, name in enumerate(SITES):
        np.savez(folder / f"{name}.npz", images=images[100 * index : 100 * index + 100])


@contextmanager
def joined(tmp_path):
    """`Covey` commands beside a server and its sites, 100 digits each."""
    write_images(tmp_path)
    with Covey(tmp_path) as commands:
        commands.run("server", "init", "server", "--address", f"127.0.0.1:{free_port()}")
        for name in SITES:
            commands.run("server", "invite", "server", name)
        commands.start("server", "server", "start", "server")
        commands.until("server", "ready")
        for name in SITES:
            commands.start(name, "client", "join", f"{name}.covey", "--data", f"{name}.npz")
            commands.until(name, "joined")
        yield commands


def never_had(folder, made, gone):
    """The same plan, in this process, at sites that never had the images."""
    plan = read_settings(made).settings()
    workshop = Workshop(pick_device("cpu"))
    sites = []
    for name in sorted(read_settings(made).sites):
        data = load(str(folder / f"{name}.npz"))
        kept = [i for i in range(len(data.images)) if str(i) not in gone.get(name, ())]
        home = folder / "never" / made.name / name
        sites.append(open_site(name, data.subset(np.array(kept)), home, workshop, 5))
    alone = folder / "never" / made.name / "run"
    run(grid_of(sites), plan, RunFolder(alone), "in-process")
    return alone


def same(one, other):
    tensors = [read_learned(path / "model.covey").tensors for path in (one, other)]
    assert tensors[0].keys() == tensors[1].keys()
    figures = [read_run(path).stages[-1].figures for path in (one, other)]
    return figures[0] == figures[1] and all(
        array.tobytes() == tensors[1][name].tobytes() for name, array in tensors[0].items()
    )
