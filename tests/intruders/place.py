"""A running server, as whoever is outside of it sees it."""

import http.client
import re
import ssl
import subprocess

from deploy.coordinator.folder import ServerFolder
from deploy.identity.address import Address
from deploy.identity.invitation import Invitation
from deploy.processes.supervisor import environment
from tests.deploy.helpers import processes

PATIENCE = 900.0  # seconds: the machine may be very busy


class Place:
    """A server with three invited sites: `north` has joined, `gone` will be revoked, `rogue` is
    whoever holds its invitation."""

    def __init__(self, folder, covey):
        self.folder, self.covey = folder, covey
        self.server = ServerFolder(folder / "server")
        self.address = Address.parse(self.server.settings().address)
        self.authority = self.server.authority.certificate
        self.tokens = set()

    def invitation(self, name):
        return Invitation.read(self.folder / f"{name}.covey")

    def post(self, path, body=b"x", headers=None):
        """The status of a request whose path no library has tidied."""
        tls = ssl.create_default_context(cafile=str(self.authority))
        connection = http.client.HTTPSConnection(
            self.address.host, self.address.port, timeout=60, context=tls
        )
        try:
            connection.request("POST", path, body, headers or {})
            return connection.getresponse().status
        finally:
            connection.close()

    def refused(self):
        """What the front's log says of those it did not let through."""
        return self.server.logs.joinpath("front.log").read_text()

    def command(self, *arguments, timeout=120, home=None):
        """A program of Flower's, as a stranger runs it, with the federation's certificate."""
        done = subprocess.run(
            arguments,
            env=environment(home or self.folder / "stranger"),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def ended(self, name):
        """Whether a command that was started has ended."""
        return self.covey.started[name].poll() is not None

    def collect_tokens(self):
        """Flower passes its tasks' tokens as arguments: those that are seen now."""
        for line in processes(str(self.folder)).values():
            self.tokens |= set(re.findall(r"--token[ =](\S{8,})", line))
