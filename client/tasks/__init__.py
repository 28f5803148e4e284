"""What a site does for each kind of message: one function for each, from a `Task` to a `Reply`."""

from collections.abc import Callable, Mapping

from client.tasks import measure, solve, train
from client.tasks.task import Task
from common.protocol.messages import Kind, Reply

TASKS: Mapping[Kind, Callable[[Task], Reply]] = {
    "prepare": train.prepare,
    "train": train.train,
    "patches": solve.patches,
    "moments": solve.moments,
    "landmarks": solve.landmarks,
    "affinity": solve.affinity,
    "assess": measure.assess,
    "lloyd": measure.lloyd,
    "score": measure.score,
}
"""By kind; `hello` is answered before there is a model."""
