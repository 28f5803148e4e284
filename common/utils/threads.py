"""How many threads PyTorch computes with, for as long as something is computed.

Sums over several threads are added in another order: a closed form that is solved with one thread
has the same bits on a machine with any number of cores.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Inside, PyTorch computes with `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
