"""A SuperLink of flwr with the calls for whole messages, served in a thread of the test, and its
sites and ServerApps as a test wants them."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import ConfigRecord, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufRequestContext
from flwr.supercore.run import Run
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.state.alembic import utils
from flwr.superlink.grid.http_grid import HttpGrid
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from deploy.flower import superlink
from deploy.flower.whole import SITE_PUSH, AppCalls, SiteCalls, _taken_apart, _told
from deploy.processes.supervisor import LOOPBACK, free_port

PATIENCE = 30.0


class Patient:
    """Flower's retries, without them: what goes wrong is raised."""

    def invoke(self, target: Any, *given: Any, **named: Any) -> Any:
        return target(*given, **named)


@dataclass
class Place:
    """A SuperLink at loopback's `port`, its Flower `state`, its database's `folder`."""

    port: int
    folder: Path
    state: Any
    app: Any

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def site(self, name: str = "") -> "Site":
        """A site that has been invited and is there."""
        key = ec.generate_private_key(ec.SECP384R1())
        node = self.state.create_node(
            NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, public_key_to_bytes(key.public_key()), 0, name=name
        )
        assert self.state.activate_node(node, 600)
        return Site(self, node, key)

    def serverapp(self, authority: bytes | None = None) -> "App":
        """A ServerApp that runs, over TLS where there is an authority."""
        fab = Fab("", b"content", {})
        fab_hash = self.state.store_fab(fab)
        run_id = self.state.create_run(
            "a/b", "1", fab_hash, {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        (run,) = self.state.get_run_info(run_ids=[run_id])
        token = self.state.claim_task(run.primary_task_id)
        assert token and self.state.activate_task(run.primary_task_id)
        return App(self, run, token, authority)

    def rows(self, table: str) -> int:
        """The number of rows of one of Flower's tables."""
        (row,) = self.state.query(f"SELECT COUNT(*) AS n FROM {table}")
        return int(row["n"])


class Site:
    """A site's end of the calls."""

    def __init__(self, place: Place, node: int, key: ec.EllipticCurvePrivateKey) -> None:
        self.place, self.node, self.key = place, node, key
        self.calls = self.through(place.address)
        self.client = self.calls._client

    def through(self, address: str, authority: bytes | None = None, retry: Any = None) -> SiteCalls:
        """This site's calls at another address, over TLS where there is an authority."""
        interceptors = [
            RuntimeVersionHttpInterceptor(component_name="SuperNode"),
            NodeAuthHttpInterceptor(self.key, self.key.public_key()),
        ]
        client = FleetHttpClient.from_server_address(
            address, authority is None, authority, interceptors
        )
        return SiteCalls(client, self.node, retry or Patient())

    def another(self) -> "Site":
        """The same site on another connection."""
        return Site(self.place, self.node, self.key)

    def revoke(self) -> None:
        self.place.state.delete_node(NOOP_FLWR_AID, self.node)

    def answer(self, content: bytes = b"answer", wait: float = PATIENCE) -> Message:
        """Pull one message, push the reply to it; the reply."""
        delivery = self.calls.pull(wait)
        assert delivery is not None
        reply = reply_to(delivery.open(), content)
        self.calls.push(reply, 0.5)
        return reply


class App:
    """A ServerApp's end of the calls."""

    def __init__(self, place: Place, run: Run, token: str, authority: bytes | None = None) -> None:
        self.place, self.run, self.token = place, run, token
        self.client = RuntimeHttpClient.from_server_address(
            server_address=place.address,
            insecure=authority is None,
            root_certificates=authority,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="flwr-serverapp"),
                RuntimeTokenHttpInterceptor(token=token),
            ],
        )
        self.calls = AppCalls(self.client, Patient())

    def ask(self, *sites: Site, content: bytes = b"question", ttl: float = 600.0) -> list[str]:
        """Push one message to each site; their ids."""
        record = RecordDict({"asked": ConfigRecord({"content": content})})
        messages = [message_to(site.node, self.run.run_id, record, ttl) for site in sites]
        return self.calls.push(messages)

    def hear(self, ids: list[str], taken: list[str] | None = None, wait: float = PATIENCE) -> bytes:
        """The content of the next reply."""
        delivery = self.calls.pull(ids, taken or [], wait)
        assert delivery is not None
        return content_of(delivery.open())

    def grid(self) -> HttpGrid:
        """Flower's grid of this ServerApp."""
        grid = HttpGrid(self.place.address, True, None, token=self.token)
        grid.set_run(self.run)
        return grid

    def stop(self) -> None:
        self.place.state.stop_run(self.run.run_id)


