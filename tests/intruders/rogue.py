"""A site that was invited and means harm: it speaks Flower's Fleet API by hand."""

import json
import threading
from dataclasses import dataclass, field

import httpx
import numpy as np
from flwr.app import Array, ArrayRecord, Message
from flwr.app.message.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    add_header_to_object_body,
    get_all_nested_objects,
    get_object_tree,
)
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from common.protocol.messages import Reply

HEARTBEAT = 30.0


class Bomb(Array):
    """A few bytes that ask Flower to repeat a chunk of 4 MiB until they are 4 TiB."""

    def deflate(self):
        body = {
            "dtype": "float32",
            "shape": [1],
            "stype": "numpy.ndarray",
            "arraychunk_ids": [0] * 10**6,
        }
        return add_header_to_object_body(json.dumps(body).encode(), self)


Bomb.__qualname__ = "Array"


class Garbled(Array):
    """An object whose content is no JSON."""

    def deflate(self):
        return add_header_to_object_body(b"\xff{[" * 9, self)


Garbled.__qualname__ = "Array"


def client_of(invitation, *more):
    """A client that signs with the invitation's key and trusts its authority."""
    key = invitation.key
    return FleetHttpClient.from_server_address(
        invitation.address,
        False,
        invitation.authority.encode(),
        [
            RuntimeVersionHttpInterceptor(component_name="SuperNode"),
            NodeAuthHttpInterceptor(key, key.public_key()),
            *more,
        ],
    )


def status_of(call, request):
    """The HTTP status with which the server refuses a call; 200 where it does not."""
    try:
        call(request)
    except httpx.HTTPStatusError as error:
        return error.response.status_code
    return 200


@dataclass
class Rogue:
    """Joins as the invited site, greets as it should, then answers the n-th exchange with
    `tricks[n]`, and every later one with the last."""

    invitation: object
    tricks: list
    done: list = field(default_factory=list)

    def __post_init__(self):
        self.client = client_of(self.invitation).__enter__()
        self.public = public_key_to_bytes(self.invitation.key.public_key())
        request = ActivateNodeRequest(public_key=self.public, heartbeat_interval=HEARTBEAT)
        self.node = Node(node_id=self.client.ActivateNode(request).node_id)
        self.leaving = threading.Event()
        self.worker = threading.Thread(target=self.work, daemon=True)
        self.worker.start()

    def leave(self):
        self.leaving.set()
        self.worker.join(60)
        self.client.DeactivateNode(DeactivateNodeRequest(node_id=self.node.node_id))
        self.client.__exit__(None, None, None)

    def work(self):
        while not self.leaving.wait(0.5):
            beat = SendNodeHeartbeatRequest(node=self.node, heartbeat_interval=HEARTBEAT)
            self.client.SendNodeHeartbeat(beat)
            pulled = self.client.PullMessages(PullMessagesRequest(node=self.node))
            for proto in pulled.messages_list:
                self.answer(message_from_proto(proto))

    def answer(self, asked):
        group = asked.metadata.group_id
        if group == "hello":
            info = {"channels": 1, "side": 8, "kind": "digits", "classes": []}
            self.push(asked, Reply("hello", self.invitation.site, 0, 300, info=info).to_record())
            return
        trick = self.tricks[min(len(self.done), len(self.tricks) - 1)]
        self.done.append(trick.__name__)
        trick(self, asked)

    def reply(self, asked, **parts):
        """What this site would answer if it were honest, in outline."""
        return Reply(
            "train", self.invitation.site, int(asked.metadata.group_id), 240, **parts
        ).to_record()

    def message(self, asked, record):
        TaskIdentity.run_id, TaskIdentity.task_id = asked.metadata.run_id, 1
        TaskIdentity.node_id = self.node.node_id
        message = Message(record, reply_to=asked)
        message.metadata.__dict__["_message_id"] = message.object_id
        return message

    def push(self, asked, record, spoil=lambda proto: None):
        """Push a reply and its objects; the HTTP status of the first refusal, or 200."""
        message = self.message(asked, record)
        proto = message_to_proto(remove_content_from_message(message))
        spoil(proto)
        request = PushMessagesRequest(
            node=self.node,
            messages_list=[proto],
            message_object_trees=[get_object_tree(message)],
            clientapp_runtime_list=[0.1],
        )
        try:
            answer = self.client.PushMessages(request)
            for object_id, each in get_all_nested_objects(message).items():
                if object_id in set(answer.objects_to_push):
                    self.client.PushObject(
                        PushObjectRequest(
                            node=self.node,
                            run_id=asked.metadata.run_id,
                            object_id=object_id,
                            object_content=each.deflate(),
                            session_id=answer.session_id,
                        )
                    )
        except httpx.HTTPStatusError as error:
            return error.response.status_code
        return 200


def sends_no_record(rogue, asked):
    """Objects that Flower cannot put together."""
    record = rogue.reply(asked)
    record["groups"] = ArrayRecord()
    record["groups"]["encoder"] = Garbled(np.ones(4, np.float32))
    rogue.push(asked, record)


def sends_a_bomb(rogue, asked):
    record = rogue.reply(asked)
    record["groups"] = ArrayRecord()
    record["groups"]["encoder"] = Bomb(np.ones(2**20, np.float32))
    rogue.push(asked, record)


def sends_nan(rogue, asked):
    rogue.push(asked, rogue.reply(asked, groups={"encoder": np.full(9, np.nan, np.float32)}))


def takes_anothers_name(rogue, asked):
    record = rogue.reply(asked)
    record["header"]["site"] = "north"
    rogue.push(asked, record)


def answers_another_round(rogue, asked):
    record = rogue.reply(asked)
    record["header"]["round"] = 1_000
    rogue.push(asked, record)


def sends_control_characters(rogue, asked):
    name = "\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>"
    rogue.push(asked, rogue.reply(asked, tables={name: np.ones((1, 1), np.int64)}))


def answers_another_run(rogue, asked):
    """Not taken by the SuperLink, whatever it says: what comes after it is what is refused."""

    def spoil(proto):
        proto.metadata.run_id = asked.metadata.run_id ^ 1

    rogue.push(asked, rogue.reply(asked), spoil)
    sends_no_record(rogue, asked)


def answers_twice(rogue, asked):
    """The second is not taken: what is refused is the first, for what it lacks."""
    rogue.push(asked, rogue.reply(asked))
    sends_nan(rogue, asked)


TRICKS = [
    sends_no_record,
    sends_a_bomb,
    sends_nan,
    takes_anothers_name,
    answers_another_round,
    sends_control_characters,
    answers_another_run,
    answers_twice,
]
