"""A server is made with a certificate for its names, and invites each site once."""

import re
import subprocess

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from common.utils.errors import UserError
from deploy.coordinator.folder import init, invite, revoke, settle
from deploy.coordinator.settings import Settings
from deploy.coordinator.sites import sites
from deploy.coordinator.submit import Order, submit_run
from deploy.flower.control import Node, read_public_key
from deploy.identity.address import Address
from deploy.identity.invitation import Invitation


def mode(path):
    return path.stat().st_mode & 0o777


@pytest.fixture
def folder(tmp_path):
    return init(tmp_path / "server", "fl.example.org:8443", ["10.0.0.7"])


def test_the_certificate_is_for_every_name_of_the_server(folder):
    certificate = x509.load_pem_x509_certificate((folder.certificates / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"fl.example.org", "localhost"}
    addresses = set(map(str, names.get_values_for_type(x509.IPAddress)))
    assert addresses == {"10.0.0.7", "127.0.0.1"}


def test_names_added_to_the_settings_are_in_the_next_certificate(folder):
    settings = folder.path / "server.toml"
    text = settings.read_text().replace('"10.0.0.7",', '"10.0.0.7", "second.example.org",')
    settings.write_text(text)
    assert "second.example.org" in text
    names = x509.load_pem_x509_certificate(folder.certify().certificate.read_bytes())
    alternatives = names.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "second.example.org" in alternatives.get_values_for_type(x509.DNSName)


def test_every_option_that_server_toml_explains_can_be_switched_on(folder):
    settings = folder.path / "server.toml"
    settings.write_text(re.sub(r"^# ([a-z-]+ = )", r"\1", settings.read_text(), flags=re.M))
    assert str(folder.settings().listens) == "192.0.2.7:8443"
    assert "192.0.2.7" in folder.settings().certified
    settings = folder.settings()
    assert (settings.request_limit, settings.address_rate, settings.site_rate) == (64, 200, 50)


def test_every_option_is_explained_in_server_toml(folder):
    text = (folder.path / "server.toml").read_text()
    options = {field.alias for field in Settings.model_fields.values()}
    assert {name for name in options if re.search(rf"^(# )?{name} = ", text, re.M)} == options


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('adress = "a:1"', "adress: extra inputs are not permitted"),
        ("request-limit = 1", "request-limit: input should be greater than or equal to 8"),
        ('listen = "everywhere"', "'everywhere' is not HOST:PORT"),
        ("listen =", "Invalid value"),
    ],
)
def test_a_mistake_in_server_toml_is_named(folder, line, complaint):
    with (folder.path / "server.toml").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(UserError, match=re.escape(complaint)):
        folder.settings()


def test_no_server_is_made_where_there_is_something(tmp_path, folder):
    key = folder.authority.key.read_bytes()
    with pytest.raises(UserError, match="exists already"):
        init(folder.path, "fl.example.org:8443")
    assert folder.authority.key.read_bytes() == key
    with pytest.raises(UserError, match="neither a DNS name nor an IP address"):
        init(tmp_path / "other", "fl.example.org:8443", ["not a name"])
    init(tmp_path / "other", "fl.example.org:8443", ["a-name"])


def test_an_invitation_is_the_owners_alone_and_its_key_is_nowhere_else(folder, tmp_path):
    invite(folder, "north wing", tmp_path / "north.toml")
    invitation = Invitation.read(tmp_path / "north.toml")
    assert mode(tmp_path / "north.toml") == 0o600
    assert (invitation.site, invitation.address) == ("north wing", "fl.example.org:8443")
    assert invitation.authority == folder.authority.certificate.read_text()
    secret = invitation.private_key.splitlines()[3]
    kept = [path for path in folder.path.rglob("*") if path.is_file()]
    assert not [path for path in kept if secret in path.read_text(errors="ignore")]
    [site] = sites(folder)
    assert (site.name, site.status) == ("north wing", "invited")


def test_the_fingerprint_is_the_one_that_ssh_prints(folder, tmp_path):
    invite(folder, "north", tmp_path / "north.toml")
    command = ["ssh-keygen", "-l", "-f", str(folder.invited()["north"])]
    try:
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("no ssh-keygen here")
    assert sites(folder)[0].fingerprint in printed.split()


def test_a_site_is_invited_once_and_no_file_is_overwritten(folder, tmp_path):
    invite(folder, "north", tmp_path / "north.toml")
    with pytest.raises(UserError, match="'north' has been invited already"):
        invite(folder, "north", tmp_path / "again.toml")
    with pytest.raises(UserError, match=r"there is a file .*north\.toml already"):
        invite(folder, "south", tmp_path / "north.toml")
    with pytest.raises(UserError, match="there is no folder"):
        invite(folder, "south", tmp_path / "nowhere" / "south.toml")
    with pytest.raises(UserError, match=r"site name '\.\./south'"):
        invite(folder, "../south", tmp_path / "south.toml")
    assert list(folder.invited()) == ["north"]


