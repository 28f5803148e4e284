"""Many sites in one process, a thread each: they are let in, and echo what they are sent.

    python fake_sites.py ADDRESS CERTIFICATE FILE_WITH_PATHS_OF_KEYS FOLDER

With other bytes, since the server keeps equal ones once. A line of JSON each time that all sites of
this process have answered.
"""

import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.supercore.run import RunNotRunningException

from deploy.flower.fleet import Fleet
from deploy.flower.mark import Mark

APART = 0.01  # seconds between two sites that start


def main() -> None:
    """Start them all, and stay."""
    address, certificate, listed, folder = sys.argv[1:]
    roots = Path(certificate).read_bytes()
    paths = [Path(line) for line in Path(listed).read_text().splitlines()]
    for number, path in enumerate(paths):
        key = serialization.load_ssh_private_key(path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        fleet = Fleet(address, roots, key, Mark(Path(folder) / path.stem))
        threading.Thread(target=live, args=(fleet, number), daemon=True).start()
        time.sleep(APART)
    threading.Event().wait()


def live(fleet: Fleet, number: int) -> None:
    """One site."""
    with fleet:
        while True:
            try:
                fleet.enter()
                break
            except httpx.HTTPError:  # the server is busy: a site comes again
                time.sleep(1.0)
        while True:
            try:
                delivery = fleet.next()
                if delivery is not None:
                    fleet.reply(echo(delivery.open(), number), 0.0)
            except RunNotRunningException:
                pass  # the run is over


def echo(message: Message, number: int) -> Message:
    """What was sent, of which each number is one more than in another site's answer."""
    (sent,) = message.content["model"].values()
    mine = np.frombuffer(sent.numpy().tobytes(), np.float32) + np.float32(number + 1)
    return Message(RecordDict({"model": ArrayRecord({"flat": Array(mine)})}), reply_to=message)


if __name__ == "__main__":
    main()
