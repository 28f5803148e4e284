"""Container files, without an engine: the manifests fit Kubernetes' schemas, the compose files are
what docs/coordinator/containers.md says, nothing runs as root. `make compose-test` runs them for
real."""

import json
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import kubernetes_validate
import numpy as np
import pytest
import yaml

from common.data import load
from common.utils.errors import UserError
from common.utils.lock import locked
from deploy.coordinator.share_out import IMAGES, INVITATION, check_writable, share_out, spread
from deploy.identity.certificates import issue_server, make_authority
from deploy.processes.health import health, main
from tests.compose.docker_engine import ROOT, USUAL_BASE, USUAL_INDEX, NeededError, check_index
from tests.compose.run import SITES

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "docker" / "Dockerfile").read_text()
KUBERNETES = "1.37"  # the newest that the pinned schemas know
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def compose(name="compose.yaml"):
    return yaml.safe_load((DEPLOY / name).read_text())


def documents():
    return [
        pytest.param(document, id=f"{path.stem}-{document['kind']}")
        for path in MANIFESTS
        for document in yaml.safe_load_all(path.read_text())
    ]


def pods():
    """Pod specifications of the manifests."""
    return [
        pytest.param(document.values[0]["spec"]["template"]["spec"], id=document.id)
        for document in documents()
        if "template" in document.values[0]["spec"]
    ]


@pytest.mark.parametrize("document", documents())
def test_a_manifest_fits_the_schema_of_kubernetes_strictly(document):
    kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_misspelt_field_does_not_fit():
    [document, *_] = yaml.safe_load_all(MANIFESTS[0].read_text())
    document["spec"]["selektor"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("pod", pods())
def test_a_pod_cannot_be_root_nor_become_it_nor_write_to_its_image(pod):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["automountServiceAccountToken"] is False
    containers = [*pod["containers"], *pod.get("initContainers", [])]
    for container in containers:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}


def test_the_image_ends_as_a_numbered_user_with_a_health_check():
    instructions = re.findall(r"^([A-Z]+) (.*)", DOCKERFILE, re.MULTILINE)
    users = [value for name, value in instructions if name == "USER"]
    assert users[-1].startswith("${USER_ID}")
    assert ("ARG", "USER_ID=1000") in instructions
    assert [name for name, _ in instructions].count("HEALTHCHECK") == 1
    assert ("ARG", f"BASE={USUAL_BASE}") in instructions
    assert ("ARG", f"TORCH_INDEX={USUAL_INDEX}") in instructions


def test_what_the_image_copies_is_let_through_by_dockerignore():
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        name
        for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.M)
        for name in line.split()
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_compose_hardens_every_service_and_keeps_the_sites_apart():
    services = compose()["services"]
    assert set(services) == {"setup", "server", "run", *SITES}
    for service in services.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert {"user", "privileged", "ports"}.isdisjoint(service)  # the image's user, not root
    for site in SITES:
        assert services[site]["volumes"] == [f"{site}:/covey/site"]
    assert services["run"]["network_mode"] == "service:server"


def test_compose_gives_every_build_argument_the_default_of_the_dockerfile():
    arguments = dict(re.findall(r"^ARG (\w+)=(.*)$", DOCKERFILE, re.MULTILINE))
    given = compose()["services"]["setup"]["build"]["args"]
    defaults = {name: re.fullmatch(r"\$\{\w+:?-(.*)\}", v)[1] for name, v in given.items()}
    assert defaults == arguments


def test_setup_fills_the_volumes_that_server_and_sites_take():
    services = compose()["services"]
    setup = services["setup"]
    assert [f"--site=/covey/sites/{site}" in setup["command"] for site in SITES] == [True] * 3
    assert {v.split(":")[0] for v in setup["volumes"]} >= {"server", *SITES}
    for site in SITES:
        assert f"/covey/site/{INVITATION}" in services[site]["command"]
        assert f"--data=/covey/site/{IMAGES}" in services[site]["command"]
        made = re.search(r"^RUN mkdir -p (.*?)\n    &&", DOCKERFILE, re.M | re.S)[1]
        assert f"/covey/sites/{site} " in made  # or the volume would be root's


def test_the_gpu_file_gives_a_gpu_to_each_site_and_names_only_services_that_are_there():
    services = compose("compose.gpu.yaml")["services"]
    assert set(services) == set(compose()["services"])
    for name, service in services.items():
        assert service["image"] == "${IMAGE:-covey:cuda}"
        assert ("deploy" in service) == (name in SITES)


def test_sharing_out_gives_each_site_an_invitation_and_its_images_and_may_run_again(tmp_path):
    folders = [tmp_path / name for name in SITES]
    for folder in folders:
        folder.mkdir()
    digits = load("digits")
    shares = spread(digits, folders, "dirichlet(0.3)")
    said = list(share_out(tmp_path / "server", "server:8443", shares))
    assert len(said) == 1 + 2 * len(SITES)
    assert sum(len(load(str(f / IMAGES)).images) for f in folders) == len(digits.images)
    for folder in folders:
        given = load(str(folder / IMAGES))
        assert np.array_equal(given.images, shares[folder].images)
        assert np.array_equal(given.labels, shares[folder].labels)
        assert given.classes == digits.classes
        assert (folder / INVITATION).stat().st_mode & 0o777 == 0o600
    assert list(share_out(tmp_path / "server", "server:8443", shares)) == []


def test_a_folder_of_runs_that_cannot_be_written_is_said_before_a_run(tmp_path, monkeypatch):
    check_writable(tmp_path)
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    with pytest.raises(UserError, match="cannot be written by user"):
        check_writable(tmp_path)


def test_a_site_is_healthy_once_it_has_been_let_in(tmp_path, capsys):
    private = tmp_path / "private"
    private.mkdir()
    (private / "site").write_text("north")
    assert main([str(tmp_path / "nothing"), str(tmp_path)]) == 1
    assert "nobody has joined" in capsys.readouterr().out
    with locked(private / "lock"):
        (private / "presence.json").write_text(json.dumps({"process": 1, "joined": ""}))
        with pytest.raises(UserError, match="has not been let in"):
            health([tmp_path])
        (private / "presence.json").write_text(json.dumps({"process": 1, "joined": "noon"}))
        assert main([str(tmp_path)]) == 0
    with pytest.raises(UserError, match="no server's or site's folder"):
        health([Path("nowhere")])


def test_a_server_is_healthy_when_its_superlink_answers(tmp_path):
    statuses = [200, 503]

    class Front(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(statuses.pop(0) if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    authority = make_authority(tmp_path / "certificates")
    files = issue_server(authority, tmp_path / "certificates", ["server"])
    with HTTPServer(("127.0.0.1", 0), Front) as front:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(files.certificate, files.key)
        front.socket = tls.wrap_socket(front.socket, server_side=True)
        thread = threading.Thread(target=front.serve_forever)
        thread.start()
        (tmp_path / "server.toml").write_text(f'address = "server:{front.server_port}"\n')
        try:
            assert "answers" in health([tmp_path])
            with pytest.raises(UserError, match="not its SuperLink"):
                health([tmp_path])
        finally:
            front.shutdown()
            thread.join()
    with pytest.raises(UserError, match="does not answer"):
        health([tmp_path])


def test_an_index_that_is_not_reached_is_named_before_anything_is_built(monkeypatch):
    monkeypatch.setenv("TORCH_INDEX", "http://127.0.0.1:9/whl")
    with pytest.raises(NeededError, match="an index with torch"):
        check_index()
    monkeypatch.setenv("TORCH_INDEX", "")
    check_index()
