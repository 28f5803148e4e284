"""Whether a server can be reached, and whether it knows a site: asked before anything is started.

The way is the one that the SuperNode takes: HTTPS, trusting the federation's authority alone, and
through the environment's proxy where there is one.
"""

import ssl
from pathlib import Path

import httpx
from flwr.proto.fleet_pb2 import ActivateNodeRequest  # pylint: disable=E0611
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from common.errors import UserError
from deploy.address import Address
from deploy.invitation import Invitation

TIMEOUT = 10.0  # seconds


def check_server(address: Address, authority: Path, *, proxies: bool = True) -> None:
    """`UserError` unless the server at `address` answers with a certificate of `authority`."""
    tls = ssl.create_default_context(cafile=str(authority))
    try:
        with httpx.Client(verify=tls, timeout=TIMEOUT, trust_env=proxies) as client:
            status = client.get(f"https://{address}/health").status_code
    except httpx.TimeoutException:
        raise UserError(f"{address} does not answer within {TIMEOUT:.0f} s") from None
    except httpx.HTTPError as error:
        raise UserError(_reason(address, str(error))) from None
    if status != httpx.codes.OK:
        raise UserError(f"{address} is there, but the server behind it is not (status {status})")


def check_invited(invitation: Invitation) -> None:
    """`UserError` unless the server knows the invitation's key.

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
        _judge(invitation, error.response)
    except httpx.HTTPError as error:
        address = Address.parse(invitation.address)
        raise UserError(_reason(address, str(error) or type(error).__name__)) from None


def _judge(invitation: Invitation, response: httpx.Response) -> None:
    if response.status_code == httpx.codes.UNAUTHORIZED:
        raise UserError(
            f"{invitation.address} does not accept the site's signature: do the clocks of the two "
            "machines differ by minutes?"
        )
    error = FlowerError.from_json(response.text)
    if error is None:
        raise UserError(f"{invitation.address} answers with HTTP status {response.status_code}")
    if error.code != ApiErrorCode.FLEET_INVALID_HEARTBEAT_INTERVAL:
        raise UserError(
            f"{invitation.address} does not know the site {invitation.site!r}: "
            "ask the coordinator for a new invitation"
        )


def _reason(address: Address, text: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        why = text.partition("certificate verify failed: ")[2].partition(" (_ssl")[0] or text
        return f"{address} is not the federation's server: its certificate is refused ({why})"
    return f"cannot reach {address}: {text or 'the connection was closed'}"
