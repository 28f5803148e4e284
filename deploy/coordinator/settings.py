"""`server.toml`: what a coordinator can set.

Changes count from the next start of the server.
"""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from common.config.images import kebab
from deploy.identity.address import Address

TEMPLATE = """\
# A Covey server. Changes count from the next `covey server start`.

# What sites dial, HOST:PORT. It is written into every invitation.
{address}

# Other names and IP addresses by which sites reach this machine; the certificate covers them.
{names}

# Where the server listens, HOST:PORT. Without this: on every interface, at the port of `address`
# (on loopback alone where `address` is loopback).
# listen = "192.0.2.7:8443"

# The largest whole message in MiB that a site may send: what it answers with its model in it. It
# lies on this machine's disk until the run has taken it. A message may besides have at most eight
# times the bytes of what it answers, or 64 MiB where that is more.
# message-limit = 2048

# The largest other request in MiB. Sites that run Flower's own SuperNode send models in pieces of
# 5 MiB.
# request-limit = 64

# Requests a second that one address may make; ten seconds' worth may come at once. What is over is
# told to come again, and noted in logs/front.log. Raise it where many sites share an address.
# address-rate = 200

# Requests a second that one site may make, counted likewise.
# site-rate = 50
"""


class Settings(BaseModel):
    """What `server.toml` says."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=kebab, populate_by_name=True
    )

    address: str
    names: tuple[str, ...] = ()
    listen: str = ""
    message_limit: int = Field(default=2048, ge=8, le=16384)
    request_limit: int = Field(default=64, ge=8, le=4096)
    address_rate: float = Field(default=200, ge=1, le=1e6)
    site_rate: float = Field(default=50, ge=1, le=1e6)

    @field_validator("address", "listen")
    @classmethod
    def _check(cls, value: str) -> str:
        return str(Address.parse(value)) if value else value

    @property
    def listens(self) -> Address:
        """Where the front listens."""
        return Address.parse(self.listen) if self.listen else Address.parse(self.address).listen()

    @property
    def certified(self) -> tuple[str, ...]:
        """The names that the server's certificate is for."""
        own = Address.parse(self.listen).from_here().host if self.listen else ""
        return tuple(filter(None, (Address.parse(self.address).host, *self.names, own)))
