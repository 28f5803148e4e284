"""A server is believed for the names that its authority signed, and private keys stay private."""

import ipaddress
import os
import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from common.utils.errors import UserError
from deploy.identity import certificates
from deploy.identity.certificates import (
    check_site_name,
    issue_server,
    make_authority,
    make_site_key,
    write_private,
)


@pytest.fixture
def authority(tmp_path):
    return make_authority(tmp_path / "authority")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def alternatives(server):
    certificate = x509.load_pem_x509_certificate(server.certificate.read_bytes())
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def handshake(server, trusted, name):
    """A TLS handshake over loopback with a client that trusts `trusted` and dials `name`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server.certificate, server.key)
    client = ssl.create_default_context(cafile=str(trusted))
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on

    def serve(listener):
        connection, _ = listener.accept()
        with connection:
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    secured.sendall(b"hello")
            except OSError:
                pass  # the client's refusal is what the test looks at

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname()) as raw,
                client.wrap_socket(raw, server_hostname=name) as secured,
            ):
                return secured.recv(5)
        finally:
            thread.join()


@pytest.mark.parametrize("name", ["covey.example.org", "127.0.0.1", "localhost", "10.1.2.3", "::1"])
def test_a_client_that_trusts_the_authority_believes_every_name_of_the_server(
    tmp_path, authority, name
):
    server = issue_server(authority, tmp_path, ["covey.example.org", "10.1.2.3", "[::1]"])
    assert handshake(server, authority.certificate, name) == b"hello"


def test_a_name_that_was_not_signed_is_refused(tmp_path, authority):
    server = issue_server(authority, tmp_path, ["covey.example.org"])
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(server, authority.certificate, "other.example.org")


def test_another_federations_authority_is_refused(tmp_path, authority):
    stranger = make_authority(tmp_path / "stranger")
    server = issue_server(stranger, tmp_path, [])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, authority.certificate, "localhost")


def test_a_server_cannot_act_as_an_authority(tmp_path, authority):
    server = issue_server(authority, tmp_path / "server", [])
    forged = issue_server(
        certificates.Authority(server.certificate, server.key), tmp_path / "forged", ["bank.org"]
    )
    with forged.certificate.open("ab") as chain:
        chain.write(server.certificate.read_bytes())
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(forged, authority.certificate, "bank.org")


def test_names_and_addresses_become_alternatives_of_their_kind(tmp_path, authority):
    found = alternatives(issue_server(authority, tmp_path, ["a.example.org", "10.1.2.3"]))
    assert found.get_values_for_type(x509.DNSName) == ["a.example.org", "localhost"]
    addresses = [ipaddress.ip_address(text) for text in ("10.1.2.3", "127.0.0.1")]
    assert found.get_values_for_type(x509.IPAddress) == addresses


@pytest.mark.parametrize("name", ["", "two words", "https://a.org", "a..b", "-a.org", "a.org:443"])
def test_what_is_no_name_is_a_users_mistake(tmp_path, authority, name):
    with pytest.raises(UserError, match="neither a DNS name nor an IP address"):
        issue_server(authority, tmp_path, [name])


def test_an_authority_holds_for_ten_years_and_a_server_for_one_from_yesterday_on(
    tmp_path, authority
):
    server = issue_server(authority, tmp_path, [])
    now = datetime.now(UTC)
    for files, days in ((authority, 3652), (server, 365)):
        certificate = x509.load_pem_x509_certificate(files.certificate.read_bytes())
        assert abs(now - timedelta(days=1) - certificate.not_valid_before_utc) < timedelta(hours=1)
        assert abs(now + timedelta(days=days) - certificate.not_valid_after_utc) < timedelta(
            hours=1
        )


def test_private_files_and_folders_are_the_owners_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        authority = make_authority(tmp_path / "authority")
        server = issue_server(authority, tmp_path / "server", [])
        site = make_site_key(tmp_path / "keys", "hospital 1")
    finally:
        os.umask(before)
    assert [mode(path) for path in (authority.key, server.key, site.private)] == [0o600] * 3
    assert [mode(path.parent) for path in (authority.key, server.key, site.private)] == [0o700] * 3


def test_a_private_file_has_mode_600_before_its_first_byte(tmp_path, monkeypatch):
    seen = []
    real = os.fdopen

    def spy(descriptor, *rest):
        seen.append((stat.S_IMODE(os.fstat(descriptor).st_mode), os.fstat(descriptor).st_size))
        return real(descriptor, *rest)

    before = os.umask(0)
    monkeypatch.setattr(os, "fdopen", spy)
    try:
        write_private(tmp_path / "secret", b"x")
    finally:
        os.umask(before)
    assert seen == [(0o600, 0)]


def test_an_authority_or_a_sites_key_is_never_replaced(tmp_path):
    make_authority(tmp_path)
    make_site_key(tmp_path, "a")
    with pytest.raises(UserError, match="authority already"):
        make_authority(tmp_path)
    with pytest.raises(UserError, match="has a key already"):
        make_site_key(tmp_path, "a")


def test_a_sites_key_pair_is_what_ssh_reads(tmp_path):
    files = make_site_key(tmp_path, "hospital-1")
    private = serialization.load_ssh_private_key(files.private.read_bytes(), None)
    public = serialization.load_ssh_public_key(files.public.read_bytes())
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.curve.name == "secp384r1"
    assert private.public_key() == public
    assert files.public.read_text().endswith(" hospital-1\n")


@given(st.text(max_size=70))
def test_a_site_name_that_passes_is_a_plain_file_name(name):
    try:
        check_site_name(name)
    except UserError:
        return
    assert 0 < len(name.encode()) <= 64
    assert not name.startswith((".", "-", " "))
    assert not set(name) & set("/\\\0\n\"'")


@pytest.mark.parametrize("name", ["site-0", "Hospital 12", "a", "x.y_z"])
def test_usual_site_names_pass(name):
    assert check_site_name(name) == name
