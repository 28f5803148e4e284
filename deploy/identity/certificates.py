"""Certificates and keys of a federation: who the server is, and who may join.

An authority of its own (EC P-256) signs the server's TLS certificate; sites are given the
authority's certificate and trust nothing else. A site is known by an EC P-384 key in OpenSSH's
format, which is what `flower-supernode --auth-supernode-private-key` and `flwr supernode register`
read. A private key is readable by its owner alone from the moment its file exists.
"""

import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from common.utils.errors import UserError
from common.utils.files import write_atomic
from common.utils.names import is_utf8, printable

AUTHORITY_VALIDITY = timedelta(days=3652)
AUTHORITY = "Covey authority"  # how the names of all federations' authorities begin
SERVER_VALIDITY = timedelta(days=365)
CLOCK_SKEW = timedelta(days=1)  # a site's clock may be behind ours
LOOPBACK = ("localhost", "127.0.0.1")
SITE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,62}[A-Za-z0-9_-])?")


@dataclass(frozen=True)
class Authority:
    """The files of a certificate authority."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class ServerCertificate:
    """The files of a server's certificate."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class SiteKey:
    """The files of a site's key pair; only `public` is ever shown to a server."""

    private: Path
    public: Path


def private_folder(folder: Path) -> Path:
    """`folder`, made if need be, that only its owner can enter; `UserError` for a path that
    Flower's programs cannot be given."""
    if not is_utf8(folder):
        raise UserError(f"{printable(str(folder))}: Flower takes no path that is not UTF-8")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder


def write_private(path: Path, data: bytes) -> Path:
    """Write `path` whole, with mode 600 from the moment it exists."""
    write_atomic(path, data, mode=0o600)
    return path


def write_secret(path: Path) -> Path:
    """A new shared secret of 32 random bytes, as text, for the owner alone."""
    return write_private(path, secrets.token_hex(32).encode())


def check_site_name(name: str) -> str:
    """`name`, where it can be a file's name; `UserError` otherwise."""
    if not SITE_NAME.fullmatch(name):
        raise UserError(
            f"site name {name!r}: up to 64 letters, digits, spaces, dots, dashes and underscores, "
            "beginning with a letter or digit"
        )
    return name


def make_authority(folder: Path) -> Authority:
    """A new authority in `folder` (`ca.crt`, `ca.key`), valid for ten years.

    `UserError` where one exists: everything it has signed would lose its worth.
    """
    private_folder(folder)
    authority = Authority(folder / "ca.crt", folder / "ca.key")
    for path in (authority.certificate, authority.key):
        if path.exists():
            raise UserError(f"there is an authority already: {path}")
    key = ec.generate_private_key(ec.SECP256R1())
    # A serial in the name keeps the authorities of two federations apart in a bundle.
    name = _name(f"{AUTHORITY} {secrets.token_hex(4)}")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(name, name, key.public_key(), AUTHORITY_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(authority.key, _pem(key))
    write_atomic(authority.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    return authority


def issue_server(authority: Authority, folder: Path, names: Sequence[str]) -> ServerCertificate:
    """A certificate for a server that is reached by `names` (DNS names and IP addresses), and by
    localhost and 127.0.0.1, in `folder` (`server.crt`, `server.key`), valid for a year.

    A certificate that is there is replaced. `UserError` for a name that cannot be one.
    """
    private_folder(folder)
    issuer = x509.load_pem_x509_certificate(authority.certificate.read_bytes())
    issuer_key = _load_key(authority.key)
    alternatives = [_alternative(name) for name in dict.fromkeys([*names, *LOOPBACK])]
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(_name("Covey server"), issuer.subject, key.public_key(), SERVER_VALIDITY)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(usage, critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(signer, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    files = ServerCertificate(folder / "server.crt", folder / "server.key")
    write_private(files.key, _pem(key))
    write_atomic(files.certificate, certificate.public_bytes(serialization.Encoding.PEM))
    return files


def make_site_key(folder: Path, name: str) -> SiteKey:
    """A new key pair for the site `name` in `folder` (`<name>`, `<name>.pub`).

    `UserError` for a name that cannot be a file's, or whose key exists: the site would be locked
    out.
    """
    check_site_name(name)
    private_folder(folder)
    files = SiteKey(folder / name, folder / f"{name}.pub")
    if files.private.exists():
        raise UserError(f"site {name!r} has a key already: {files.private}")
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    write_private(files.private, private)
    write_atomic(files.public, public + f" {name}\n".encode())
    return files


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    validity: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + validity)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    bare = name.strip().removeprefix("[").removesuffix("]")
    try:
        return x509.IPAddress(ipaddress.ip_address(bare))
    except ValueError:
        pass
    label = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
    if not re.fullmatch(rf"{label}(?:\.{label})*\.?", bare) or len(bare) > 253:
        raise UserError(f"server name {name!r} is neither a DNS name nor an IP address")
    return x509.DNSName(bare.removesuffix("."))


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError(f"{path} is not an elliptic-curve key")
    return key
