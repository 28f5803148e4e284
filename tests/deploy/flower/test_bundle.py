"""What travels with a run is two stubs and the run's options, never Covey's code."""

import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.flower.bundle import write_bundle

values = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
)
options = st.dictionaries(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True), values)


def config_of(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]


@given(options)
def test_every_option_arrives_as_it_was_given(tmp_path_factory, config):
    folder = write_bundle(tmp_path_factory.mktemp("bundle"), config)
    read = config_of(folder)
    assert read == config
    assert [type(value) for value in read.values()] == [type(value) for value in config.values()]


def test_the_built_bundle_holds_two_stubs_and_none_of_our_code(tmp_path):
    folder = write_bundle(tmp_path / "bundle", {"recipe": "fedmcc", "text": 'a "b" \n c'})
    (folder / "stray.py").write_text("secret = 1\n")
    flwr = Path(sys.executable).parent / "flwr"
    subprocess.run([flwr, "build", "--app", folder], cwd=tmp_path, check=True, capture_output=True)
    (built,) = tmp_path.glob("*.fab")
    with zipfile.ZipFile(built) as archive:
        assert sorted(archive.namelist()) == [
            ".info/CONTENT",
            "covey_bundle/__init__.py",
            "covey_bundle/client_app.py",
            "covey_bundle/server_app.py",
            "pyproject.toml",
        ]
        code = archive.read("covey_bundle/client_app.py").decode()
    assert [line for line in code.splitlines()[1:] if line] == [
        "from client.app import app as installed",
        "app = installed",
    ]


def test_the_stub_gives_the_app_of_the_named_module(tmp_path, monkeypatch):
    (tmp_path / "some_app.py").write_text("app = object()\n")
    folder = write_bundle(tmp_path / "bundle", {}, server="some_app", client="some_app")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(folder)
    app = import_module("some_app").app
    assert import_module("covey_bundle.client_app").app is app
    assert import_module("covey_bundle.server_app").app is app


@pytest.mark.parametrize("module", ["os; import sys", "a b", "", "a..b"])
def test_only_the_name_of_a_module_gets_into_a_stub(tmp_path, module):
    with pytest.raises(ValueError, match="not the name of a module"):
        write_bundle(tmp_path, {}, server=module)
