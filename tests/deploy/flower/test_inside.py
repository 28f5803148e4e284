"""The names inside Flower that are used: all there, and missed by name where they are not."""

import pytest
from flwr.supercore.protobuf.client import ProtobufClient

from deploy.flower import inside


def test_the_installed_flower_has_every_name() -> None:
    tables = [t for name, t in vars(inside).items() if name.isupper() and isinstance(t, dict)]
    assert tables
    assert [name for table in tables for name in inside.missing(table)] == []


def test_a_name_that_is_gone_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(inside, "log", lambda _level, text, *values: said.append(text % values))
    assert inside.usable(inside.ASKING, "messages go")
    monkeypatch.delattr(ProtobufClient, "_send")
    gone = "flwr.supercore.protobuf.client.ProtobufClient._send"
    assert inside.missing(inside.ASKING) == [gone]
    assert not inside.usable(inside.ASKING, "messages go")
    assert said == [f"covey: this flwr has no {gone}: messages go with Flower's own calls"]


def test_a_module_that_is_gone_misses_all_its_names() -> None:
    assert inside.missing({"flwr.supercore.no_such": ("a", "b")}) == [
        "flwr.supercore.no_such.a",
        "flwr.supercore.no_such.b",
    ]