def message_to(node: int, run_id: int, record: RecordDict, ttl: float = 600.0) -> Message:
    """A message of a run's ServerApp."""
    metadata = Metadata(run_id, "", 1, node, "", "", time.time(), ttl, "train")
    return make_message(metadata, content=record)


def signed(site: Site) -> dict[str, str]:
    """What a site's client says of itself with each request."""
    request = httpx.Request("POST", "http://x/")
    call: Any = lambda _context: httpx.Response(200)  # noqa: E731
    for interceptor in reversed(site.client._interceptors):
        call = partial(interceptor.intercept, call_next=call)
    call(ProtobufRequestContext("/x", PullMessagesRequest(), request))
    return {k: v for k, v in request.headers.items() if k.startswith("flwr")}


def question(site: Site) -> bytes:
    """The body of a site's question for messages."""
    return PullMessagesRequest(node=Node(node_id=site.node)).SerializeToString()


def reply_to(message: Message, content: bytes) -> Message:
    return Message(RecordDict({"said": ConfigRecord({"content": content})}), reply_to=message)


def content_of(message: Message) -> bytes:
    (record,) = message.content.config_records.values()
    return bytes(record["content"])


@contextlib.contextmanager
def place_in(folder: Path, serve: bool = True) -> Iterator[Place]:
    """A SuperLink whose database is in `folder`; not `serve`: the test serves it."""
    from flwr.superlink.main import create_app  # noqa: PLC0415 (seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLWR_DATABASE", str(folder / "superlink.db"))
        patch.setattr(utils, "Config", utils.Config)  # put back after it
        superlink.split_no_paths()
        app = create_app()
        app.state.enable_supernode_auth = True
        with unhooked():
            port = free_port()
            whole = superlink.with_calls(app)
            with running(whole, port) if serve else contextlib.nullcontext():
                yield Place(port, folder, app.state.linkstate_factory.state(), whole)


@contextlib.contextmanager
def state_in(folder: Path) -> Iterator[Any]:
    """Flower's state in the database of another process's SuperLink."""
    from flwr.superlink.config_loader import (  # noqa: PLC0415 (seconds)
        get_federation_manager,
        get_objectstore_linkstate_factories,
    )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "Config", utils.Config)  # put back after it
        superlink.split_no_paths()
        manager = get_federation_manager(is_simulation=False)
        database = str(folder / "superlink.db")
        _, factory = get_objectstore_linkstate_factories(database, manager)
        yield factory.state()


@contextlib.contextmanager
def unhooked() -> Iterator[None]:
    """Put Flower's handlers back as they were."""
    from flwr.superlink.servicer.fleet import fleet_handlers  # noqa: PLC0415
    from flwr.superlink.servicer.runtime import runtime_handlers  # noqa: PLC0415

    before = [(module, dict(vars(module))) for module in (fleet_handlers, runtime_handlers)]
    try:
        yield
    finally:
        for module, names in before:
            vars(module).update(names)


@contextlib.contextmanager
def running(app: Any, port: int) -> Iterator[None]:
    """`app` at this port of loopback, without TLS."""
    import threading  # noqa: PLC0415

    config = uvicorn.Config(app, host=LOOPBACK, port=port, log_level="critical", lifespan="off")
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + PATIENCE
        while not server.started:
            assert thread.is_alive() and time.monotonic() < end
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


def raw(place: Place, path: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    """A request as nobody's client would make it."""
    with httpx.Client(base_url=f"http://{place.address}", timeout=PATIENCE) as client:
        return client.post(path, content=body, headers=headers)


def held(place: Place) -> int:
    """How many questions are held."""
    return int(place.app._held)


def body_of(site: Site, reply: Message) -> list[bytes]:
    """The parts of a push."""
    protos, trees, objects = _taken_apart([reply])
    told = _told(site.calls._node, protos, trees, 1.0)
    return [told.SerializeToString(), *(i.encode() + o.deflate() for i, o in objects.items())]


def push_raw(place: Place, site: Site, body: bytes) -> int:
    """The status of a push of this body."""
    return raw(place, SITE_PUSH, body, signed(site)).status_code


@contextlib.contextmanager
def nothing_changes(place: Place) -> Iterator[None]:
    """Inside, nothing comes into the database, and nothing that came in is left."""
    tables = ("objects", "message_ins", "message_res")
    before = [place.rows(table) for table in tables]
    yield
    assert [place.rows(table) for table in tables] == before
    assert place.app._spool.used == 0 and not list(place.folder.glob("tmp*"))
