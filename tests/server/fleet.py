"""Sites in this process that can be offline, asleep or slow, for tests of who is asked when."""

from collections.abc import Iterable, Mapping

from flwr.app import Error, Message
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo  # pylint: disable=E0611

from deploy.engines.in_process import InProcessGrid

NODE_UNAVAILABLE = 3


class Fleet(InProcessGrid):
    """A site in `offline` is not there, and what it is asked fails; one in `asleep` is there, and
    answers when it wakes. `asked` has every (site, kind) so far."""

    lazy = False

    def __init__(self, apps: Mapping[str, ClientApp]) -> None:
        super().__init__(apps)
        self.offline: set[str] = set()
        self.asleep: set[str] = set()
        self.awake_for: set[str] = set()  # messages that a sleeping site answers all the same
        self.latest = ""  # the message that was pushed last
        self.asked: list[tuple[str, str]] = []

    def name(self, message: Message) -> str:
        return self._nodes[message.metadata.dst_node_id].name

    def times(self, site: str, kind: str) -> int:
        """How often the site was asked this."""
        return self.asked.count((site, kind))

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [node for node in super().get_nodes() if node.name not in self.offline]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        for message in messages:
            self.asked.append((self.name(message), str(message.content["header"]["kind"])))
        ids = list(super().push_messages(messages))
        self.latest = ids[-1] if ids else ""
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        answers = []
        for message_id in message_ids:
            message = self._waiting.get(message_id)
            if message is None:
                continue
            if self.name(message) in self.asleep and message_id not in self.awake_for:
                continue
            if self.name(message) in self.offline:
                del self._waiting[message_id]
                answers.append(Message(Error(NODE_UNAVAILABLE, "gone"), reply_to=message))
            else:
                answers += super().pull_messages([message_id])
        return answers
