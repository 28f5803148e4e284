"""Whole messages, as those ask for them who have them or want them: a message with all its objects
in one answer, a reply with all of its in one request; a question may be held until there is one.

Four calls beside Flower's own, which the SuperLink of `deploy/flower/superlink.py` answers:

- `/v1/fleet/covey-pull`, `/v1/fleet/covey-push` of sites (`SiteCalls`);
- `/v1/runtime/covey-pull`, `/v1/runtime/covey-push` of ServerApps (`AppCalls`).

Connection, TLS, who one is, versions and retries are those of the Flower client that is handed in.
A SuperLink without these calls answers 404 (`NotOfferedError`): Flower's own calls remain.
Bodies are parts (`deploy/flower/frames.py`); neither side ever has one whole in memory twice.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import httpx
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fleet_pb2 import (  # pylint: disable=E0611
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
)
from flwr.proto.message_pb2 import Message as MessageProto  # pylint: disable=E0611
from flwr.proto.message_pb2 import ObjectTree  # pylint: disable=E0611
from flwr.proto.node_pb2 import Node  # pylint: disable=E0611
from flwr.proto.runtime_pb2 import (  # pylint: disable=E0611
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    PushAppMessagesRequest,
    PushAppMessagesResponse,
)
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.protobuf.client import ProtobufClient, ProtobufRequestContext
from flwr.supercore.retry import RetryInvoker, make_simple_http_retry_invoker

from deploy.flower import inside
from deploy.flower.contents import content_of, cut_arrays, put_together
from deploy.flower.frames import Bounds, FrameError, Part, Piece, pack, unpack

SITE_PULL, SITE_PUSH = "/v1/fleet/covey-pull", "/v1/fleet/covey-push"
APP_PULL, APP_PUSH = "/v1/runtime/covey-pull", "/v1/runtime/covey-push"
WAIT, FRESH = "covey-wait", "covey-fresh"
HOLD = 20.0  # seconds for which a question is held
PATIENCE = 60.0  # seconds without a byte, in either direction, beside what a question is held for
STORING = 300.0  # seconds for a SuperLink to store what many bring at once
HEAD = 64 * 2**20  # bytes of the part that says what the objects are
IDENTIFIER = 64  # characters of an object's id
# What an answer may have, unless told otherwise: parts of Flower's have 5 MiB.
LARGEST = Bounds(first=HEAD, part=2**30, whole=2**33, parts=100_000)


class NotOfferedError(Exception):
    """The SuperLink does not know these calls."""


class DisplacedError(Exception):
    """Another process has asked with the same key while this one was waiting."""


@dataclass
class Delivery:
    """A message that has arrived whole, and not been put together yet: `head` has its metadata, no
    content. `open` may raise whatever its maker's bytes bring Flower to raise."""

    head: Message
    _root: str
    _contents: dict[str, bytearray]
    _broken: str = ""

    def open(self) -> Message:
        """The message; once, since its parts are given up on the way."""
        if self._broken:
            raise FrameError(self._broken)
        contents, self._contents = self._contents, {}
        message = cast(Message, put_together(self._root, contents))
        message.metadata.__dict__["_message_id"] = self._root
        return message


class _Limits(dict[str, float | None]):
    """The time limits of one request. Flower sets its own 30 s for the beginning of any answer, and
    takes the limit for the rest away: here they stay as they are."""

    def __setitem__(self, _name: str, _seconds: float | None) -> None:
        pass


class _Calls:
    """What both sides' calls have in common."""

    def __init__(self, client: ProtobufClient, retry: RetryInvoker | None = None) -> None:
        lacking = [name for name in inside.CLIENT if not hasattr(client, name)]
        if lacking:
            raise NotOfferedError(f"this flwr's clients have no {lacking[0]}")
        self._client = client
        self._retry = retry or make_simple_http_retry_invoker()

    @contextmanager
    def _sent(
        self,
        path: str,
        message: Any,
        content: Iterable[Piece],
        headers: Mapping[str, str],
        patience: float = PATIENCE,
    ) -> Iterator[httpx.Response]:
        """The answer to one request, whose body has not been read yet. It may begin, and pause, for
        `patience` seconds."""
        request = self._client._client.build_request(
            "POST",
            f"{self._client._base_url}{path}",
            content=cast(Iterator[bytes], iter(content)),  # what it sends may be any bytes
            headers={
                "content-type": "application/octet-stream",
                "accept-encoding": "identity",
                **headers,
            },
        )
        request.extensions["timeout"] = _Limits(httpx.Timeout(PATIENCE, read=patience).as_dict())
        context = ProtobufRequestContext(f"/covey{path}", message, request)
        response = self._client._send(context, stream=True)
        try:
            if response.status_code == httpx.codes.NOT_FOUND:
                raise NotOfferedError(path)
            if response.status_code == httpx.codes.CONFLICT:
                raise DisplacedError("another process asks with this key")
            response.raise_for_status()
            yield response
        finally:
            response.close()


