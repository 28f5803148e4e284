"""HOST:PORT, as a coordinator writes it and a site dials it."""

import ipaddress
import socket
from dataclasses import dataclass
from typing import TypeVar

from common.utils.errors import UserError

ANY_IPV4, ANY_IPV6 = "0.0.0.0", "::"  # noqa: S104 (the front alone binds to it)


Socket = TypeVar("Socket", bound=socket.socket)


@dataclass(frozen=True)
class Address:
    """A host (a name or an IP address, without brackets) and a TCP port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "Address":
        """From "fl.example.org:8443" or "[2001:db8::7]:8443"; `UserError` for anything else."""
        host, _, port = text.strip().rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        bracketed = host.startswith("[") and host.endswith("]")
        if not bare or not port.isdecimal() or not 0 < int(port) < 65536:
            raise UserError(f"address {text!r} is not HOST:PORT, such as fl.example.org:8443")
        if bracketed != (":" in bare) or any(c in bare for c in "/@[] \t"):
            raise UserError(f"address {text!r} is not HOST:PORT, such as fl.example.org:8443")
        return cls(bare, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def listen(self) -> "Address":
        """Where a server that sites reach at this address listens: on every interface, or on
        loopback alone where that is the address."""
        if self.host == "localhost":
            return Address("127.0.0.1", self.port)
        try:
            ip = ipaddress.ip_address(self.host)
        except ValueError:
            return Address(ANY_IPV4, self.port)
        if ip.is_loopback:
            return self
        return Address(ANY_IPV6 if ip.version == 6 else ANY_IPV4, self.port)

    def from_here(self) -> "Address":
        """Where this machine reaches a server that listens on this address."""
        here = {ANY_IPV4: "127.0.0.1", ANY_IPV6: "::1"}
        return Address(here.get(self.host, self.host), self.port)

    def bind(self, kind: type[Socket]) -> Socket:
        """A TCP socket of class `kind`, bound to this address; `OSError` where it is taken, or no
        address of this machine."""
        family, of, protocol, _, place = socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = kind(family, of, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(place)
        except OSError:
            bound.close()
            raise
        return bound
