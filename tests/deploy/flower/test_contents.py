"""A message taken apart and put together without needless copies is Flower's to the byte."""

import json

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.message import arraychunk
from flwr.supercore.inflatable.inflatable_object import (
    add_header_to_object_body,
    get_all_nested_objects,
    get_object_id,
    get_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from deploy.flower.contents import Chunk, content_of, cut_arrays, put_together
from tests.deploy.flower.place import message_to

LARGE = 3_000_000  # floats: three chunks, and the third is like none


def message(*arrays: np.ndarray) -> Message:
    parts = {f"a{n}": Array(array) for n, array in enumerate(arrays)}
    record = RecordDict({"m": ArrayRecord(parts), "c": ConfigRecord({"text": "x" * 100})})
    return message_to(3, 7, record)


ARRAYS = [
    (np.arange(5, dtype=np.int64),),
    (np.random.default_rng(0).random(LARGE, np.float32),),
    (np.zeros(LARGE, np.float32), np.zeros(LARGE, np.float32), np.zeros((0, 3))),
    (),
]


@pytest.mark.parametrize("arrays", ARRAYS)
def test_names_trees_and_contents_are_flowers(arrays) -> None:
    flowers, ours = message(*arrays), message(*arrays)
    ours.metadata.__dict__["_created_at"] = flowers.metadata.created_at
    cut_arrays(ours)
    assert get_object_tree(ours) == get_object_tree(flowers)
    wanted = {name: item.deflate() for name, item in get_all_nested_objects(flowers).items()}
    given = {n: b"".join(content_of(item)) for n, item in get_all_nested_objects(ours).items()}
    assert given == wanted
    assert all(get_object_id(content) == name for name, content in given.items())


def test_a_chunk_is_a_chunk_of_flowers_wherever_flower_looks() -> None:
    data = memoryview(b"abc" * 1000)
    flowers, ours = arraychunk.ArrayChunk(data), Chunk(data)
    assert ours.object_id == flowers.object_id and ours.deflate() == flowers.deflate()


@pytest.mark.parametrize("arrays", ARRAYS)
def test_what_is_put_together_is_what_was_taken_apart(arrays) -> None:
    contents = {n: i.deflate() for n, i in get_all_nested_objects(message(*arrays)).items()}
    root = list(contents)[-1]
    ours = put_together(root, {name: bytearray(content) for name, content in contents.items()})
    wanted = inflate_object_from_contents(root, contents)
    assert isinstance(ours, Message) and isinstance(wanted, Message)
    assert ours.content == wanted.content and ours.metadata == wanted.metadata
    for array in ours.content["m"].values():
        assert type(array.data) is bytes
        array.numpy()


def spoiled(told: dict, children: str) -> dict[str, bytearray]:
    """The contents of an array that says something else of itself."""
    chunk = arraychunk.ArrayChunk(memoryview(b"abc"))
    body = json.dumps(told).encode()
    head = f"Array {children.format(chunk.object_id)} {len(body)}".encode()
    return {chunk.object_id: bytearray(chunk.deflate()), "a": bytearray(head + b"\0" + body)}


TOLD = {"dtype": "float32", "shape": [1], "stype": "numpy.ndarray", "arraychunk_ids": [0]}


def test_an_array_may_say_that_a_chunk_is_repeated() -> None:
    array = put_together("a", spoiled(TOLD | {"arraychunk_ids": [0, 0, 0]}, "{}"))
    assert isinstance(array, Array) and array.data == b"abc" * 3


@pytest.mark.parametrize(
    ("told", "children"),
    [
        (TOLD | {"arraychunk_ids": [0, 1]}, "{}"),
        (TOLD | {"arraychunk_ids": []}, "{}"),
        (TOLD | {"arraychunk_ids": [[0]]}, "{}"),
        (TOLD | {"dtype": 5}, "{}"),
        (TOLD | {"shape": "x"}, "{}"),
        ([TOLD], "{}"),
        (TOLD, "b" * 64),
    ],
)
def test_an_array_that_is_none_is_an_error(told, children) -> None:
    with pytest.raises(Exception, match=r".") as raised:
        put_together("a", spoiled(told, children))
    assert isinstance(raised.value, ValueError | TypeError | KeyError)


def test_an_object_without_a_head_is_an_error() -> None:
    chunk = add_header_to_object_body(b"abc", Chunk(memoryview(b"abc")))
    with pytest.raises(ValueError):
        put_together("a", {"a": bytearray(chunk.replace(b"\0", b"")), "b": bytearray(b"")})
