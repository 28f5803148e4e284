"""The HTTP proxy between a site and its server, where there is one: which, and what it did wrong.

Flower's client and ours go through the proxy that the environment names (`HTTPS_PROXY`, but for the
hosts in `NO_PROXY`) with a CONNECT, so that TLS is between site and server. `covey client join
--proxy` sets the same variables for the site's own processes. A proxy that opens the TLS connection
shows a certificate of its own, which no site takes: nothing is sent through it.
"""

import os
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
from cryptography import x509

from common.utils.errors import UserError, plain
from deploy.identity.address import Address
from deploy.identity.certificates import AUTHORITY

OPTION = "COVEY_PROXY"  # also says what `--proxy` says
VARIABLES = ("HTTPS_PROXY", "https_proxy")
EXCEPT = ("NO_PROXY", "no_proxy")
HERE = "localhost,127.0.0.1"  # which no proxy can reach for us
SCHEMES = ("http", "https")
TIMEOUT = 10.0  # seconds
# What OpenSSL says of a certificate that another authority has signed.
FOREIGN = ("self-signed", "self signed", "unable to get local issuer", "unable to get issuer")


@contextmanager
def through(url: str) -> Iterator[None]:
    """Have this process and those that it starts use the proxy at `url` ("": what the environment
    says); `UserError` where that is no proxy's address."""
    if not url:
        yield
        return
    if urlsplit(url).scheme not in SCHEMES or not _host(url):
        raise UserError(
            f"proxy {without_password(url)!r} is not http://HOST:PORT or https://HOST:PORT"
        )
    before = dict(os.environ)
    os.environ |= {OPTION: url} | dict.fromkeys(VARIABLES, url) | dict.fromkeys(EXCEPT, HERE)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ |= before


def proxy_for(address: Address) -> str:
    """The proxy on the way to `address`, without its password; "" where there is none."""
    known = getproxies()
    url = known.get("https") or known.get("all") or ""
    return "" if not url or proxy_bypass(address.host) else without_password(url)


def without_password(url: str) -> str:
    """As it may be shown."""
    head, at, host = url.rpartition("@")
    scheme, slashes, user = head.rpartition("://")
    name, colon, _ = user.partition(":")
    return f"{scheme}{slashes}{name}{':…' if colon else ''}{at}{host}"


def explain(address: Address, error: httpx.HTTPError) -> str:
    """What the proxy on the way to `address` has to do with `error`; "" where it is not at fault,
    or there is none."""
    proxy, text = proxy_for(address), str(error)
    if not proxy:
        return ""
    if isinstance(error, httpx.ProxyError):
        return _refused(proxy, address, plain(text))
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return _opened(proxy, address, text)
    if isinstance(error, httpx.TimeoutException):
        return f"{address} does not answer within {TIMEOUT:.0f} s through the proxy {proxy}"
    direct = isinstance(error, httpx.ConnectError) and "SSL" not in text
    where = f"the proxy {proxy}" if direct else f"{address} through the proxy {proxy}"
    return f"cannot reach {where}: {plain(text or 'the connection was closed')}"


def _opened(proxy: str, address: Address, text: str) -> str:
    """Whose certificate it is that was refused: one of a federation's authority comes from a
    server, which may be the wrong one."""
    issuer = _issuer(address) if any(sign in text for sign in FOREIGN) else AUTHORITY
    if AUTHORITY in issuer:
        return ""
    by = f" (signed by {issuer})" if issuer else ""
    return (
        f"the proxy {proxy} opens the TLS connection: it shows a certificate of its own{by} in "
        f"place of the federation's; it has to let {address} through as it is"
    )


def _refused(proxy: str, address: Address, answer: str) -> str:
    if answer.startswith("407"):
        return (
            f"the proxy {proxy} wants credentials ({answer}): give them as "
            "http://USER:PASSWORD@HOST:PORT in HTTPS_PROXY"
        )
    if answer.startswith(("502", "503", "504")):
        return f"the proxy {proxy} does not reach {address} ({answer})"
    return f"the proxy {proxy} refuses to connect to {address} ({answer})"


def _issuer(address: Address) -> str:
    """Who has signed the certificate that is shown there; "" where that is not seen. Nothing of the
    site's is sent."""
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    shown: list[bytes] = []

    def note(event: str, facts: Mapping[str, Any]) -> None:
        if event.endswith("start_tls.complete"):
            tls = facts["return_value"].get_extra_info("ssl_object")
            shown.append(tls.getpeercert(True))

    with suppress(httpx.HTTPError), httpx.Client(verify=unverified, timeout=TIMEOUT) as client:
        client.get(f"https://{address}/health", extensions={"trace": note})
    try:
        return plain(x509.load_der_x509_certificate(shown[-1]).issuer.rfc4514_string())
    except (IndexError, ValueError):
        return ""


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        return parts.hostname or "" if parts.port != 0 else ""
    except ValueError:  # no number, or too large a one
        return ""
