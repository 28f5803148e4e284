"""The pin: a site runs no bundle but the one that its own installed Covey would write.

A Flower run brings its code with it, as a zip file (a bundle) that every site's ClientApp unpacks
and imports. Covey's bundle is two stubs and the run's options (`deploy/flower/bundle.py`). `check`
writes the bundle anew from the received one's options and compares every file; and it compares the
names by which the ClientApp will look for the unpacked folder, since a run's version with `..` in
it would lead to another folder of the machine. Nothing of a bundle is imported or unpacked for
that.
"""

import hashlib
import tomllib
import zipfile
from io import BytesIO
from typing import Any

from flwr.supercore.fab import Fab
from flwr.supercore.run import Run

from deploy.flower import bundle

LARGEST = 2**20  # bytes; ours has a few thousand
MOST = 16  # files; ours has five
PROJECT_FILE = "pyproject.toml"


class ForeignBundle(Exception):
    """A bundle that this site's Covey would not write; its text says in what it differs."""


def check(run: Run, fab: Fab) -> None:
    """`ForeignBundle` unless `fab` is exactly the bundle that the Covey installed here writes for
    the options in it, and `run` calls it by its name, version and digest."""
    received = unpack(fab.content)
    own = unpack(bundle.build(_options(received)))
    for name in sorted(received.keys() - own.keys()):
        raise ForeignBundle(f"it holds {name!r}, which Covey does not write")
    for name, content in own.items():
        if name not in received:
            raise ForeignBundle(f"{name!r} is missing in it")
        if received[name] != content:
            raise ForeignBundle(f"{name!r} is not the one that Covey {bundle.version()} writes")
    digest = hashlib.sha256(fab.content).hexdigest()
    names = (run.fab_id, run.fab_version, run.fab_hash, fab.hash_str)
    if names != (bundle.ID, bundle.version(), digest, digest):
        raise ForeignBundle(f"the run calls it {run.fab_id!r}, version {run.fab_version!r}")


def unpack(content: bytes) -> dict[str, bytes]:
    """name -> bytes of every file in a bundle; `ForeignBundle` for anything that Flower's own
    builder does not make: compressed, encrypted or very many files, two of one name."""
    if len(content) > LARGEST:
        raise ForeignBundle(f"it has {len(content)} bytes")
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            entries = archive.infolist()
            if len(entries) > MOST or len({entry.filename for entry in entries}) < len(entries):
                raise ForeignBundle("it holds very many files, or two of one name")
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise ForeignBundle("its files are compressed")
            return {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, NotImplementedError) as error:
        raise ForeignBundle(f"it is no bundle: {error}") from None


def _options(received: dict[str, bytes]) -> dict[str, Any]:
    """The run's options, as the received bundle has them; whether they are all that is in its
    project file, the comparison says."""
    try:
        project = tomllib.loads(received[PROJECT_FILE].decode())
        return dict(project["tool"]["flwr"]["app"]["config"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise ForeignBundle(f"{PROJECT_FILE!r} is not one that Covey writes") from None
