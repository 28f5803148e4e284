"""How Flower's programs are started: their command lines, and nothing else.

One place for the flags of the SuperLink, the SuperExec and the SuperNode, for a federation on one
machine as for a server and sites of their own. The flags are those of flwr 1.41, where all of
Flower's interfaces share one HTTP port.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import tomli_w

from deploy.flower import bundle
from deploy.identity.certificates import Authority, ServerCertificate, write_private

SUPERLINK = (sys.executable, "-m", "deploy.flower.superlink")  # as flwr's, but for two mistakes
# as flwr's, but pinned unless it is told otherwise, and ending when it fails
SUPERNODE = (sys.executable, "-m", "deploy.flower.supernode")
SITE = (sys.executable, "-m", "deploy.flower.connection")
CONNECTION = "covey"  # what the `flwr` command calls our SuperLink


def superlink_command(
    host: str,
    port: int,
    authority: Authority,
    server: ServerCertificate,
    *,
    secret: Path,
    database: Path,
) -> list[str]:
    """A SuperLink with TLS that lets registered sites in alone, and leaves the ServerApp to a
    SuperExec that knows `secret`.

    Runs are kept in `database` (SQLite), so that they survive the SuperLink's restart.
    """
    return [
        *SUPERLINK,
        *("--host", host, "--port", str(port)),
        *("--ssl-ca-certfile", str(authority.certificate)),
        *("--ssl-certfile", str(server.certificate), "--ssl-keyfile", str(server.key)),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        *("--isolation", "process", "--superexec-auth-secret-file", str(secret)),
        *("--database", str(database)),
    ]


def simulation_command(
    host: str, port: int, authority: Authority, server: ServerCertificate
) -> list[str]:
    """A SuperLink that runs Flower's simulation engine (Ray) instead of sites of their own."""
    return [
        "flower-superlink",
        *("--host", host, "--port", str(port)),
        *("--ssl-ca-certfile", str(authority.certificate)),
        *("--ssl-certfile", str(server.certificate), "--ssl-keyfile", str(server.key)),
        "--simulation",
        "--disable-runtime-dependency-installation",
    ]


def superexec_command(address: str, root_certificate: Path | None, secret: Path) -> list[str]:
    """A SuperExec that starts the apps for the SuperLink or SuperNode at `address`.

    None for `root_certificate`: without TLS, for a SuperNode on the same machine.
    """
    tls = ["--insecure"]
    if root_certificate is not None:
        tls = ["--root-certificates", str(root_certificate)]
    return [
        "flower-superexec",
        *("--runtime-api-address", address),
        *tls,
        *("--superexec-auth-secret-file", str(secret)),
    ]


def connection_command(
    address: Path,
    root_certificate: Path,
    key: Path,
    *,
    folder: Path,
    trainer: Sequence[str],
    trainer_log: Path,
) -> list[str]:
    """A site's connection to the server whose host:port the file `address` holds, or will, with the
    trainer that the command `trainer` starts; that command, and what it notes for the process after
    it, are in the private `folder`."""
    command = write_private(folder / "trainer.json", json.dumps(list(trainer)).encode())
    return [
        *SITE,
        *("--address", str(address)),
        *("--root-certificates", str(root_certificate)),
        *("--key", str(key)),
        *("--folder", str(folder)),
        *("--trainer", str(command), "--trainer-log", str(trainer_log)),
    ]


def supernode_command(
    superlink: str,
    root_certificate: Path,
    key: Path,
    *,
    port: int,
    node_config: Path,
    secret: Path | None = None,
    pinned: bool = False,
) -> list[str]:
    """A SuperNode that dials `superlink` (host:port) and proves who it is with `key`.

    `port` is for its own ClientApps, on loopback. `node_config` is a file that `write_node_config`
    wrote. Without `secret` it starts its SuperExec itself, and any process of this machine could
    take that one's place; with it, a SuperExec that knows the secret has to be started beside it.
    `pinned`: it runs no bundle but the one that the Covey installed here would write.
    """
    isolation: list[str] = []
    if secret is not None:
        isolation = ["--isolation", "process", "--superexec-auth-secret-file", str(secret)]
    return [
        *SUPERNODE,
        *(() if pinned else (bundle.ANY,)),
        *("--superlink", superlink),
        *("--root-certificates", str(root_certificate)),
        *("--auth-supernode-private-key", str(key)),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--node-config", str(node_config)),
        *isolation,
    ]


def write_node_config(path: Path, node_config: Mapping[str, str | int]) -> Path:
    """What a SuperNode's apps find in `context.node_config`, as a .toml file: no value needs
    quoting for Flower's own `key="value"` parser, and none is seen in the process list."""
    return write_private(path, tomli_w.dumps(dict(node_config)).encode())


def write_connection(flwr_home: Path, address: str, authority: Authority) -> Path:
    """The `config.toml` with which the `flwr` command finds the SuperLink at `address`."""
    connection = {"address": address, "root-certificates": str(authority.certificate)}
    document = {"superlink": {"default": CONNECTION, CONNECTION: connection}}
    return write_private(flwr_home / "config.toml", tomli_w.dumps(document).encode())
