"""A site behind an HTTP proxy: it works through one, and what a proxy does wrong is named."""

import base64
import os
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from common.utils.errors import UserError
from deploy.coordinator.folder import ServerFolder
from deploy.flower.proxy import proxy_for, through, without_password
from deploy.flower.reach import check_invited, check_server
from deploy.identity import certificates
from deploy.identity.address import Address
from deploy.identity.certificates import issue_server, make_authority
from deploy.identity.invitation import Invitation
from deploy.processes.supervisor import LOOPBACK, environment, free_port
from tests.builders.records import events
from tests.deploy.connect_proxy import ConnectProxy
from tests.deploy.flower.place import content_of, place_in, reply_to
from tests.deploy.machines import Covey
from tests.deploy.serving import serving
from tests.deploy.site.test_join import healthy

ELSEWHERE = "127.0.0.2"  # on this machine, and not what NO_PROXY spares


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch):
    for name in list(os.environ):
        if name.lower() in ("https_proxy", "http_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def server(tmp_path):
    """(address, authority's certificate) of a server that is healthy."""
    authority = make_authority(tmp_path / "ours")
    address = Address(LOOPBACK, free_port())
    with serving(healthy(200), address.port, issue_server(authority, tmp_path / "ours", ())):
        yield address, authority.certificate


def complaint(server, url, monkeypatch):
    """What a site says that is to reach the server through the proxy at `url`."""
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(UserError) as mistake:
        check_server(*server)
    said = str(mistake.value)
    assert said.isprintable()
    return said


def test_the_servers_certificate_is_checked_through_a_proxy_too(server, tmp_path, monkeypatch):
    with ConnectProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        check_server(*server)
        assert proxy.asked == [str(server[0])]
        address, _ = server
        other = make_authority(tmp_path / "other").certificate
        with pytest.raises(UserError, match=f"{address} is not the federation's server"):
            check_server(address, other)  # nor is the proxy at fault


def test_a_proxy_that_opens_the_tls_connection_is_named_with_who_signed(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr(certificates, "AUTHORITY", "Inspection of ACME")
    theirs = make_authority(tmp_path / "theirs")
    shown = issue_server(theirs, tmp_path / "theirs", ())
    with ConnectProxy(opens=shown) as proxy:
        said = complaint(server, proxy.url, monkeypatch)
    assert said.startswith(f"the proxy {proxy.url} opens the TLS connection: ")
    signed = r"of its own \(signed by CN=Inspection of ACME .*\) in place of the federation's"
    assert re.search(signed, said)
    assert str(server[0]) in said


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ("403 Forbidden", "refuses to connect to {address} (403 Forbidden)"),
        ("502 Bad Gateway", "does not reach {address} (502 Bad Gateway)"),
        ("407 Proxy Authentication Required", "wants credentials (407 Proxy Authentication"),
    ],
)
def test_a_proxy_that_refuses_is_named_with_what_it_says(server, refusal, said, monkeypatch):
    with ConnectProxy(refusal=refusal) as proxy:
        found = complaint(server, proxy.url, monkeypatch)
    assert found.startswith(f"the proxy {proxy.url} " + said.format(address=server[0]))


def test_a_proxy_that_is_not_there_is_named(server, monkeypatch):
    url = f"http://{LOOPBACK}:{free_port()}"
    said = complaint(server, url, monkeypatch)
    assert said.startswith(f"cannot reach the proxy {url}: ")


def test_credentials_are_given_and_never_shown(server, monkeypatch):
    basic = "Basic " + base64.b64encode(b"me:secret").decode()
    with ConnectProxy(credentials=basic) as proxy:
        host = f"{LOOPBACK}:{proxy.port}"
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@{host}")
        check_server(*server)
        said = complaint(server, f"http://me:wrong@{host}", monkeypatch)
    assert "wants credentials" in said and f"http://me:…@{host}" in said and "wrong" not in said
    assert without_password("http://me@h:1") == "http://me@h:1"


def test_the_site_asks_flowers_calls_through_it(server, tmp_path, monkeypatch):
    from deploy.coordinator.folder import init, invite  # noqa: PLC0415

    folder = init(tmp_path / "server", f"{LOOPBACK}:{free_port()}")
    invite(folder, "north", tmp_path / "north.toml")
    address, authority = server
    mine = Invitation.read(tmp_path / "north.toml").model_copy(
        update={"address": str(address), "authority": authority.read_text()}
    )
    with ConnectProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(UserError, match="HTTP status 404"):  # it is no SuperLink
            check_invited(mine)
        assert proxy.asked == [str(address)]
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    with pytest.raises(UserError, match=f"cannot reach the proxy {proxy.url}: "):
        check_invited(mine)


