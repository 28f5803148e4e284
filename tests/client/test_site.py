"""What a site does when it cannot write: it sends nothing that is not in its log."""

import json
from pathlib import Path

import pytest

from client.site import Site
from client.storage.ledger import enter
from common.config import recipes
from common.protocol.messages import Instruction, Reply, encode
from common.utils.errors import UserError
from tests.common.utils.test_files import room_for


class Introducing:
    def handle(self, _instruction: Instruction) -> Reply:
        return Reply("hello", "north", 0)


def test_an_answer_that_cannot_be_noted_does_not_leave(tmp_path: Path) -> None:
    ledger = tmp_path / "left.jsonl"
    enter(ledger, "run", Reply("hello", "north", 0), b"x")
    before = ledger.read_bytes()
    hello = encode(Instruction("hello", "run", 0, recipes.load("fedsimclr").plan()).to_record())
    site = Site(Introducing(), ledger)  # type: ignore[arg-type]
    with room_for(len(before) + 10), pytest.raises(UserError, match=r"left\.jsonl at the site: "):
        site.handle(hello)
    assert ledger.read_bytes() == before
    assert site.handle(hello)
    assert len(ledger.read_text().splitlines()) == 2


def test_each_line_of_the_log_names_the_run_that_asked(tmp_path: Path) -> None:
    site = Site(Introducing(), tmp_path / "left.jsonl")  # type: ignore[arg-type]
    plan = recipes.load("fedsimclr").plan()
    for run in ("first", "second", "first", "a\nb\x1b[2J"):
        site.handle(encode(Instruction("hello", run, 0, plan).to_record()))
    lines = [json.loads(line) for line in site.ledger.read_text().splitlines()]
    assert [line["run"] for line in lines] == ["first", "second", "first", "a�b�[2J"]
