"""A site's way to its SuperLink: Flower's own Fleet API, with TLS, the site's key and heartbeats.

Messages and replies travel whole where the SuperLink offers it (`deploy/flower/whole.py`), and with
Flower's own calls where it is a stock one. The names of Flower that are used:
`deploy/flower/inside.py`.
"""

import os
import signal
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.common.serde import (
    fab_from_proto,
    message_from_proto,
    message_to_proto,
    run_from_proto,
)
from flwr.proto.fab_pb2 import GetFabRequest  # pylint: disable=E0611
from flwr.proto.fleet_pb2 import (  # pylint: disable=E0611
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest  # pylint: disable=E0611
from flwr.proto.node_pb2 import Node  # pylint: disable=E0611
from flwr.proto.run_pb2 import GetRunRequest  # pylint: disable=E0611
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import pull_objects, push_objects
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.retry import exponential, make_simple_http_retry_invoker
from flwr.supercore.run import Run
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from deploy.flower.mark import Mark, since_boot
from deploy.flower.whole import Delivery, DisplacedError, NotOfferedError, SiteCalls, object_ids

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5  # seconds between two attempts to reach the SuperLink
STOCK_POLL = 1.0  # seconds between two questions to a SuperLink that does not hold them
NOTICED = 4.0  # seconds in which whoever waits for a site sees that it was away
GOODBYE = 2.0  # seconds for the last call
Q = TypeVar("Q")
A = TypeVar("A")
LATER = (502, 503, 504)  # statuses with which a proxy says that it will be back


class NotLetInError(Exception):
    """The SuperLink does not let the site in. `known`: it knows the key, and counts another process
    with it as there."""

    def __init__(self, known: bool) -> None:
        super().__init__("known" if known else "unknown")
        self.known = known


class Fleet:
    """The site whose `key` it is, at the SuperLink at `address` with a certificate of the authority
    `roots`; `mark` is where it notes who it is. A context manager, which says goodbye."""

    def __init__(
        self, address: str, roots: bytes, key: ec.EllipticCurvePrivateKey, mark: Mark
    ) -> None:
        self._public = public_key_to_bytes(key.public_key())
        self._client = FleetHttpClient.from_server_address(
            address,
            False,
            roots,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(key, key.public_key()),
            ],
        )
        self._retry = make_simple_http_retry_invoker()
        self._retry.wait_gen_factory = lambda: exponential(FIRST_PAUSE, max_delay=LONGEST_PAUSE)
        self._mark = mark
        self._heartbeats: HeartbeatSender | None = None
        self._whole: SiteCalls | None = None
        self._fresh = True  # nothing is in hand of what was handed to this site
        self._taken_over = False
        self._heard = 0.0  # since boot: when the last heartbeat was sent
        self.node = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._heartbeats is not None:
            self._heartbeats.stop()
            self._mark.clear()
            self._client._client.timeout = httpx.Timeout(GOODBYE)
            self._deactivate()
        self._client.close()

    def go_on(self) -> bool:
        """Go on as the process before this one, where the SuperLink still counts it as there."""
        node = self._mark.node()
        if node is None or not self._beat(node):
            return False
        self._taken_over = True
        self._settle(node)
        return True

    def enter(self) -> None:
        """Be let in; `NotLetInError`, or an error of httpx where nobody answers."""
        try:
            self._settle(self._activate(HEARTBEAT_DEFAULT_INTERVAL))
        except httpx.HTTPStatusError as error:
            if error.response.status_code in LATER:
                raise
            raise NotLetInError(self._is_known()) from None

    def next(self) -> Delivery | None:
        """The next message, or None after a while without one; errors as of Flower's calls."""
        if self._whole is not None:
            fresh, self._fresh = self._fresh, True  # until its answer is here
            try:
                found = self._whole.pull(fresh=fresh)
            except NotOfferedError:
                self._show_that_it_was_away()
                self._whole = None
            else:
                self._fresh = False
                return found
        return self._pull_apart()

    def lost(self) -> None:
        """What was handed to this site is not in hand any more: it is to be handed out again."""
        self._fresh = True

    def is_heard(self) -> bool:
        """Whether the SuperLink takes a heartbeat of this site just now."""
        return self._beat(self.node)

    def reply(self, message: Message, seconds: float) -> None:
        """Send a reply that it took `seconds` to make; errors as of Flower's calls."""
        if self._whole is not None:
            self._whole.push(message, seconds)
        else:
            self._push_apart(message, seconds)

    def run(self, run_id: int) -> Run:
        """What the SuperLink says of a run."""
        request = GetRunRequest(node=Node(node_id=self.node), run_id=run_id)
        return run_from_proto(self._retry.invoke(self._client.GetRun, request).run)

    def bundle(self, run: Run) -> Fab:
        """A run's bundle, of which nothing has been looked at."""
        request = GetFabRequest(
            node=Node(node_id=self.node), hash_str=run.fab_hash, run_id=run.run_id
        )
        return fab_from_proto(self._retry.invoke(self._client.GetFab, request).fab)

    def _settle(self, node: int) -> None:
        self.node = node
        self._mark.write(node, self._heard)
        try:
            self._whole = SiteCalls(self._client, node, self._retry)
        except NotOfferedError:
            self._whole = None
        self._heartbeats = HeartbeatSender(lambda: self._beat(node))
        self._heartbeats.start()

    def _activate(self, interval: float) -> int:
        self._heard = since_boot()
        request = ActivateNodeRequest(public_key=self._public, heartbeat_interval=interval)
        return int(self._client.ActivateNode(request).node_id)

    def _is_known(self) -> bool:
        """Asks to be let in with an impossible interval: the SuperLink looks the key up first."""
        try:
            self._activate(-1.0)
        except httpx.HTTPStatusError as refused:
            error = FlowerError.from_json(refused.response.text)
            code = ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL
            return error is not None and error.code == code
        return True

    def _beat(self, node: int) -> bool:
        """Say that `node` is there; whether the SuperLink has heard it. A key that has been revoked
        ends the process, whatever it is at work on."""
        self._heard = since_boot()
        request = SendNodeHeartbeatRequest(
            node=Node(node_id=node), heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL
        )
        try:
            heard = bool(self._client.SendNodeHeartbeat(request).success)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.UNAUTHORIZED and self._heartbeats:
                os.kill(os.getpid(), signal.SIGINT)
            return False
        except httpx.HTTPError:
            return False
        if heard:
            self._mark.write(node, self._heard)
        return heard

    def _deactivate(self) -> None:
        try:
            self._client.DeactivateNode(DeactivateNodeRequest(node_id=self.node))
        except (httpx.HTTPError, RuntimeError):
            return

    def _show_that_it_was_away(self) -> None:
        """A stock SuperLink does not hand out again what it handed to a process that was killed: it
        must see that the process is gone, so that nobody waits for its answer."""
        if not self._taken_over or self._heartbeats is None:
            return
        self._taken_over = False
        self._heartbeats.stop()
        self._heartbeats = None
        self._mark.clear()
        self._deactivate()
        time.sleep(NOTICED)
        try:
            self._settle(self._activate(HEARTBEAT_DEFAULT_INTERVAL))
        except httpx.HTTPStatusError:
            raise DisplacedError("another process was let in with this site's key") from None

    def _pull_apart(self) -> Delivery | None:
        """The next message with Flower's own calls, object by object."""
        node = Node(node_id=self.node)
        answer = self._retry.invoke(self._client.PullMessages, PullMessagesRequest(node=node))
        if not answer.messages_list:
            time.sleep(STOCK_POLL)
            return None
        head, tree = message_from_proto(answer.messages_list[0]), answer.message_object_trees[0]
        run_id = head.metadata.run_id
        contents = pull_objects(
            object_ids(tree),
            make_pull_object_fn_protobuf(self._repeated(self._client.PullObject), node, run_id),
            initial_backoff=0.05,
            backoff_cap=1.0,
        )
        make_confirm_message_received_fn_protobuf(
            self._repeated(self._client.ConfirmMessageReceived), node, run_id
        )(head.metadata.message_id)
        whole = {name: bytearray(contents[name]) for name in object_ids(tree)}
        return Delivery(head, tree.object_id, whole)

    def _push_apart(self, message: Message, seconds: float) -> None:
        """Send a reply with Flower's own calls, object by object."""
        node = Node(node_id=self.node)
        message.metadata.__dict__["_message_id"] = message.object_id
        bare = remove_content_from_message(message) if message.has_content() else message
        with no_object_id_recompute():
            request = PushMessagesRequest(
                node=node,
                messages_list=[message_to_proto(bare)],
                message_object_trees=[get_object_tree(message)],
                clientapp_runtime_list=[seconds],
            )
            told = self._retry.invoke(self._client.PushMessages, request)
            push_objects(
                get_all_nested_objects(message),
                make_push_object_fn_protobuf(
                    self._repeated(self._client.PushObject),
                    node,
                    message.metadata.run_id,
                    told.session_id,
                ),
                object_ids_to_push=set(told.objects_to_push),
            )

    def _repeated(self, call: Callable[[Q], A]) -> Callable[[Q], A]:
        return lambda request: self._retry.invoke(call, request)
