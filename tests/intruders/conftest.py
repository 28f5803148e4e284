"""One server and one honest site for all cases of the network."""

import pytest

from deploy.processes.supervisor import free_port
from tests.deploy.helpers import processes
from tests.deploy.machines import Covey, write_images
from tests.intruders.place import Place

LIMITS = {
    "# request-limit = 64": "request-limit = 8",
    "# message-limit = 2048": "message-limit = 8",
}


@pytest.fixture(scope="package")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    write_images(folder)
    with Covey(folder) as covey:
        covey.run("server", "init", "server", "--address", f"127.0.0.1:{free_port()}")
        settings = folder / "server" / "server.toml"
        text = settings.read_text()
        for line, smaller in LIMITS.items():
            assert line in text
            text = text.replace(line, smaller)
        settings.write_text(text)
        for name in ("north", "gone", "rogue"):
            covey.run("server", "invite", "server", name, "--output", f"{name}.covey")
        covey.start("server", "server", "start", "server")
        covey.until("server", "ready")
        covey.start("north", "client", "join", "north.covey", "--data", "north.npz")
        covey.until("north", "joined")
        yield Place(folder, covey)
    assert processes(str(folder)) == {}
