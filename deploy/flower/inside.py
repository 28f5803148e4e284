"""The names inside Flower that the fast road touches, checked when a process starts.

None of them is promised by Flower. Where one is missing, whole messages and held questions are not
used in this process: it goes on with Flower's own calls, and says so once in its log.
"""

from collections.abc import Iterable, Mapping
from importlib import import_module
from logging import WARNING

from flwr.supercore import log

Names = Mapping[str, Iterable[str]]
"""module -> what is taken from it, attributes of a class after a dot."""

ASKING: Names = {
    "flwr.supercore.protobuf.client": (
        "ProtobufClient._send",
        "ProtobufClient.from_server_address",
        "ProtobufRequestContext",
    ),
    "flwr.supercore.inflatable.inflatable_object": (
        "get_all_nested_objects",
        "get_object_tree",
        "iterate_object_tree",
        "no_object_id_recompute",
        "get_object_head_values_from_object_content",
    ),
    "flwr.supercore.inflatable.inflatable_utils": ("inflate_object_from_contents",),
    "flwr.supercore.constant": ("HEAD_BODY_DIVIDER", "HEAD_VALUE_DIVIDER"),
    "flwr.common.constant": ("FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE",),
    "flwr.app.message.arraychunk": ("ArrayChunk",),
    "flwr.supercore.retry": ("make_simple_http_retry_invoker", "RetryInvoker.invoke"),
    "flwr.app.message": ("remove_content_from_message",),
    "flwr.common.serde": ("message_from_proto", "message_to_proto"),
    "flwr.proto.fleet_pb2": ("PullMessagesRequest", "PullMessagesResponse", "PushMessagesRequest"),
    "flwr.proto.runtime_pb2": (
        "PullAppMessagesRequest",
        "PullAppMessagesResponse",
        "PushAppMessagesRequest",
        "PushAppMessagesResponse",
    ),
}
"""What `deploy/flower/whole.py` needs, for a site as for a ServerApp."""

SERVING: Names = {
    "uvicorn": ("run",),
    "flwr.superlink.servicer.fleet.fleet_handlers": (
        "pull_messages",
        "push_messages",
        "push_object",
        "activate_node",
    ),
    "flwr.superlink.servicer.runtime.runtime_handlers": (
        "pull_messages",
        "push_messages",
        "push_object",
        "push_task_output",
    ),
    "flwr.superlink.routers.fleet.node_auth": ("authenticate_node",),
    "flwr.superlink.dependencies.linkstate": ("get_linkstate",),
    "flwr.supercore.dependencies.task": ("authenticate_task",),
    "flwr.supercore.error": ("http_error_translator", "FlowerError"),
    "flwr.supercore.constant": ("FLEET_HTTP_PUBLIC_KEY_HEADER", "TASK_TOKEN_HEADER"),
    "flwr.server.superlink.utils": ("check_abort",),
    "flwr.server.superlink.linkstate.sql_linkstate": (
        "SqlLinkState.session",
        "SqlLinkState.object_store",
        "SqlLinkState.store_message_ins",
        "SqlLinkState.store_message_res",
        "SqlLinkState.get_object",
        "SqlLinkState.delete_messages",
        "SqlLinkState.get_node_id_by_public_key",
    ),
    "flwr.supercore.object_store.sql_object_store": ("SqlObjectStore.get",),
    "flwr.supercore.object_store": ("NoObjectInStoreError",),
    "flwr.supercore.state.schema.linkstate_models": (
        *(f"MessageIns.{column}" for column in ("message_id", "run_id", "dst_node_id")),
        "MessageIns.delivered_at",
        *(f"MessageRes.{column}" for column in ("message_id", "run_id", "reply_to_message_id")),
        *(f"Run.{column}" for column in ("bytes_sent", "bytes_recv", "clientapp_runtime")),
    ),
    "flwr.supercore.state.schema.objectstore_models": (
        *(f"StoredObject.{column}" for column in ("object_id", "content", "is_available")),
        "StoredObject.ref_count",
        "ObjectChild.parent_id",
        "ObjectChild.child_id",
        "RunObject.run_id",
        "RunObject.object_id",
    ),
    "flwr.supercore.inflatable.inflatable_object": (
        "UnexpectedObjectContentError",
        "get_object_id",
        "is_valid_sha256_hash",
        "iterate_object_tree",
    ),
    "flwr.supercore.inflatable.inflatable_utils": ("validate_object_content",),
    "flwr.supercore.run": ("RunStatus",),
    "flwr.supercore.utils": ("int64_to_uint64", "uint64_to_int64"),
}
"""What the SuperLink's side of it needs."""

SITE: Names = {
    "flwr.supernode.fleet_http_client": tuple(
        f"FleetHttpClient.{call}"
        for call in (
            "ActivateNode",
            "DeactivateNode",
            "SendNodeHeartbeat",
            "GetRun",
            "GetFab",
            "PullMessages",
            "PushMessages",
            "PullObject",
            "PushObject",
            "ConfirmMessageReceived",
        )
    ),
    "flwr.supernode.node_auth_http_interceptor": ("NodeAuthHttpInterceptor",),
    "flwr.supercore.interceptors.http.runtime_version": ("RuntimeVersionHttpInterceptor",),
    "flwr.supercore.heartbeat": ("HeartbeatSender.start", "HeartbeatSender.stop"),
    "flwr.supercore.inflatable.inflatable_protobuf_utils": (
        "make_confirm_message_received_fn_protobuf",
        "make_pull_object_fn_protobuf",
        "make_push_object_fn_protobuf",
    ),
    "flwr.supercore.inflatable.inflatable_utils": ("pull_objects", "push_objects"),
    "flwr.supercore.primitives.asymmetric": ("public_key_to_bytes",),
    "flwr.supercore.retry": ("exponential",),
    "flwr.supercore.error": (
        "ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL",
        "FlowerError.from_json",
    ),
    "flwr.supercore.run": ("Run", "RunNotRunningException"),
    "flwr.supercore.fab": ("Fab",),
    "flwr.common.serde": ("fab_from_proto", "run_from_proto"),
    "flwr.common.constant": (
        "HEARTBEAT_DEFAULT_INTERVAL",
        "HEARTBEAT_PATIENCE",
        "ErrorCode.INVALID_FAB",
        "ErrorCode.CLIENT_APP_RAISED_EXCEPTION",
    ),
}
"""What a site's connection needs beside `ASKING` (`deploy/flower/fleet.py`): without one of them a
site is SuperNode and SuperExec."""

CLIENT = ("_client", "_base_url")
"""What an object of ProtobufClient has to have."""


def missing(names: Names) -> list[str]:
    """Those of `names` that the installed flwr does not have, written out."""
    return [
        f"{module}.{name}"
        for module, wanted in names.items()
        for name in wanted
        if not _there(module, name)
    ]


def usable(names: Names, what: str) -> bool:
    """Whether all of `names` are there; if not, a line of the log says that `what` uses Flower's
    own calls, and why."""
    lacking = missing(names)
    if lacking:
        log(WARNING, "covey: this flwr has no %s: %s with Flower's own calls", lacking[0], what)
    return not lacking


def _there(module: str, name: str) -> bool:
    try:
        found: object = import_module(module)
    except ImportError:
        return False
    for part in name.split("."):
        if not hasattr(found, part):
            return False
        found = getattr(found, part)
    return True
