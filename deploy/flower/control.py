"""The coordinator's conversation with a SuperLink: register sites, start runs, ask how they are.

Speaks Flower's Control API directly (protobuf over HTTPS), as the `flwr` command does: a call takes
milliseconds, where a `flwr` process takes seconds of CPU beside the training. No proxy is ever
asked, because a SuperLink listens on loopback alone.
"""

import hashlib
import http.client
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from cryptography.hazmat.primitives import serialization
from flwr.common.constant import HEARTBEAT_PATIENCE
from flwr.proto.control_pb2 import (  # pylint: disable=E0611
    ListNodesRequest,
    ListNodesResponse,
    ListRunsRequest,
    ListRunsResponse,
    RegisterNodeRequest,
    RegisterNodeResponse,
    StartRunRequest,
    StartRunResponse,
    StopRunRequest,
    StopRunResponse,
    UnregisterNodeRequest,
    UnregisterNodeResponse,
)
from flwr.proto.fab_pb2 import Fab  # pylint: disable=E0611
from flwr.proto.federation_config_pb2 import SimulationConfig  # pylint: disable=E0611
from flwr.proto.node_pb2 import NodeInfo  # pylint: disable=E0611
from flwr.proto.run_pb2 import Run  # pylint: disable=E0611
from flwr.proto.transport_pb2 import Scalar  # pylint: disable=E0611

from common.utils.errors import UserError

TIMEOUT = 60.0  # seconds for one call: a SuperLink that stores a large model answers late
NEWEST = 1000  # runs that are asked for: Flower keeps all that ever were
RUN_FOLDER = "run-folder"  # the option by which a run is found again
PAUSE = 0.2  # seconds between two attempts to reach a SuperLink that is restarting