def test_a_revoked_site_is_no_longer_invited_and_its_name_gets_a_new_key(folder, tmp_path):
    invite(folder, "north", tmp_path / "north.toml")
    old = folder.invited()["north"].read_text()
    assert revoke(folder, "north") is False  # the server is not running
    assert folder.invited() == {}
    assert [(s.name, s.status) for s in sites(folder)] == [("north", "revoked")]
    with pytest.raises(UserError, match="unknown site 'north'"):
        revoke(folder, "north")
    with pytest.raises(UserError, match="site name"):
        revoke(folder, "../north")
    invite(folder, "north", tmp_path / "again.toml")
    assert folder.invited()["north"].read_text() != old
    assert [(s.name, s.status) for s in sites(folder)] == [("north", "invited")]
    revoke(folder, "north")
    keys = {path.read_text() for path in folder.revoked()}
    assert len(keys) == 2 and old in keys


class Register:
    """A SuperLink's register of sites."""

    def __init__(self, *nodes):
        self.known = list(nodes)

    def nodes(self):
        return list(self.known)

    def register(self, public_key, name):
        self.known.append(Node(len(self.known), name, read_public_key(public_key), "registered", 0))

    def unregister(self, node):
        self.known = [each for each in self.known if each.id != node]


def test_exactly_the_keys_that_are_invited_are_let_in(folder, tmp_path):
    """Also where a name was revoked and invited anew while the server was not running."""
    for name in ("north", "south"):
        invite(folder, name, tmp_path / f"{name}.toml")
    register = Register()
    settle(folder, register)
    assert [node.name for node in register.known] == ["north", "south"]
    old = {node.key for node in register.known}
    revoke(folder, "north")
    invite(folder, "north", tmp_path / "again.toml")
    settled = settle(folder, register)
    assert [node.name for node in settled.nodes] == ["south"]
    assert sorted(node.name for node in register.known) == ["north", "south"]
    keys = {read_public_key(path) for path in folder.invited().values()}
    assert {node.key for node in register.known} == keys != old


def test_a_key_that_the_server_does_not_take_does_not_keep_the_others_out(folder, tmp_path):
    for name in ("north", "south"):
        invite(folder, name, tmp_path / f"{name}.toml")

    class Choosy(Register):
        def register(self, public_key, name):
            if name == "north":
                raise UserError("public key already in use")
            super().register(public_key, name)

    register = Choosy()
    assert settle(folder, register).refused == {"north": "public key already in use"}
    assert [node.name for node in register.known] == ["south"]


def test_one_server_runs_in_a_folder(folder):
    assert not folder.running()
    with folder.hold():
        assert folder.running()
        with pytest.raises(UserError, match="running already"), folder.hold():
            pass
    assert not folder.running()
    assert folder.control() is None


@given(st.sampled_from(["fl.example.org", "10.0.0.7", "::1", "2001:db8::7"]), st.integers(1, 65535))
def test_an_address_is_read_as_it_is_written(host, port):
    address = Address(host, port)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", "host", ":1", "host:", "host:0", "host:65536", "::1:80", "[host]:1", "a b:1", "u@h:1"],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UserError, match=r"is not HOST:PORT"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("address", "listens"),
    [
        ("fl.example.org:8443", "0.0.0.0:8443"),
        ("192.0.2.7:8443", "0.0.0.0:8443"),
        ("[2001:db8::7]:8443", "[::]:8443"),
        ("localhost:8443", "127.0.0.1:8443"),
        ("127.0.0.1:8443", "127.0.0.1:8443"),
    ],
)
def test_a_server_on_loopback_is_not_offered_to_the_network(address, listens):
    assert str(Address.parse(address).listen()) == listens


@pytest.mark.parametrize(
    "name", ["dataset", "images", "pages", "largest", "copies", "partition", "size-skew", "device"]
)
def test_options_that_the_sites_decide_are_refused(folder, name):
    with pytest.raises(UserError, match=f"--{name} is not an option of submit: "):
        submit_run(folder, Order("fedsimclr", {name: "1"}), console=None)


def test_nothing_is_submitted_to_a_server_that_does_not_run(folder):
    with pytest.raises(UserError, match="not running: covey server start"):
        submit_run(folder, Order("fedsimclr", {}), console=None)