def test_the_option_holds_for_the_sites_processes_alone():
    before = dict(os.environ)
    with through("http://proxy.example:3128"):
        assert proxy_for(Address("fl.example.org", 443)) == "http://proxy.example:3128"
        assert proxy_for(Address(LOOPBACK, 443)) == proxy_for(Address("localhost", 443)) == ""
        theirs = environment(os.devnull)  # type: ignore[arg-type]
        assert theirs["HTTPS_PROXY"] == "http://proxy.example:3128"
        assert set(theirs["NO_PROXY"].split(",")) == {"localhost", LOOPBACK}
    assert dict(os.environ) == before
    with through(""):
        assert dict(os.environ) == before


@pytest.mark.parametrize(
    "url", ["proxy:3128", "socks5://proxy:1080", "http://", "http://h:99999", "h", "http://h:x"]
)
def test_what_is_no_proxy_is_refused_in_one_line(url):
    with pytest.raises(UserError, match="is not http://HOST:PORT"), through(url):
        pass
    with pytest.raises(UserError) as mistake, through("ftp://me:secret@h:1"):
        pass
    assert "secret" not in str(mistake.value)


@pytest.mark.federation
@pytest.mark.timeout(600)
def test_a_site_joins_and_trains_through_a_proxy(tmp_path):
    """The server is on an address that the site's own exceptions do not name."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "a.npz", images=rng.integers(0, 255, (60, 8, 8), dtype=np.uint8))
    address = f"{ELSEWHERE}:{free_port()}"
    with Covey(tmp_path) as covey, ConnectProxy() as proxy:
        covey.run("server", "init", "server", "--address", address)
        for site in ("north", "south"):
            covey.run("server", "invite", "server", site, "--output", f"{site}.toml")
        covey.start("server", "server", "start", "server")
        covey.until("server", "ready")
        data = ("--data", "a.npz")
        covey.start("north", "client", "join", "north.toml", *data, "--proxy", proxy.url)
        detached = ("client", "join", "south.toml", *data, "--detach")
        covey.environment["HTTPS_PROXY"] = proxy.url
        said = covey.run(*detached)
        del covey.environment["HTTPS_PROXY"]
        through_it = f"connection: {address} answers through the proxy {proxy.url}, is"
        assert through_it in said
        covey.until("north", through_it)
        covey.until("north", "joined")
        before = proxy.carried
        options = ("--rounds", "1", "--local-epochs", "1", "--encoder", "small-convnet")
        covey.run("submit", "fedsimclr", "--server", "server", *options, "--batch-size", "16")
        (run,) = ServerFolder(tmp_path / "server").runs.iterdir()
        assert events(run, "round")[0]["answered"] == ["north", "south"]
        left = (tmp_path / "covey-site-north" / "left.jsonl").stat().st_size
        assert left > 0 and proxy.carried - before > 1_000_000  # the model, there and back
        assert set(proxy.asked) == {address}
        status = covey.run("client", "status", "covey-site-north")
        assert f"server: {address} answers, and knows this site" in status
        covey.run("client", "leave", "covey-site-south")


def test_whole_messages_and_held_questions_go_through_a_proxy(tmp_path, monkeypatch):
    authority = make_authority(tmp_path / "ours")
    port = free_port()
    content = os.urandom(3_000_000)
    with (
        place_in(tmp_path) as place,
        serving(place.app, port, issue_server(authority, tmp_path / "ours", ())),
        ConnectProxy() as proxy,
        ThreadPoolExecutor() as pool,
    ):
        site, app = place.site(), place.serverapp()
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        calls = site.through(f"{LOOPBACK}:{port}", authority.certificate.read_bytes())
        asked = pool.submit(calls.pull, 20.0)
        ids = app.ask(site, content=content)
        message = asked.result(20.0).open()
        assert content_of(message) == content
        calls.push(reply_to(message, content[::-1]), 1.0)
        assert app.hear(ids) == content[::-1]
        assert set(proxy.asked) == {f"{LOOPBACK}:{port}"} and proxy.carried > 2 * len(content)