class _Request(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802 (protobuf's name)


class _Response(Protocol):
    def ParseFromString(self, serialized: bytes, /) -> int: ...  # noqa: N802


R = TypeVar("R", bound=_Response)


class UnreachableError(ConnectionError):
    """No SuperLink answers."""


@dataclass(frozen=True)
class Node:
    """A registered site: its node id, name, public key (PEM), status ("registered", "online",
    "offline") and when it was last heard of, to a minute (seconds since 1970; None: never)."""

    id: int
    name: str
    key: bytes
    status: str
    seen: float | None


@dataclass(frozen=True)
class FlowerRun:
    """A run as the SuperLink knows it: `folder` as it was submitted; `status` as
    `Control.status` has it; `submitted` as ISO 8601."""

    id: int
    folder: str
    status: str
    submitted: str


class Control:
    """The Control API of the SuperLink at `host`:`port`, whose certificate `authority` signed.

    Where the SuperLink cannot be reached, a call tries again for `patience` seconds and then raises
    `UnreachableError`; what the SuperLink refuses is a `UserError`. An answer may take `timeout`
    seconds.
    """

    def __init__(
        self,
        host: str,
        port: int,
        authority: Path,
        patience: float = 0.0,
        *,
        timeout: float = TIMEOUT,
    ) -> None:
        self._host = host
        self._port = port
        self._patience = patience
        self._timeout = timeout
        self._tls = ssl.create_default_context(cafile=str(authority))

    def register(self, public_key: Path, name: str) -> int:
        """Let the site with this OpenSSH public key in, as `name`; its node id. `UserError` for a
        key that was registered before, even if it was unregistered since."""
        request = RegisterNodeRequest(public_key=read_public_key(public_key), name=name)
        return int(self._call("register-node", request, RegisterNodeResponse()).node_id)

    def unregister(self, node: int) -> None:
        """Let a site in no more: each further request of it is refused, and no answer of it that
        lies at the SuperLink is handed out."""
        self._call("unregister-node", UnregisterNodeRequest(node_id=node), UnregisterNodeResponse())

    def nodes(self) -> list[Node]:
        """Every registered site."""
        nodes = self._call("list-nodes", ListNodesRequest(), ListNodesResponse(), repeatable=True)
        return [_node(info) for info in nodes.nodes_info if info.status != "unregistered"]

    def sites(self) -> dict[str, str]:
        """name -> status ("registered", "online", "offline") of every registered site."""
        return {node.name: node.status for node in self.nodes()}

    def submit(
        self,
        bundle: Path,
        simulation: SimulationConfig | None = None,
        options: Mapping[str, str] | None = None,
    ) -> int:
        """Start the Flower app in the folder `bundle`; the run's id. `simulation`: the resources
        of a SuperLink that simulates. `options` take the place of the bundle's of that name, and
        are what `runs` knows of."""
        from flwr.cli.build import build_fab_from_disk  # noqa: PLC0415 (imports Flower's CLI)

        content = build_fab_from_disk(bundle)
        fab = Fab(hash_str=hashlib.sha256(content).hexdigest(), content=content)
        request = StartRunRequest(
            fab=fab,
            override_federation_config=simulation,
            override_config={k: Scalar(string=v) for k, v in (options or {}).items()},
        )
        response = self._call("start-run", request, StartRunResponse())
        if not response.HasField("run_id"):
            raise UserError(f"the SuperLink did not start the run: {response.note or 'no reason'}")
        return int(response.run_id)

    def status(self, run_id: int) -> tuple[str, str]:
        """(status, details) of a run: "pending", "starting", "running", "finished:completed",
        "finished:failed" or "finished:stopped"; `UserError` for an unknown run."""
        request = ListRunsRequest(run_id=run_id)
        runs = self._call("list-runs", request, ListRunsResponse(), repeatable=True).run_dict
        return _status(runs[run_id]), runs[run_id].status.details

    def runs(self) -> list[FlowerRun]:
        """The newest `NEWEST` runs, newest first."""
        request = ListRunsRequest(limit=NEWEST)
        runs = self._call("list-runs", request, ListRunsResponse(), repeatable=True).run_dict
        found = [
            FlowerRun(
                int(run.run_id),
                run.override_config[RUN_FOLDER].string if RUN_FOLDER in run.override_config else "",
                _status(run),
                run.pending_at,
            )
            for run in runs.values()
        ]
        return sorted(found, key=lambda run: run.submitted, reverse=True)

    def stop(self, run_id: int) -> None:
        """Stop a run; `UserError` where it has ended already."""
        if not self._call("stop-run", StopRunRequest(run_id=run_id), StopRunResponse()).success:
            raise UserError(f"the SuperLink did not stop the run {run_id}")

    def _call(self, method: str, request: _Request, response: R, repeatable: bool = False) -> R:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                body = self._post(f"/v1/control/{method}", request.SerializeToString())
                break
            except (OSError, http.client.HTTPException) as error:
                # What was refused was not sent, so that nothing is done twice.
                again = repeatable or isinstance(error, ConnectionRefusedError)
                if not again or time.monotonic() > deadline:
                    raise UnreachableError(str(error)) from error
            time.sleep(PAUSE)
        response.ParseFromString(body)
        return response

    def _post(self, path: str, body: bytes) -> bytes:
        connection = http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout, context=self._tls
        )
        kind = "application/protobuf"
        headers = {"content-type": kind, "accept": kind, "x-flwr-client": "cli"}
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise UserError(f"the SuperLink refused {path}: {_reason(answer.status, content)}")
        return content


def read_public_key(path: Path) -> bytes:
    """An OpenSSH public key as the SuperLink has it: PEM."""
    key = serialization.load_ssh_public_key(path.read_bytes())
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _node(info: NodeInfo) -> Node:
    """What the SuperLink counts is until when a site is there: two heartbeats after the last. Of a
    site that is gone it does not say whether it said so, or was lost."""
    seen = info.online_until if info.HasField("last_activated_at") else None
    if seen is not None and info.status == "online":
        seen -= HEARTBEAT_PATIENCE * info.heartbeat_interval
    return Node(info.node_id, info.name, info.public_key, info.status, seen)


def _status(run: Run) -> str:
    return ":".join(filter(None, [run.status.status, run.status.sub_status]))


def _reason(status: int, content: bytes) -> str:
    try:
        payload = json.loads(content)
        parts = [str(payload[key]) for key in ("detail", "extra") if payload.get(key)]
    except (ValueError, TypeError, AttributeError):
        parts = []
    return " ".join(": ".join(parts).split()) or f"HTTP status {status}"
