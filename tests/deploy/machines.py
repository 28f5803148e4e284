"""`covey` commands as people on separate machines type them, all on this one."""

import os
import signal
import subprocess
import sys
import time
from typing import Self

import numpy as np
from sklearn.datasets import load_digits

from tests.deploy.helpers import PATIENCE, ROOT


def write_images(folder):
    """`north.npz` and `south.npz`, 300 digits each; the south has labels."""
    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype(np.uint8)
    np.savez(folder / "north.npz", images=images[:300])
    np.savez(folder / "south.npz", images=images[300:600], labels=digits.target[300:600])


class Covey:
    """Runs `covey` commands in a folder, in front or beside the test."""

    def __init__(self, folder):
        self.folder = folder
        variables = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        self.environment = os.environ | variables
        self.started = {}

    def run(self, *arguments, expect=0):
        done = subprocess.run(
            [sys.executable, "-m", "deploy.cli.main", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, name, *arguments):
        with (self.folder / f"{name}.out").open("w") as out:
            self.started[name] = subprocess.Popen(
                [sys.executable, "-m", "deploy.cli.main", *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def said(self, name):
        return (self.folder / f"{name}.out").read_text()

    def until(self, name, text):
        end = time.monotonic() + PATIENCE
        while text not in self.said(name):
            assert self.started[name].poll() is None, self.said(name)
            assert time.monotonic() < end, self.said(name)
            time.sleep(0.1)

    def interrupt(self, name):
        self.started[name].send_signal(signal.SIGINT)
        return self.started[name].wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_):
        for process in self.started.values():
            process.terminate()
        for process in self.started.values():
            process.wait(30)
