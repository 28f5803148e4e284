"""A site's state: the newest before the round that is asked for, whole or not at all."""

from pathlib import Path

import torch

from client.storage.state import StateStore


def test_a_round_starts_from_the_newest_state_before_it(tmp_path: Path) -> None:
    store = StateStore(tmp_path / "site")
    assert store.load(1) is None
    store.save(1, {"target/w": torch.ones(2)})
    store.save(4, {"target/w": torch.full((2,), 4.0)})
    assert store.load(9)["target/w"].tolist() == [4, 4]


def test_a_round_done_again_starts_from_where_it_started_the_first_time(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    for number in (1, 2, 3):
        store.save(number, {"w": torch.tensor([float(number)])})
    assert store.load(3)["w"].item() == 2
    assert store.load(3)["w"].item() == 2  # and again, as the later state is gone


def test_only_the_last_two_states_are_kept(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    for number in range(1, 6):
        store.save(number, {"w": torch.zeros(1)})
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "state-000004.safetensors",
        "state-000005.safetensors",
    ]


def test_a_cut_file_is_set_aside_and_the_one_before_it_serves(tmp_path: Path) -> None:
    store = StateStore(tmp_path)
    store.save(1, {"w": torch.ones(100)})
    store.save(2, {"w": torch.zeros(100)})
    newest = tmp_path / "state-000002.safetensors"
    newest.write_bytes(newest.read_bytes()[:50])
    assert store.load(3)["w"].sum() == 100
    assert (tmp_path / "state-000002.broken").exists()
