"""A run whose sites take the weights of its encoder from the server."""

import json
from pathlib import Path

import pytest
import torch

import common.models.pretrained.store as files
import server.conversation.weights as handing
from client.workbench import Workshop
from common.models.pretrained.settle import settle_encoder
from common.models.pretrained.store import WeightStore
from common.record.reader import read_run
from common.utils.errors import UserError
from deploy.engines import simulate as simulation
from deploy.engines.in_process import sites_of
from deploy.engines.simulate import simulate
from tests.builders.pretrained import OPTIONS, write_lite0
from tests.builders.runs import plan


@pytest.fixture
def settled(tmp_path, monkeypatch):
    """The plan of a federation whose server alone has the file."""
    (tmp_path / "server").mkdir()
    given = {**OPTIONS, "weights": str(write_lite0(tmp_path / "server")), "encoder-side": "32"}
    store = WeightStore((tmp_path / "server",))
    for variable in ("COVEY_HOME", "COVEY_WEIGHTS"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    found = settle_encoder(plan("fedkmeans-pixels", images=60, rounds="", **given), store)
    (tmp_path / "home" / "weights.json").unlink()
    monkeypatch.setattr(files, "_write_index", lambda _index: None)  # sites are not on this machine
    monkeypatch.setattr(handing, "WeightStore", lambda: store)
    return found


def willing(monkeypatch, *names: str) -> None:
    """These sites take weights; none has other folders than its own."""

    def made(data, partition, folder, _workshop, *more):
        sites = sites_of(data, partition, folder, _workshop, *more)
        for site in sites:
            own = folder / site.trainer.site / "weights"
            taken = own if site.trainer.site in names else None
            store = WeightStore((own,), taken)
            site.trainer.workshop = Workshop(torch.device("cpu"), store)
        return sites

    monkeypatch.setattr(simulation, "sites_of", made)


def asked(run: Path, site: str) -> list[str]:
    lines = (run / "sites" / site / "left.jsonl").read_text().splitlines()
    return [json.loads(line)["kind"] for line in lines]


def test_the_file_goes_once_to_who_takes_it(settled, tmp_path, monkeypatch) -> None:
    run = tmp_path / "run"
    willing(monkeypatch, "site-0", "site-1")
    simulate(settled, run)
    record = read_run(run)
    assert record.run.status == "finished"
    assert any("took the weights of timm:tf_efficientnet_lite0: site-0, site-1" in note.text
               for note in record.notes)  # fmt: skip
    parts = -(-settled.network.size // handing.PART)
    assert parts == 3 and asked(run, "site-0")[:4] == ["hello", *["weights"] * 3]
    (file,) = (run / "sites" / "site-0" / "weights").iterdir()
    assert file.name == f"{settled.weights}.safetensors"
    simulate(settled, run)
    assert asked(run, "site-0").count("weights") == 3  # once


def test_a_site_that_was_not_told_to_takes_none_and_says_what_it_lacks(
    settled, tmp_path, monkeypatch
) -> None:
    willing(monkeypatch)
    with pytest.raises(UserError, match=r"site-0: the weights of timm:.*are not here"):
        simulate(settled, tmp_path / "run")
    assert "weights" not in asked(tmp_path / "run", "site-0")


def test_another_file_at_the_server_is_never_used(settled, tmp_path, monkeypatch) -> None:
    file = tmp_path / "server" / "lite0.safetensors"
    changed = bytearray(file.read_bytes())
    changed[-1] ^= 1
    monkeypatch.setattr(handing, "_read", lambda _path, part: bytes(
        changed[part * handing.PART : (part + 1) * handing.PART]))  # fmt: skip
    willing(monkeypatch, "site-0", "site-1")
    with pytest.raises(UserError, match="are not here"):
        simulate(settled, tmp_path / "run")
    told = " ".join(each.text for each in read_run(tmp_path / "run").warnings)
    assert "another SHA-256 than the plan names; thrown away" in told
    assert not list((tmp_path / "run" / "sites" / "site-0" / "weights").iterdir())
