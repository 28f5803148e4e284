"""What a site does for each kind of message: one function for each, from a `Task` to a `Reply`.

A function in a file of this folder that is called as an exchange is found by that name.
"""

from collections.abc import Callable, Mapping

from client.tasks.task import Task
from common.protocol.exchanges import EXCHANGES
from common.protocol.messages import Kind, Reply
from common.utils.discovery import functions_in

TASKS: Mapping[Kind, Callable[[Task], Reply]] = functions_in(__name__, __path__, EXCHANGES)
"""By kind; `hello` is answered before there is a model."""
