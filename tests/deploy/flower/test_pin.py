"""A site runs the bundle that its own Covey writes, to the byte, and no other."""

import hashlib
import subprocess
import sys
import zipfile
from functools import partial
from io import BytesIO

import pytest
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run

from deploy.flower import bundle, supernode
from deploy.flower.commands import supernode_command
from deploy.flower.pin import ForeignBundle, check, unpack
from deploy.site.join import Terms
from tests.deploy.helpers import ROOT

OPTIONS = {"recipe": "fedbyol", "rounds": "3", "share": 0.5, "text": 'a "b" \n ü'}
EVIL = b"from pathlib import Path\nPath('/tmp/owned').write_text('!')\napp = None\n"


def run_of(content, **changes):
    digest = hashlib.sha256(content).hexdigest()
    run = Run.create_empty(7)
    names = {"fab_id": bundle.ID, "fab_version": bundle.version(), "fab_hash": digest}
    for name, value in (names | changes).items():
        setattr(run, name, value)
    return run


def fab_of(content):
    return Fab(hashlib.sha256(content).hexdigest(), content, {})


def packed(files, twice=None, method=zipfile.ZIP_STORED):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        if twice:
            with pytest.warns(UserWarning, match="Duplicate name"):
                archive.writestr(twice, EVIL)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def own():
    return bundle.build(OPTIONS)


def test_our_own_bundle_passes_whatever_its_options(own):
    check(run_of(own), fab_of(own))
    for options in ({}, {"recipe": "covey", "engine": "server"}):
        content = bundle.build(options)
        check(run_of(content), fab_of(content))


def with_manifest(files):
    """The files with a manifest that fits them, as a coordinator who means harm would make it."""
    lines = [
        f"{name},{hashlib.sha256(content).hexdigest()},{len(content) * 8}"
        for name, content in files.items()
        if name != ".info/CONTENT"
    ]
    return files | {".info/CONTENT": "\n".join(lines).encode()}


