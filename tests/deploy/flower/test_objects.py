"""Many objects at once: what the tables say then is what Flower's own store would have them say."""

import hashlib
import random
from collections.abc import Sequence

import numpy as np
import pytest
from fastapi import HTTPException
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from deploy.flower import objects
from tests.deploy.flower.place import message_to, state_in

TABLES = ("objects", "object_children", "run_objects")
RUN = 77


@pytest.fixture(scope="module")
def states(tmp_path_factory):
    with (
        state_in(tmp_path_factory.mktemp("flower")) as flower,
        state_in(tmp_path_factory.mktemp("ours")) as ours,
    ):
        yield flower, ours


class Held(dict):
    """Objects that have come with a request."""

    def sizes(self):
        return {name: len(content) for name, content in self.items()}

    def content(self, object_id):
        return self[object_id]

    def leave(self, object_id):
        """Nothing stays where it is."""

    def reference(self, object_id):
        return None


def messages(seed: int) -> list[Message]:
    """A few messages that share some of their parts."""
    rng = random.Random(seed)
    parts = [ConfigRecord({"n": n}) for n in range(3)]
    parts += [ArrayRecord({"a": Array(np.full(3, n, np.float32))}) for n in range(3)]
    found = []
    for number in range(rng.randrange(1, 5)):
        record = RecordDict({f"r{k}": rng.choice(parts) for k in range(rng.randrange(0, 4))})
        found.append(message_to(10 + number, RUN, record, 600.0 + seed))
    return found


def taken_apart(message: Message) -> tuple[ObjectTree, Held]:
    tree = get_object_tree(message)
    return tree, Held({name: o.deflate() for name, o in get_all_nested_objects(message).items()})


def content_of(state) -> dict[str, list]:
    orders = {"objects": "object_id", "object_children": "parent_id, child_id"}
    return {
        table: [
            tuple(row.values())
            for row in state.query(
                f"SELECT * FROM {table} ORDER BY {orders.get(table, 'run_id, object_id')}"
            )
        ]
        for table in TABLES
    }


def put_by_flower(state, pairs: Sequence[tuple[ObjectTree, Held]]) -> None:
    for tree, contents in pairs:
        for name in state.object_store.preregister(RUN, tree):
            state.object_store.put(name, contents[name])


def put_by_us(state, pairs: Sequence[tuple[ObjectTree, Held]]) -> None:
    together = Held({k: v for _, contents in pairs for k, v in contents.items()})
    children = objects.children_of([tree for tree, _ in pairs])
    with state.session() as session:
        objects.store(session, children, together, RUN)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=4), st.integers(0, 99))
