"""Whether a server can be reached, and whether it knows a site: asked before anything is started.

The way is the one that the SuperNode takes: HTTPS, trusting the federation's authority alone, and
through the environment's proxy where there is one.
"""

import ssl
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx
from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE
from flwr.proto.fleet_pb2 import ActivateNodeRequest  # pylint: disable=E0611
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from common.utils.errors import UserError
from deploy.flower.bundle import VERSIONS
from deploy.flower.proxy import TIMEOUT, explain
from deploy.identity.address import Address
from deploy.identity.invitation import Invitation

LONGEST_VERSIONS = 200


class UnknownSiteError(UserError):
    """The server does not know the site's key: it was never invited, or has been revoked."""


@dataclass(frozen=True)
class Answer:
    """What a server's health answer says: the seconds that this machine's clock is ahead of the
    server's (0 where it does not say), and the versions of its packages, by name."""

    ahead: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def clocks(self) -> str:
        """How far the two clocks are apart, in words."""
        side = "ahead of" if self.ahead > 0 else "behind"
        return f"this machine's clock is {abs(self.ahead):.0f} s {side} the server's"


def check_server(address: Address, authority: Path, *, proxies: bool = True) -> Answer:
    """The answer of the server at `address`; `UserError` unless it has a certificate of
    `authority`."""
    tls = ssl.create_default_context(cafile=str(authority))
    try:
        with httpx.Client(verify=tls, timeout=TIMEOUT, trust_env=proxies) as client:
            answer = client.get(f"https://{address}/health")
    except httpx.HTTPError as error:
        raise UserError(_reason(address, error, proxies)) from None
    if answer.status_code != httpx.codes.OK:
        raise UserError(
            f"{address} is there, but the server behind it is not (status {answer.status_code})"
        )
    return Answer(_ahead(answer), _versions(answer.headers.get(VERSIONS, "")))


def _ahead(answer: httpx.Response) -> float:
    try:
        there = parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return 0.0
    return time.time() - answer.elapsed.total_seconds() / 2 - there


def _versions(said: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in said[:LONGEST_VERSIONS].split())
    return {name: value for name, _, value in pairs if value.isprintable()}


def check_invited(invitation: Invitation, answer: Answer | None = None) -> None:
    """`UserError` unless the server knows the invitation's key (`UnknownSiteError`) and takes its
    signature. `answer` is what it has just answered.

    Asks to be activated with an impossible heartbeat interval: the SuperLink looks the key up
    first, so that its complaint says whether it knows the key, and nothing is changed.
    """
    key = invitation.key
    request = ActivateNodeRequest(
        public_key=public_key_to_bytes(key.public_key()), heartbeat_interval=-1.0
    )
    interceptors: list[ProtobufClientInterceptor] = [
        RuntimeVersionHttpInterceptor(component_name="SuperNode"),
        NodeAuthHttpInterceptor(key, key.public_key()),
    ]
    client = FleetHttpClient.from_server_address(
        invitation.address, False, invitation.authority.encode(), interceptors
    )
    try:
        with client:
            client.ActivateNode(request)
    except httpx.HTTPStatusError as error:
        _judge(invitation, error.response, answer or Answer())
    except httpx.HTTPError as error:
        address = Address.parse(invitation.address)
        raise UserError(_reason(address, error)) from None


def _judge(invitation: Invitation, response: httpx.Response, answer: Answer) -> None:
    address = invitation.address
    if response.status_code == httpx.codes.UNAUTHORIZED:
        why = "do the clocks of the two machines differ?"
        if abs(answer.ahead) > min(SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE):
            why = answer.clocks
        raise UserError(
            f"{address} does not accept the site's signature: {why} (it may be "
            f"{SYSTEM_TIME_TOLERANCE} s ahead or {TIMESTAMP_TOLERANCE} s behind: set the clock)"
        )
    error = FlowerError.from_json(response.text)
    if error is None:
        raise UserError(f"{address} answers with HTTP status {response.status_code}")
    if error.code != ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL:
        raise UnknownSiteError(
            f"{address} does not know the site {invitation.site!r} (not invited, or revoked): "
            "ask the coordinator for a new invitation"
        )


def _reason(address: Address, error: httpx.HTTPError, proxies: bool = True) -> str:
    by_proxy = explain(address, error) if proxies else ""
    if by_proxy:
        return by_proxy
    if isinstance(error, httpx.TimeoutException):
        return f"{address} does not answer within {TIMEOUT:.0f} s"
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        why = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or text
        clock = f"; this machine's clock says {time.strftime('%Y-%m-%d %H:%M')}"
        when = clock if "expired" in why or "not yet valid" in why else ""
        return f"{address} is not the federation's server: its certificate is refused ({why}{when})"
    return f"cannot reach {address}: {text or 'the connection was closed'}"
