"""Messages that are done with, deleted many at once.

Flower deletes a message's objects one by one, four statements each; a round of 200 sites has
thousands. Here they are counted down and deleted level by level, some twenty statements for however
many messages. What is not deleted yet when the SuperLink ends goes with its run.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Collection
from typing import Any

from flwr.supercore.state.schema.linkstate_models import MessageIns, MessageRes
from flwr.supercore.state.schema.objectstore_models import ObjectChild, StoredObject
from flwr.supercore.utils import uint64_to_int64
from sqlalchemy import delete, func, select, update

MOST, MOST_BYTES, OLDEST = 64, 2**26, 5.0  # messages, bytes, seconds that are waited for more


class Finished:
    """What is to be deleted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[int, set[str]] = defaultdict(set)  # run -> instructions
        self._answered: set[str] = set()
        self._bytes = 0
        self._since = 0.0

    def taken(self, run_id: int, ids: Collection[str], size: int = 0) -> None:
        """Instructions whose replies their run has, or wants no more: they and their replies."""
        if ids:
            self._note(size)
            with self._lock:
                self._taken[run_id].update(ids)

    def answered(self, message_id: str, size: int) -> None:
        """An instruction that has been answered: its objects, not yet what says that it was."""
        self._note(size)
        with self._lock:
            self._answered.add(message_id)

    def _note(self, size: int) -> None:
        with self._lock:
            self._bytes += size
            self._since = self._since or time.monotonic()

    def delete(self, state: Any) -> None:
        """Delete what there is, if it is time to."""
        with self._lock:
            number = len(self._answered) + sum(map(len, self._taken.values()))
            old = self._since and time.monotonic() - self._since >= OLDEST
            if not (number >= MOST or self._bytes >= MOST_BYTES or old):
                return
            taken, answered = dict(self._taken), self._answered
            self._taken, self._answered = defaultdict(set), set()
            self._bytes, self._since = 0, 0.0
        with state.session() as session:
            roots = set(answered)
            for run_id, ids in taken.items():
                roots |= _forget(session, state, run_id, ids)
            delete_trees(session, roots)


def _forget(session: Any, state: Any, run_id: int, ids: Collection[str]) -> set[str]:
    """Delete a run's instructions and their replies; the objects that are theirs."""
    run = uint64_to_int64(run_id)
    asked = select(MessageIns.message_id).where(
        MessageIns.message_id.in_(ids), MessageIns.run_id == run
    )
    replied = select(MessageRes.message_id).where(
        MessageRes.reply_to_message_id.in_(ids), MessageRes.run_id == run
    )
    mine = set(session.scalars(asked))
    roots = mine | set(session.scalars(replied))
    state.delete_messages(mine)
    return roots


def delete_trees(session: Any, roots: Collection[str]) -> None:
    """Delete objects that no other refers to, and whatever only they refer to; as
    `SqlObjectStore.delete` of flwr does for one."""
    # An update, so that this transaction has the database to itself from here on.
    orphans = (
        update(StoredObject)
        .where(StoredObject.object_id.in_(roots), StoredObject.ref_count == 0)
        .values(ref_count=0)
        .returning(StoredObject.object_id)
    )
    doomed = set(session.scalars(orphans)) if roots else set()
    while doomed:
        links = (
            select(ObjectChild.child_id, func.count())
            .where(ObjectChild.parent_id.in_(doomed))
            .group_by(ObjectChild.child_id)
        )
        by_number = defaultdict(set)  # of links that are lost -> children
        for child, number in session.execute(links).all():
            by_number[number].add(child)
        session.execute(delete(StoredObject).where(StoredObject.object_id.in_(doomed)))
        doomed = set()
        for number, children in by_number.items():
            fewer = (
                update(StoredObject)
                .where(StoredObject.object_id.in_(children))
                .values(ref_count=func.max(StoredObject.ref_count - number, 0))
                .returning(StoredObject.object_id, StoredObject.ref_count)
            )
            doomed |= {child for child, left in session.execute(fewer).all() if left == 0}