class SiteCalls(_Calls):
    """The calls of the site `node` over `client` (a FleetHttpClient)."""

    def __init__(
        self, client: ProtobufClient, node: int, retry: RetryInvoker | None = None
    ) -> None:
        super().__init__(client, retry)
        self._node = Node(node_id=node)

    def pull(
        self, wait: float = HOLD, fresh: bool = False, bounds: Bounds = LARGEST
    ) -> Delivery | None:
        """The next message to this site; None if there was none for `wait` seconds.

        `fresh`: this site has nothing in hand, so that it is to get what was handed to it and not
        answered again. A lost answer is asked for in this way by itself. `NotOfferedError`,
        `DisplacedError`; other errors as of Flower's calls.
        """
        question = PullMessagesRequest(node=self._node)
        lost = fresh

        def ask() -> Delivery | None:
            nonlocal lost
            headers = {WAIT: f"{wait:g}", **({FRESH: "1"} if lost else {})}
            lost = True
            body = [question.SerializeToString()]
            with self._sent(SITE_PULL, question, body, headers, wait + PATIENCE) as response:
                return _delivery(response, PullMessagesResponse, bounds)

        return cast(Delivery | None, self._retry.invoke(ask))

    def push(self, reply: Message, seconds: float) -> None:
        """Give a reply to the SuperLink; `seconds` is what it took to make it. Again after a lost
        connection, where the SuperLink has it at most once."""
        protos, trees, objects = _taken_apart([reply])
        told = _told(self._node, protos, trees, seconds)

        def give() -> None:
            body = pack(_parts(told, objects))
            with self._sent(SITE_PUSH, told, body, {}, STORING) as response:
                response.read()

        self._retry.invoke(give)


class AppCalls(_Calls):
    """The calls of a ServerApp over `client` (its grid's RuntimeHttpClient)."""

    def push(self, messages: Iterable[Message]) -> list[str]:
        """Give messages to the SuperLink, in one request in which they share their objects; the id
        of each, "" for one that was not taken."""
        protos, trees, objects = _taken_apart(messages)
        told = PushAppMessagesRequest(messages_list=protos, message_object_trees=trees)

        def give() -> bytes:
            body = pack(_parts(told, objects))
            with self._sent(APP_PUSH, told, body, {}, STORING) as response:
                return response.read()

        answer = PushAppMessagesResponse.FromString(cast(bytes, self._retry.invoke(give)))
        return list(answer.message_ids)

    def pull(
        self,
        message_ids: Collection[str],
        taken: Collection[str],
        wait: float,
        bounds: Bounds = LARGEST,
    ) -> Delivery | None:
        """The next reply to one of `message_ids`; None if nothing has changed for `wait` seconds,
        or something else has: a site has come or gone. A reply stays at the SuperLink until its
        instruction is among `taken`: it, or what may still come of it, is then given up."""
        question = PullAppMessagesRequest(message_ids=message_ids)
        done = PullAppMessagesRequest(message_ids=taken)
        body = [question.SerializeToString(), done.SerializeToString()]

        def ask() -> Delivery | None:
            headers = {WAIT: f"{wait:g}"}
            with self._sent(APP_PULL, question, pack(body), headers, wait + PATIENCE) as response:
                return _delivery(response, PullAppMessagesResponse, bounds)

        return cast(Delivery | None, self._retry.invoke(ask))


def _taken_apart(
    messages: Iterable[Message],
) -> tuple[list[MessageProto], list[ObjectTree], dict[str, InflatableObject]]:
    """Flower's heads, trees and objects (by id) of messages."""
    protos, trees = [], []
    objects: dict[str, InflatableObject] = {}
    with no_object_id_recompute():
        for message in messages:
            cut_arrays(message)
            message.metadata.__dict__["_message_id"] = message.object_id
            bare = remove_content_from_message(message) if message.has_content() else message
            protos.append(message_to_proto(bare))
            objects.update(get_all_nested_objects(message))
            trees.append(get_object_tree(message))
    return protos, trees, objects


def _told(
    node: Node, protos: list[MessageProto], trees: list[ObjectTree], seconds: float
) -> PushMessagesRequest:
    return PushMessagesRequest(
        node=node,
        messages_list=protos,
        message_object_trees=trees,
        clientapp_runtime_list=[seconds],
    )


def _parts(told: Any, objects: Mapping[str, InflatableObject]) -> Iterator[Part]:
    yield told.SerializeToString()
    with no_object_id_recompute():
        for object_id, item in objects.items():
            yield (object_id.encode("ascii"), *content_of(item))


def _delivery(response: httpx.Response, kind: Callable[[], Any], bounds: Bounds) -> Delivery | None:
    """What an answer brings: nothing, or a head and its objects in the order of its tree."""
    parts = unpack(response.iter_raw(), bounds)
    first = next(parts, None)
    if first is None:
        return None
    answer = kind()
    answer.ParseFromString(bytes(first))
    proto, tree = answer.messages_list[0], answer.message_object_trees[0]
    ids = object_ids(tree)
    head = message_from_proto(proto)
    contents: dict[str, bytearray] = {}
    try:
        for object_id, content in zip(ids, parts, strict=True):
            contents[object_id] = content
    except ValueError as error:  # too large, cut off, or fewer than its head says
        return Delivery(head, tree.object_id, {}, str(error))
    return Delivery(head, tree.object_id, contents)


def object_ids(tree: ObjectTree) -> list[str]:
    """The ids of a tree's objects, each once, in the order in which their contents travel."""
    return list(dict.fromkeys(node.object_id for node in iterate_object_tree(tree)))