CHANGES = {
    "a changed stub": lambda files: files | {"covey_bundle/client_app.py": EVIL},
    "one more line in a stub": lambda files: (
        files | {"covey_bundle/client_app.py": files["covey_bundle/client_app.py"] + b"import os\n"}
    ),
    "a changed package": lambda files: files | {"covey_bundle/__init__.py": EVIL},
    "a changed server app": lambda files: files | {"covey_bundle/server_app.py": EVIL},
    "a file more": lambda files: files | {"client.py": EVIL},
    "a file for Python's start": lambda files: files | {"sitecustomize.py": EVIL},
    "a file elsewhere": lambda files: files | {"../../evil.py": EVIL},
    "a file less": lambda files: {k: v for k, v in files.items() if "server" not in k},
    "another component": lambda files: (
        files | {"pyproject.toml": files["pyproject.toml"].replace(b"client_app:app", b"evil:app")}
    ),
    "a dependency": lambda files: (
        files
        | {
            "pyproject.toml": files["pyproject.toml"].replace(
                b"[project]", b'[project]\ndependencies = ["evil"]'
            )
        }
    ),
    "no project file": lambda files: {k: v for k, v in files.items() if k != "pyproject.toml"},
    "no TOML": lambda files: files | {"pyproject.toml": b"\xff = ["},
    "deep TOML": lambda files: files | {"pyproject.toml": b"x = " + b"[" * 100_000},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_any_other_bundle_is_refused(own, change):
    content = packed(with_manifest(change(unpack(own))))
    with pytest.raises(ForeignBundle):
        check(run_of(content), fab_of(content))


def test_a_manifest_that_asks_for_digests_of_other_files_is_refused(own):
    files = unpack(own)
    files[".info/CONTENT"] += b"\n../../../etc/passwd,00,8"
    content = packed(files)
    with pytest.raises(ForeignBundle, match=r"'\.info/CONTENT' is not the one"):
        check(run_of(content), fab_of(content))


def test_what_is_no_bundle_of_flowers_is_refused(own):
    files = unpack(own)
    for content in (
        b"",
        b"not a zip",
        own[:-30],
        packed(files, twice="covey_bundle/client_app.py"),
        packed(files, method=zipfile.ZIP_DEFLATED),
        packed({f"{n}.py": b"" for n in range(100)}),
        b"\0" * (2**20 + 1),
    ):
        with pytest.raises(ForeignBundle):
            check(run_of(content), fab_of(content))


@pytest.mark.parametrize(
    "lie",
    [
        {"fab_version": "x/../../../../../home/north/images"},
        {"fab_id": "evil/covey-run"},
        {"fab_hash": "0" * 64},
    ],
)
def test_a_run_that_would_lead_to_another_folder_is_refused(own, lie):
    with pytest.raises(ForeignBundle, match="the run calls it"):
        check(run_of(own, **lie), fab_of(own))


def test_a_bundle_that_is_called_by_another_digest_is_refused(own):
    with pytest.raises(ForeignBundle):
        check(run_of(own), Fab("0" * 64, own, {}))


def connected(run, fab):
    """(get_run, get_fab) as Flower's loop has them from a pinned connection."""

    class Connection:
        def __enter__(self):
            return (1, None, None, lambda _id: run, lambda _hash, _id: fab, "rest")

        def __exit__(self, *_):
            pass

    return supernode.pinned(Connection)()


def test_of_a_foreign_bundle_nothing_reaches_flowers_loop(own, caplog):
    evil = packed(with_manifest(CHANGES["a changed stub"](unpack(own))))
    with connected(run_of(evil), fab_of(evil)) as (_, _, _, get_run, get_fab, rest):
        get_run(7)
        handed = get_fab("", 7)
    assert rest == "rest"
    assert handed.content == b"" and not supernode.is_own(handed)
    with connected(run_of(own), fab_of(own)) as (_, _, _, get_run, get_fab, _):
        get_run(7)
        handed = get_fab("", 7)
    assert handed.content == own and supernode.is_own(handed)
    assert not supernode.is_own(Fab("", own, {"valid_license": "true"}))


def test_whatever_goes_wrong_in_looking_at_a_bundle_it_does_not_run(own, monkeypatch):
    monkeypatch.setattr(supernode, "check", lambda *_: 1 / 0)
    assert not supernode.is_own(supernode.judged(run_of(own), fab_of(own)))


def test_a_run_of_another_kind_is_started_as_a_client_app(own):
    agent = run_of(own, primary_task_type=TaskType.AGENT_APP)
    with connected(agent, fab_of(own)) as (_, _, _, get_run, _, _):
        assert get_run(7).primary_task_type == TaskType.SERVER_APP


def test_where_flwr_has_moved_a_place_that_the_pin_needs_nothing_starts():
    with pytest.raises(SystemExit, match="the pin cannot be set"):
        supernode._put(bundle, "no_such_function", None)
    assert not hasattr(bundle, "no_such_function")


def test_a_site_is_pinned_unless_it_says_otherwise(tmp_path):
    assert not Terms().any_bundle
    node = partial(supernode_command, "a:1", tmp_path, tmp_path, port=1, node_config=tmp_path)
    assert node(pinned=True)[1:4] == ["-m", "deploy.flower.supernode", "--superlink"]
    assert node(pinned=False)[1:4] == ["-m", "deploy.flower.supernode", bundle.ANY]


@pytest.mark.parametrize(("end", "code"), [("1 / 0", 1), ("sys.exit(3)", 3), ("None", 0)])
def test_a_supernode_that_has_failed_ends_whatever_threads_it_has(end, code):
    program = (
        "import sys, threading, time\n"
        "from deploy.flower.supernode import end_with\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        f"end_with(lambda: {end})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert ("ZeroDivisionError" in done.stderr) == (code == 1)
