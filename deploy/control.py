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
from pathlib import Path
from typing import Protocol, TypeVar

from cryptography.hazmat.primitives import serialization
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
)
from flwr.proto.fab_pb2 import Fab  # pylint: disable=E0611
from flwr.proto.federation_config_pb2 import SimulationConfig  # pylint: disable=E0611

from common.errors import UserError

TIMEOUT = 60.0  # seconds for one call: a SuperLink that stores a large model answers late
PAUSE = 0.2  # seconds between two attempts to reach a SuperLink that is restarting


class _Request(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802 (protobuf's name)


class _Response(Protocol):
    def ParseFromString(self, serialized: bytes, /) -> int: ...  # noqa: N802


R = TypeVar("R", bound=_Response)


class UnreachableError(ConnectionError):
    """No SuperLink answers."""


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
        """Let the site with this OpenSSH public key in, as `name`; its node id."""
        key = serialization.load_ssh_public_key(public_key.read_bytes())
        pem = key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        request = RegisterNodeRequest(public_key=pem, name=name)
        return int(self._call("register-node", request, RegisterNodeResponse()).node_id)

    def sites(self) -> dict[str, str]:
        """name -> status ("registered", "online", "offline") of every registered site."""
        nodes = self._call("list-nodes", ListNodesRequest(), ListNodesResponse(), repeatable=True)
        return {
            node.name: node.status for node in nodes.nodes_info if node.status != "unregistered"
        }

    def submit(self, bundle: Path, simulation: SimulationConfig | None = None) -> int:
        """Start the Flower app in the folder `bundle`; the run's id. `simulation`: the resources
        of a SuperLink that simulates."""
        from flwr.cli.build import build_fab_from_disk  # noqa: PLC0415 (imports Flower's CLI)

        content = build_fab_from_disk(bundle)
        fab = Fab(hash_str=hashlib.sha256(content).hexdigest(), content=content)
        request = StartRunRequest(fab=fab, override_federation_config=simulation)
        response = self._call("start-run", request, StartRunResponse())
        if not response.HasField("run_id"):
            raise UserError(f"the SuperLink did not start the run: {response.note or 'no reason'}")
        return int(response.run_id)

    def status(self, run_id: int) -> tuple[str, str]:
        """(status, details) of a run: "pending", "starting", "running", "finished:completed",
        "finished:failed" or "finished:stopped"; `UserError` for an unknown run."""
        request = ListRunsRequest(run_id=run_id)
        runs = self._call("list-runs", request, ListRunsResponse(), repeatable=True).run_dict
        status = runs[run_id].status
        return ":".join(filter(None, [status.status, status.sub_status])), status.details

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


def _reason(status: int, content: bytes) -> str:
    try:
        payload = json.loads(content)
        parts = [str(payload[key]) for key in ("detail", "extra") if payload.get(key)]
    except (ValueError, TypeError, AttributeError):
        parts = []
    return " ".join(": ".join(parts).split()) or f"HTTP status {status}"
