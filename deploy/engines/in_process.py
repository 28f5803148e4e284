"""The in-process engine: a Grid whose sites live in this process.

For tests, small simulations and bit-for-bit repetition. A message is answered when its answer is
pulled, one site at a time, so that memory holds one site's work whatever their number. Covey's
ClientApp takes and gives encoded records, so neither side ever sees the other's arrays.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo  # pylint: disable=E0611
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from client.app import build_app
from client.site import Site, open_site
from client.workbench import Workshop
from common.data import ImageData
from common.data.images import Indices
from common.data.partition import Partition

RUN_ID = 1
SERVER_NODE = 1
FIRST_NODE = 2


@dataclass
class _Node:
    name: str
    app: ClientApp
    context: Context


class InProcessGrid(Grid):
    """Flower's Grid over ClientApps in this process, by site name."""

    lazy = True  # no site works before its answer is pulled

    def __init__(self, apps: Mapping[str, ClientApp]) -> None:
        TaskIdentity.run_id, TaskIdentity.task_id = RUN_ID, 1
        TaskIdentity.node_id = SERVER_NODE
        self._nodes = {
            node_id: _Node(name, app, _context(node_id))
            for node_id, (name, app) in enumerate(apps.items(), start=FIRST_NODE)
        }
        self._waiting: dict[str, Message] = {}
        self._ids = itertools.count(1)

    def set_run(self, run: Run) -> None:
        """Nothing to set: there is one run."""

    @property
    def run(self) -> Run:
        """The one run."""
        return Run.create_empty(RUN_ID)

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Flower's older way to make a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes: in one process every site is always there."""
        return list(self._nodes)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """All nodes with their names."""
        return [NodeInfo(node_id=i, name=node.name) for i, node in self._nodes.items()]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep the messages until their answers are pulled."""
        ids = []
        for message in messages:
            message_id = f"message-{next(self._ids)}"
            message.metadata.__dict__["_message_id"] = message_id
            self._waiting[message_id] = message
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Let the sites answer these messages, one after the other."""
        for message_id in message_ids:
            message = self._waiting.pop(message_id, None)
            if message is not None:
                yield self._answer(message)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push, and pull at once."""
        return list(self.pull_messages(self.push_messages(messages)))

    def _answer(self, message: Message) -> Message:
        node_id = message.metadata.dst_node_id
        node = self._nodes[node_id]
        TaskIdentity.node_id = node_id
        try:
            return node.app(message, node.context)
        finally:
            TaskIdentity.node_id = SERVER_NODE


def _context(node_id: int) -> Context:
    return Context(
        run_id=RUN_ID,
        node_id=node_id,
        node_config={},
        state=RecordDict(),
        run_config={},
        series_id=RUN_ID,
    )


def grid_of(sites: Iterable[Site]) -> InProcessGrid:
    """A grid over `sites`, each behind the same ClientApp as on a real node."""

    def app_of(site: Site) -> ClientApp:
        return build_app(lambda _context, record: site.handle(record))

    return InProcessGrid({site.trainer.site: app_of(site) for site in sites})


def sites_of(
    data: ImageData,
    partition: Partition,
    folder: Path,
    workshop: Workshop,
    taken: Partition | None = None,
) -> list[Site]:
    """The sites of a simulated federation that have images; all share one workshop, so one model is
    in memory. `taken`: images that they have taken back, and let be unlearned."""

    def site(index: int, part: Indices) -> Site:
        forgotten = data.subset(taken.sites[index]) if taken else None
        name = f"site-{index}"
        own = data.subset(part)
        return open_site(name, own, folder / name, workshop, forgotten=forgotten)

    return [site(index, part) for index, part in enumerate(partition.sites) if len(part)]
