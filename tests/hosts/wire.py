"""A slow cable between two TAP interfaces: `python wire.py NEAR FAR DELAY LOSS RATE`.

Carries Ethernet frames in both directions, `DELAY` seconds late, at `RATE` bit/s, without the share
`LOSS` of them: what `tc qdisc add ... netem` does, for kernels that were built without it. Makes
both interfaces in the namespace where it is started, says "ready", and takes them with it.
"""

import contextlib
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque
from dataclasses import dataclass, field

TUNSETIFF, TAP, NO_HEADER = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h
FRAME = 65536  # bytes; no frame is longer
QUEUE = 1000  # frames that wait; more are lost, as with netem
SEED = 7


@dataclass
class Direction:
    """From one interface to the other: `waiting` holds (when it is due, frame)."""

    source: int
    target: int
    free: float = 0.0  # when the last frame has been put on the cable
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)


def tap(name: str) -> int:
    """The file descriptor of a new TAP interface."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), TAP | NO_HEADER))
    return descriptor


def take(way: Direction, delay: float, loss: float, rate: float, chance: random.Random) -> None:
    """Read one frame, and put it on the cable or lose it."""
    with contextlib.suppress(OSError):  # the interface is down
        frame = os.read(way.source, FRAME)
        if chance.random() < loss or len(way.waiting) >= QUEUE:
            return
        way.free = max(way.free, time.monotonic()) + 8 * len(frame) / rate
        way.waiting.append((way.free + delay, frame))


def deliver(way: Direction) -> None:
    """Write what is due."""
    while way.waiting and way.waiting[0][0] <= time.monotonic():
        with contextlib.suppress(OSError):
            os.write(way.target, way.waiting.popleft()[1])


def main(near: str, far: str, delay: float, loss: float, rate: float) -> None:
    """Carry frames until ended."""
    a, b = tap(near), tap(far)
    ways = {a: Direction(a, b), b: Direction(b, a)}
    chance = random.Random(SEED)
    print("ready", flush=True)
    while True:
        due = [way.waiting[0][0] for way in ways.values() if way.waiting]
        rest = max(0.0, min(due) - time.monotonic()) if due else None
        readable, _, _ = select.select(list(ways), [], [], rest)
        for descriptor in readable:
            take(ways[descriptor], delay, loss, rate, chance)
        for way in ways.values():
            deliver(way)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(float, sys.argv[3:]))
