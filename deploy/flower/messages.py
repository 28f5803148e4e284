"""What the calls for whole messages do in the SuperLink's database, in one transaction each.

Flower's own handlers decide what a message is, who may have it and what is wrong with it. Beside
them, directly in Flower's tables: how large an object is, what was handed to a site and never
answered, and the deletion of many finished messages at once. Called from threads.
"""

import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Collection
from typing import Any, cast

from fastapi import HTTPException
from flwr.common.constant import Status
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest  # pylint: disable=E0611
from flwr.proto.runtime_pb2 import (  # pylint: disable=E0611
    PullAppMessagesRequest,
    PullAppMessagesResponse,
    PushAppMessagesRequest,
)
from flwr.server.superlink.utils import check_abort
from flwr.supercore.state.schema.linkstate_models import MessageIns
from flwr.supercore.utils import int64_to_uint64
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers
from sqlalchemy import select

from deploy.flower import bells
from deploy.flower.bells import Bells
from deploy.flower.finished import Finished
from deploy.flower.kept import Kept
from deploy.flower.objects import Contents, Trees
from deploy.flower.transactions import (
    NOT_RUNNING,
    Asked,
    Incomplete,
    Light,
    Looking,
    Outgoing,
    hand_out_again,
    look_up,
    only,
    outgoing_of,
    rolled_back,
    store,
)

LEAST_REPLY, TIMES = 2**26, 8  # bytes that a reply may have, or so many times what was asked
MOST_ASKED = 100_000  # instructions whose size is remembered
SCAN = 2.0  # seconds between two looks at all of a run's instructions, for what rings no bell
STILL = 1.0  # seconds for which a run is taken to be running
ATTEMPTS = 8  # at finding a message whose run is still there


