"""A message's arrays as Flower's objects, and back, each number copied as seldom as may be.

Flower cuts an array into chunks of 5 MiB, and names each by the SHA-256 of its content, which it
puts together for that, and again to send it; and puts an array together in two steps more. A model
is copied six times by that on its way from one process to the next. Here a chunk refers to its
array, and an array is put together at once. Names and contents are Flower's to the byte.
"""

import hashlib
import json
from collections.abc import Mapping

from flwr.app import Array, ArrayRecord, Message
from flwr.app.message.arraychunk import ArrayChunk
from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
from flwr.supercore.constant import HEAD_BODY_DIVIDER, HEAD_VALUE_DIVIDER
from flwr.supercore.inflatable.inflatable_object import (
    InflatableObject,
    get_object_head_values_from_object_content,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from deploy.flower.frames import Piece

CHUNKS = "_chunks"  # where an array of Flower's keeps those that it has been cut into
CHUNK, ARRAY = ArrayChunk.__qualname__, Array.__qualname__


class Chunk(ArrayChunk):
    """A chunk whose name is worked out once."""

    __qualname__ = CHUNK  # which is part of its content

    def __init__(self, data: memoryview) -> None:
        super().__init__(data)
        words = (CHUNK, "", str(len(data)))
        self.head = HEAD_VALUE_DIVIDER.join(words).encode() + HEAD_BODY_DIVIDER
        digest = hashlib.sha256(self.head)
        digest.update(data)
        self._name = digest.hexdigest()

    @property
    def object_id(self) -> str:
        """The SHA-256 of its content."""
        return self._name


def cut_arrays(message: Message) -> None:
    """Cut a message's arrays into chunks, as Flower would have."""
    if not message.has_content():
        return
    for record in message.content.values():
        if isinstance(record, ArrayRecord):
            for array in record.values():
                _cut(array)


def _cut(array: Array) -> None:
    if CHUNKS in array.__dict__:
        return
    view, step = memoryview(array.data), FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
    chunks = [Chunk(view[at : at + step]) for at in range(0, len(view), step)]
    array.__dict__[CHUNKS] = [(chunk.object_id, chunk) for chunk in chunks]


def content_of(item: InflatableObject) -> tuple[Piece, ...]:
    """An object's content, in pieces."""
    return (item.head, item.data) if isinstance(item, Chunk) else (item.deflate(),)


def put_together(root: str, contents: Mapping[str, bytearray]) -> InflatableObject:
    """The object called `root`, of contents in the order of its tree. Raises whatever their maker's
    bytes bring Flower to raise."""
    objects: dict[str, InflatableObject] = {}
    rest: dict[str, bytes] = {}
    for name, content in contents.items():
        kind, children, _ = get_object_head_values_from_object_content(_head(content))
        if kind == CHUNK and not children:
            objects[name] = ArrayChunk(_body(content))
        elif kind == ARRAY and children and all(child in objects for child in children):
            objects[name] = _array(_body(content), [objects[child] for child in children])
        else:
            rest[name] = bytes(content)
    return inflate_object_from_contents(root, rest, objects=objects)


def _array(body: memoryview, children: list[InflatableObject]) -> Array:
    told = json.loads(bytes(body))
    numbers = told["arraychunk_ids"]
    if set(numbers) != set(range(len(children))):
        raise ValueError("an array of other chunks")
    array = Array(told["dtype"], tuple(told["shape"]), told["stype"], b"")
    array.data = b"".join(children[number].data for number in numbers)
    return array


def _head(content: bytearray) -> bytes:
    return bytes(content[: content.find(HEAD_BODY_DIVIDER) + len(HEAD_BODY_DIVIDER)])


def _body(content: bytearray) -> memoryview:
    return memoryview(content)[content.find(HEAD_BODY_DIVIDER) + len(HEAD_BODY_DIVIDER) :]
