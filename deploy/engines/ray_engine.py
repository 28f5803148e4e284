"""`covey simulate --engine ray`: Flower's simulation engine, for many GPUs or machines.

A SuperLink in simulation mode on loopback, started from an empty folder: Ray's workers put the
SuperLink's working directory ahead of the app's, so what lies there would shadow it.
"""

import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from flwr.proto.federation_config_pb2 import SimulationConfig  # pylint: disable=E0611
from rich.console import Console

from common.config.options import Plan
from common.data.planned import planned_data, planned_partition
from common.record.forgetting import read_order
from common.utils.errors import UserError
from deploy.engines.run_locally import follow, show_files
from deploy.flower import commands as flower
from deploy.flower.bundle import write_bundle
from deploy.flower.control import Control, UnreachableError
from deploy.flower.server_node import SUPERLINK
from deploy.identity.certificates import issue_server, make_authority
from deploy.processes.starting import PATIENCE, await_up
from deploy.processes.supervisor import LOOPBACK, Supervisor, environment, free_port


def run_on_ray(plan: Plan, config: Mapping[str, str], folder: Path, console: Console) -> None:
    """Run `config` (Flower's run configuration for `plan`) with one Ray actor per CPU, or with the
    GPU shared among them where there is one."""
    if find_spec("ray") is None:
        raise UserError("the ray engine is not installed: pip install 'covey[simulation]'")
    if read_order(folder) is not None:
        raise UserError(f"{folder} was made by covey forget: `covey simulate --resume` without ray")
    data = planned_data(plan)
    show_files(data, console)
    planned_partition(plan, data).save(folder / "partition.json")
    with tempfile.TemporaryDirectory(prefix="covey-") as private:
        state = Path(private)
        authority = make_authority(state / "certificates")
        server = issue_server(authority, state / "certificates", ())
        port = free_port()
        variables = environment(state / "flwr") | {"COVEY_HOME": str(folder / "sites")}
        with Supervisor(folder / "logs", state / "empty") as supervisor:
            command = flower.simulation_command(LOOPBACK, port, authority, server)
            supervisor.start(SUPERLINK, command, variables)
            control = Control(LOOPBACK, port, authority.certificate)
            await_up(supervisor, SUPERLINK, lambda: _answers(control), time.monotonic() + PATIENCE)
            console.print("[dim]starting Ray (10 to 20 seconds)[/]", highlight=False)
            bundle = write_bundle(state / "bundle", config)
            run_id = control.submit(bundle, _resources(plan))
            follow(folder, plan, console, lambda: control.status(run_id))


def _resources(plan: Plan) -> SimulationConfig:
    gpus = torch.cuda.device_count() if plan.device in ("auto", "cuda") else 0
    return SimulationConfig(
        num_supernodes=plan.expected_sites,
        client_resources_num_cpus=1,
        client_resources_num_gpus=0.25 if gpus else 0.0,
        init_args_log_to_driver=False,
    )


def _answers(control: Control) -> bool:
    try:
        control.sites()
    except UnreachableError:
        return False
    return True
