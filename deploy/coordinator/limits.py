"""How often one may ask: token buckets, and a log of refusals that cannot be flooded."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from common.utils.errors import plain

BURST = 10.0  # seconds' worth of requests that may come at once
MOST = 4096  # buckets that are kept: those asked of last
LINES, LINES_AT_ONCE = 1.0, 100.0  # refusals a second that are written down, and in a burst
LONGEST = 160  # characters of a line


@dataclass
class _Bucket:
    tokens: float
    filled: float  # when


class Buckets:
    """One token bucket a key: `rate` requests a second, `burst` at once."""

    def __init__(
        self,
        rate: float,
        burst: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = rate * BURST if burst is None else burst
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, key: str) -> bool:
        """Whether `key` may ask now; counted if so."""
        now = self._clock()
        bucket = self._buckets.setdefault(key, _Bucket(self._burst, now))
        self._buckets.move_to_end(key)
        if len(self._buckets) > MOST:
            self._buckets.popitem(last=False)
        gained = (now - bucket.filled) * self._rate
        bucket.tokens, bucket.filled = min(self._burst, bucket.tokens + gained), now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


class Refusals:
    """Writes a line for what was refused: whom, what, why."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._lines = Buckets(LINES, LINES_AT_ONCE)
        self._left_out = 0

    def note(self, address: str, what: str, why: str) -> None:
        """Write it down, unless very many are."""
        if not self._lines.take(""):
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        more = f" ({left_out} refusals before it are not listed)" if left_out else ""
        line = plain(f"refused {address} {plain(what, LONGEST)}: {plain(why, LONGEST)}")
        self._write(f"{line}{more}")


def network(address: str) -> str:
    """What counts as one address: of IPv6 the first 64 bits, since whoever has one of those
    addresses has them all."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return address
    if ip.ipv4_mapped is not None:  # how a socket for both shows an IPv4 address
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))
