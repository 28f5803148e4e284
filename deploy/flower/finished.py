"""Messages that are done with, deleted many at once.

What is not deleted yet when the SuperLink ends goes with its run.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Collection
from typing import Any, cast

from flwr.supercore.state.schema.linkstate_models import MessageIns, MessageRes
from flwr.supercore.utils import uint64_to_int64
from sqlalchemy import select

from deploy.flower.kept import Kept
from deploy.flower.objects import delete_trees

_INS, _RES = (cast(Any, model.__table__) for model in (MessageIns, MessageRes))
MOST, MOST_BYTES, OLDEST = 64, 2**26, 5.0  # messages, bytes, seconds that are waited for more


class Finished:
    """What is to be deleted, and with it what is `kept` for it alone."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
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
        self._kept.sweep(state)


def _forget(session: Any, state: Any, run_id: int, ids: Collection[str]) -> set[str]:
    """Delete a run's instructions and their replies; the objects that are theirs."""
    run = uint64_to_int64(run_id)
    asked = select(_INS.c.message_id).where(_INS.c.message_id.in_(ids), _INS.c.run_id == run)
    replied = select(_RES.c.message_id).where(
        _RES.c.reply_to_message_id.in_(ids), _RES.c.run_id == run
    )
    mine = set(session.scalars(asked))
    roots = mine | set(session.scalars(replied))
    state.delete_messages(mine)
    return roots