class Messages:
    """What one SuperLink's calls for whole messages do with its state."""

    def __init__(self, rung: Bells, kept: Kept) -> None:
        self._bells, self._kept = rung, kept
        self._finished = Finished(kept)
        self._lock = threading.Lock()
        self._asked: OrderedDict[str, Asked] = OrderedDict()  # what sites have, by id
        # run -> its instructions that have been answered, oldest first, until they are taken
        self._ready: dict[int, dict[str, None]] = defaultdict(dict)
        self._running: dict[int, float] = {}  # run -> when it was seen to be running
        self._scanned: dict[int, float] = {}  # run -> when all were last looked at

    # -- sites ------------------------------------------------------------------------------------

    def claim(self, question: PullMessagesRequest, state: Any, fresh: bool) -> Outgoing | None:
        """The next message to the site that asks, which is then its; `fresh`: after all that was
        handed to it and not answered may be handed to it again."""
        node = question.node.node_id
        if fresh:
            hand_out_again(node, state)
        try:
            for _ in range(ATTEMPTS):
                with state.session():
                    light, trees = Light(state), Trees(state)
                    answer = fleet_handlers.pull_messages(
                        question, cast(Any, light), cast(Any, trees)
                    )
                    if not answer.messages_list:
                        return None
                    message, tree = answer.messages_list[0], answer.message_object_trees[0]
                    run_id = message.metadata.run_id
                    if not self._is_running(run_id, state):
                        continue  # which has deleted the run's messages
                    outgoing = outgoing_of(run_id, answer, tree, trees.sizes, state)
                    size = sum(outgoing.sizes)
                    light.note_traffic(run_id, sent=size)
                    self._remember(message.metadata.message_id, Asked(run_id, node, size))
                    return outgoing
        except Incomplete as missing:
            missing.settle(state)
        return None

    def _is_running(self, run_id: int, state: Any) -> bool:
        """Looked at once a second; the messages of a run that has ended are deleted with that."""
        now = time.monotonic()
        if now - self._running.get(run_id, -STILL) < STILL:
            return True
        if check_abort(run_id, NOT_RUNNING, state):
            self._running.pop(run_id, None)
            return False
        self._running[run_id] = now
        return True

    def _remember(self, message_id: str, asked: Asked) -> None:
        with self._lock:
            self._asked[message_id] = asked
            if len(self._asked) > MOST_ASKED:
                self._asked.popitem(last=False)

    def give_back(self, node: int, outgoing: Outgoing, state: Any) -> None:
        """A message did not reach the site that it was for."""
        hand_out_again(node, state, outgoing.root)
        self._bells.ring(bells.site(node))

    def admit(self, told: PushMessagesRequest, node: int, state: Any) -> int:
        """Bytes that this reply of the site `node` may have; 0 where nobody waits for it any more.
        It is refused where it is not one reply to what this very site was asked."""
        message, _ = only(told.messages_list, told.message_object_trees)
        metadata = message.metadata
        if metadata.src_node_id != node:
            raise HTTPException(400, "a reply in the name of another site")
        with self._lock:
            asked = self._asked.get(metadata.reply_to_message_id)
        asked = asked or look_up(metadata.reply_to_message_id, state)
        if asked is None:
            return 0
        if (asked.node, asked.run_id) != (node, metadata.run_id):
            raise HTTPException(400, "a reply to what this site was not asked")
        return max(LEAST_REPLY, TIMES * asked.size)

    def store(self, told: PushMessagesRequest, contents: Contents, state: Any) -> None:
        """Take a reply that was admitted, with its objects."""
        metadata = told.messages_list[0].metadata
        run_id, asked = metadata.run_id, metadata.reply_to_message_id

        def push(light: Any) -> Any:
            return fleet_handlers.push_messages(request=told, state=light)

        store(push, told, contents, run_id, state, of_a_site=True)
        with self._lock:
            known = self._asked.pop(asked, None)
            self._ready[run_id][asked] = None
        self._finished.answered(asked, known.size if known else 0)
        self._finished.delete(state)
        self._bells.ring(bells.run(run_id))

    # -- ServerApps -------------------------------------------------------------------------------

    def ask(self, told: PushAppMessagesRequest, contents: Contents, state: Any, task: Any) -> bytes:
        """Take messages to sites, with their objects; Flower's answer."""

        def push(light: Any) -> Any:
            return runtime_handlers.push_messages(told, light, task)

        answer = store(push, told, contents, task.run_id, state, of_a_site=False)
        for message in told.messages_list:
            self._bells.ring(bells.site(message.metadata.dst_node_id))
        return bytes(answer.SerializeToString())

    def taken(self, ids: Collection[str], state: Any, task: Any) -> None:
        """These instructions are done with."""
        with self._lock:
            for message_id in ids:
                self._ready[task.run_id].pop(message_id, None)
        self._finished.taken(task.run_id, ids)
        self._finished.delete(state)

    def take(self, ids: Collection[str], state: Any, task: Any) -> Outgoing | None:
        """The next whole reply to one of these instructions. It stays where it is: it is handed
        out again unless it is said to be `taken`."""
        run_id, wanted = task.run_id, set(ids)
        while (one := self._next_ready(run_id, wanted)) is not None:
            found = self._read({one}, run_id, state, task)
            if found is not None:
                return found
            with self._lock:
                self._ready[run_id].pop(one, None)
        now = time.monotonic()
        if not wanted or now - self._scanned.get(run_id, -SCAN) < SCAN:
            return None
        self._scanned[run_id] = now
        return self._read(wanted, run_id, state, task)

    def _next_ready(self, run_id: int, wanted: Collection[str]) -> str | None:
        with self._lock:
            return next((one for one in self._ready[run_id] if one in wanted), None)

    def _read(self, ids: set[str], run_id: int, state: Any, task: Any) -> Outgoing | None:
        """One of the whole replies to these; those of the others are ready."""
        missing: list[Incomplete] = []
        with rolled_back(state):
            asked = PullAppMessagesRequest(message_ids=ids)
            light = Looking(state)
            answer = runtime_handlers.pull_messages(asked, cast(Any, light), task)
            pairs = list(zip(answer.messages_list, answer.message_object_trees, strict=True))
            while pairs:
                message, tree = pairs.pop(0)
                one = PullAppMessagesResponse(messages_list=[message], message_object_trees=[tree])
                try:
                    outgoing = outgoing_of(run_id, one, tree, light.object_store.sizes, state)
                except Incomplete as one_is:
                    missing.append(one_is)
                    continue
                with self._lock:
                    for other, _ in [(message, tree), *pairs]:
                        self._ready[run_id][other.metadata.reply_to_message_id] = None
                return outgoing
        for why in missing:
            why.settle(state)
        return None

    # -- runs -------------------------------------------------------------------------------------

    def ended(self, run_id: int, state: Any) -> None:
        """A ServerApp has ended: nothing of its run is kept but what Flower knows of it."""
        if check_abort(run_id, [Status.FINISHED], state):  # which deletes
            with self._lock:
                self._ready.pop(run_id, None)
                self._scanned.pop(run_id, None)
                self._running.pop(run_id, None)
            self._kept.sweep(state)

    def tidy(self, state: Any) -> None:
        """At the start: delete what runs that have ended have left."""
        with state.session() as session:
            runs = session.scalars(select(MessageIns.run_id).distinct()).all()
        for run_id in runs:
            self.ended(int64_to_uint64(run_id), state)