def test_storing_and_deleting_many_leaves_what_flower_leaves(states, seeds, chance) -> None:
    flower, ours = states
    for state in states:
        state.object_store.clear()
    roots = []
    for seed in seeds:
        pairs = [taken_apart(message) for message in messages(seed)]
        put_by_flower(flower, pairs)
        put_by_us(ours, pairs)
        roots += [tree.object_id for tree, _ in pairs]
        assert content_of(ours) == content_of(flower)
    doomed = random.Random(chance).sample(roots, len(roots) // 2)
    for root in doomed:
        flower.object_store.delete(root)
    with ours.session() as session:
        objects.delete_trees(session, doomed)
    assert content_of(ours) == content_of(flower)
    for root in roots:
        flower.object_store.delete(root)
    with ours.session() as session:
        objects.delete_trees(session, roots)
    assert content_of(ours) == content_of(flower) == {table: [] for table in TABLES}


def test_what_is_deleted_is_not_written_once_more_before(states) -> None:
    _, ours = states
    ours.object_store.clear()
    shared = ArrayRecord({"a": Array(np.arange(9, dtype=np.float32))})
    pairs = [
        taken_apart(message_to(node, RUN, RecordDict({"shared": shared, "own": own})))
        for node, own in enumerate([ConfigRecord({"n": 1}), ConfigRecord({"n": 2})])
    ]
    put_by_us(ours, pairs)
    written: list[str] = []

    def note(_connection, _cursor, statement, *_others) -> None:
        if statement.startswith("UPDATE objects") and "RETURNING" not in statement:
            written.append(statement)

    with ours.session() as session:
        event.listen(session.get_bind(), "before_cursor_execute", note)
        try:
            objects.delete_trees(session, [pairs[0][0].object_id])
            assert len(written) == 1  # what the other message has, too
            objects.delete_trees(session, [pairs[1][0].object_id])
            assert len(written) == 1
        finally:
            event.remove(session.get_bind(), "before_cursor_execute", note)
    assert content_of(ours) == {table: [] for table in TABLES}


def test_a_tree_is_as_flower_gives_it_with_the_sizes_of_what_is_there(states) -> None:
    _flower, ours = states
    for state in states:
        state.object_store.clear()
    ((tree, contents), *_) = [taken_apart(message) for message in messages(5)]
    put_by_us(ours, [(tree, contents)])
    trees = objects.Trees(ours)
    given_back = trees.get_object_tree(tree.object_id)
    wanted = ours.object_store.get_object_tree(tree.object_id)
    assert given_back.object_id == wanted.object_id
    assert objects.children_of([given_back]) == objects.children_of([wanted])
    assert trees.sizes == contents.sizes()


def test_what_flower_has_only_announced_is_filled_in(states) -> None:
    _, ours = states
    ours.object_store.clear()
    ((tree, contents), *_) = [taken_apart(message) for message in messages(3)]
    assert ours.object_store.preregister(RUN, tree)
    assert objects.Trees(ours).get_object_tree(tree.object_id)
    put_by_us(ours, [(tree, contents)])
    assert {name: ours.object_store.get(name) for name in contents} == contents


def test_a_large_message_is_stored_in_steps_and_one_that_is_spoiled_leaves_no_message(
    states, monkeypatch
) -> None:
    _, ours = states
    ours.object_store.clear()
    monkeypatch.setattr(objects, "BATCH", 1000)
    record = RecordDict({"m": ArrayRecord({"a": Array(np.arange(5000, dtype=np.float32))})})
    tree, contents = taken_apart(message_to(3, RUN, record))
    children = objects.children_of([tree])
    objects.store_early(children, contents, RUN, ours)
    early = list(content_of(ours)["objects"])
    assert early and all(not children[row[0]] for row in early)
    put_by_us(ours, [(tree, contents)])
    assert {name: ours.object_store.get(name) for name in contents} == contents
    with ours.session() as session:
        objects.delete_trees(session, [tree.object_id])
    assert content_of(ours)["objects"] == []


def spoil_child(tree: ObjectTree, contents: Held) -> None:
    tree.children.append(tree.children[0])


def spoil_id(tree: ObjectTree, contents: Held) -> None:
    tree.children[0].object_id = "no id"


def spoil_content(tree: ObjectTree, contents: Held) -> None:
    contents[tree.object_id] += b"x"


def leave_out(tree: ObjectTree, contents: Held) -> None:
    del contents[tree.object_id]


def none_of_flowers(tree: ObjectTree, contents: Held) -> None:
    content = b"no object"
    tree.object_id = hashlib.sha256(content).hexdigest()
    contents[tree.object_id] = content


@pytest.mark.parametrize(
    "spoil", [spoil_child, spoil_id, spoil_content, leave_out, none_of_flowers]
)
def test_what_no_message_can_be_is_refused_and_leaves_nothing(states, spoil) -> None:
    _, ours = states
    ours.object_store.clear()
    tree, contents = taken_apart(message_to(3, RUN, RecordDict({"a": ConfigRecord({"x": 1})})))
    spoil(tree, contents)
    with pytest.raises(HTTPException) as refused:
        put_by_us(ours, [(tree, contents)])
    assert refused.value.status_code == 400
    assert content_of(ours) == {table: [] for table in TABLES}


def test_a_known_object_with_other_children_is_refused(states) -> None:
    _, ours = states
    ours.object_store.clear()
    tree, contents = taken_apart(message_to(3, RUN, RecordDict({"a": ConfigRecord({"x": 1})})))
    put_by_us(ours, [(tree, contents)])
    before = content_of(ours)
    del tree.children[:]
    with pytest.raises(HTTPException):
        put_by_us(ours, [(tree, contents)])
    assert content_of(ours) == before
