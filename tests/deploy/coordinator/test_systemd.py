"""The units are ones that systemd takes, and give away nothing that they do not need."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli.main import app
from tests.deploy.helpers import ROOT

UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
KEPT = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "CapabilityBoundingSet": "",
    "UMask": "0077",
    "RestrictSUIDSGID": "yes",
}


def read(unit):
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str
    parser.read(unit)
    return parser


def test_there_is_a_unit_for_the_server_and_one_for_a_site():
    assert [unit.stem for unit in UNITS] == ["covey-server", "covey-site"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_unit_is_hardened_and_starts_again(unit):
    service = read(unit)["Service"]
    assert {name: service[name] for name in KEPT} == KEPT
    assert service["Restart"] == "always" and service["User"] != "root"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_the_command_of_a_unit_is_one_that_covey_has(unit):
    program, *arguments = read(unit)["Service"]["ExecStart"].split()
    assert Path(program).name == "covey"
    said = CliRunner().invoke(app, [*arguments[:2], "--help"], env={"COLUMNS": "200"}).output
    text = re.sub(r"\x1b\[[0-9;]*m", "", said)
    for option in (word for word in arguments if word.startswith("--")):
        assert option in text


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_takes_a_unit(unit, tmp_path):
    """With the path of a program that is here, since it is looked for."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/covey/.venv/bin/covey", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
