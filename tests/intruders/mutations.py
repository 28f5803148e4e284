"""Messages spoiled at random: bytes, shapes, types, names, numbers, nesting. Seeded: the same seed
spoils in the same way."""

import io
import json
import struct
import zipfile

import numpy as np
from flwr.app import Array
from flwr.common.serde import array_to_proto
from flwr.proto.recorddict_pb2 import ConfigRecordValue, DoubleList, SintList, StringList
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from google.protobuf.message import DecodeError

from common.protocol import records

NAMES = (
    "", ".", "..", "/", "../../etc/passwd", "/etc/passwd", "private", "logs", "left.jsonl", "a\0b",
    "a\nb", "\x1b[2J\x1b]0;owned\x07", "<script>alert(1)</script>", "'; DROP TABLE runs; --",
    "{{7*7}}", "[bold]", "\u202eabc", "\ud7ff\U0010ffff", "x" * 100_000, "é" * 300, "C:\\x", "~",
    "$(reboot)", "%s%n", "header", "groups", "encoder", "loss.<b>", "loss.loss", "images", "sum",
    "squares", "gram", "local", "head", "counts", "points", "hello", "train", "lloyd", "score",
)  # fmt: skip
INTEGERS = (0, 1, -1, 2, 7, 255, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63), -(2**31))
REALS = (
    0.0, -0.0, 1.0, -1.0, 1e-320, 1e30, 1e308, -1e308, float("nan"), float("inf"), -float("inf"),
    0.5, 2.0**53,
)  # fmt: skip
DTYPES = ("<f4", "<f8", "<i8", "<i4", ">f4", "<f2", "|u1", "|b1", "<U3", "<c8", "|S4", "<M8[s]")
SHAPES = (
    (),
    (0,),
    (1,),
    (3,),
    (4,),
    (5,),
    (2, 2),
    (2, 3),
    (3, 2),
    (4, 4),
    (2, 0),
    (0, 3),
    (1, 1, 2),
)
HUGE = (10**9, 2**31, 2**40, 2**63 - 1, 10**18)


def unpacked(data):
    """What Covey has encoded, as Flower's protobuf with the arrays in it."""
    head, size = records.HEAD, records.SIZE
    (length,) = head.unpack_from(data)
    at = head.size + length
    record = ProtoRecordDict.FromString(data[head.size : at])
    for array in arrays_of(record):
        (length,) = size.unpack_from(data, at)
        at += size.size + length
        array.data = data[at - length : at]
    return record


def packed(record):
    """The inverse, of whatever a record says."""
    hollow = ProtoRecordDict.FromString(record.SerializeToString())
    pieces = []
    for array in arrays_of(hollow):
        pieces += [records.SIZE.pack(len(array.data)), array.data]
        array.ClearField("data")
    head = hollow.SerializeToString()
    return b"".join([records.HEAD.pack(len(head)), head, *pieces])


def arrays_of(record):
    """All arrays of Flower's protobuf record, in its order."""
    for part in record.items:
        if part.WhichOneof("value") == "array_record":
            yield from (item.value for item in part.array_record.items)


class Mutator:
    """Spoils encoded records. `others`: whole messages from which parts may be taken."""

    def __init__(self, seed, others):
        self.generator = np.random.default_rng(seed)
        self.others = others

    def pick(self, options):
        return options[int(self.generator.integers(len(options)))]

    def spoil(self, data):
        """One to three changes to the encoded record `data`."""
        for _ in range(int(self.generator.integers(1, 4))):
            if self.generator.random() < 0.12:
                data = self.spoil_bytes(data)
            else:
                try:
                    record = unpacked(data)
                except (DecodeError, ValueError, OverflowError, struct.error):
                    return data
                self.spoil_record(record)
                data = packed(record)
        return data

    def spoil_bytes(self, data):
        if not data:
            return bytes(self.generator.bytes(8))
        at, to = sorted(int(n) for n in self.generator.integers(0, len(data) + 1, 2))
        to = min(to, at + 64) if self.generator.random() < 0.7 else to
        other = self.pick(self.others)
        ways = (
            lambda: data[:at] + bytes(self.generator.bytes(to - at)) + data[to:],
            lambda: data[:at] + data[to:],
            lambda: data[:to] + data[at:],
            lambda: data[:at],
            lambda: data[:at] + self.pick((b"\xff" * 10, b"\0", b"\x80" * 9 + b"\1")) + data[at:],
            lambda: data[:at] + other[at:],
            lambda: (
                data[:at]
                + bytes([data[at % len(data)] ^ 1 << self.pick(range(8))])
                + data[at + 1 :]
            ),
            lambda: b"\x0a\x02" * int(self.generator.integers(1, 400)) + data,
        )
        return self.pick(ways)()

    def spoil_record(self, record):
        if not record.items:
            record.MergeFrom(unpacked(self.pick(self.others)))
            return
        item = self.pick(record.items)
        kind = item.WhichOneof("value")
        roll = self.generator.random()
        if roll < 0.06:
            item.key = self.pick(NAMES)
        elif roll < 0.12:
            record.items.remove(item)
        elif roll < 0.18:
            record.items.append(self.pick(unpacked(self.pick(self.others)).items))
        elif kind == "array_record":
            self.spoil_arrays(item.array_record)
        elif kind == "config_record":
            self.spoil_config(item.config_record)

    def spoil_arrays(self, part):
        if not part.items:
            part.items.add(key=self.pick(NAMES), value=self.array())
            return
        item = self.pick(part.items)
        roll = self.generator.random()
        if roll < 0.1:
            item.key = self.pick(NAMES)
        elif roll < 0.15:
            part.items.remove(item)
        elif roll < 0.25:
            part.items.add(key=self.pick(NAMES), value=self.array())
        elif roll < 0.5:
            item.value.CopyFrom(self.array())
        elif roll < 0.6:
            item.value.data = self.liar(item.value.data)
        elif roll < 0.65:
            item.value.stype = self.pick((*NAMES, "torch.Tensor", "pickle"))
        elif roll < 0.7:
            item.value.dtype = self.pick((*NAMES, *DTYPES))
            item.value.shape[:] = [abs(self.pick(INTEGERS)) % 2**31 for _ in range(3)]
        else:
            self.spoil_numbers(item.value)

    def spoil_numbers(self, packed):
        """Another number in a place of the array, which stays an array of its kind."""
        try:
            array = np.load(io.BytesIO(packed.data), allow_pickle=False)
            flat = array.reshape(-1)
            value = self.pick(REALS if array.dtype.kind == "f" else INTEGERS)
            with np.errstate(all="ignore"):
                if self.generator.random() < 0.5:
                    flat[int(self.generator.integers(len(flat)))] = value
                else:
                    flat[:] = value if self.generator.random() < 0.5 else -flat
            packed.CopyFrom(array_to_proto(Array(array)))
        except Exception:  # it had been spoiled before
            return

    def array(self):
        """Any array that numpy can write."""
        dtype, shape = np.dtype(self.pick(DTYPES)), self.pick(SHAPES)
        count = int(np.prod(shape, dtype=int))
        array = np.frombuffer(self.generator.bytes(count * dtype.itemsize), dtype).reshape(shape)
        if self.generator.random() < 0.3:
            array = np.asfortranarray(array)
        elif self.generator.random() < 0.3 and dtype.kind in "fi":
            array = np.ones(shape, dtype)
        return array_to_proto(Array(array.copy(order="K")))

    def liar(self, data):
        """An array's bytes that claim what is not there, or are no array."""
        claimed = self.pick(
            (
                f"({self.pick(HUGE)},)",
                f"({self.pick(HUGE)}, {self.pick(HUGE)})",
                f"(0, {self.pick(HUGE)})",
                "(" * 5000,
                "(-1,)",
                "(1e9,)",
                "-" * 9000 + "1",
                "(True,)",
                "()",
                "__import__('os')",
            )
        )
        kind = self.pick(
            ("'<f4'", "'<f8'", "'<i8'", "'|O'", "('<f4', (1000000,))", "[('a', '<f4')]")
        )
        text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {claimed}, }}\n".encode()
        version = self.pick((1, 2, 3, 9))
        length = struct.pack("<H" if version == 1 else "<I", len(text))
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("a.npy", data)
        return self.pick(
            (
                b"\x93NUMPY" + bytes([version, 0]) + length + text + data[-16:],
                archive.getvalue(),
                b"\x80\x04\x95" + data,
                data[:-3],
                data + b"\0" * 5,
                b"",
                b"\x93NUMPY\x01\x00\xff\xff",
            )
        )

    def value(self):
        """Any value that a config record can hold."""
        return self.pick(
            (
                lambda: ConfigRecordValue(sint64=self.pick(INTEGERS)),
                lambda: ConfigRecordValue(double=self.pick(REALS)),
                lambda: ConfigRecordValue(string=self.pick(NAMES)),
                lambda: ConfigRecordValue(bool=True),
                lambda: ConfigRecordValue(bytes=self.generator.bytes(9)),
                ConfigRecordValue,
                lambda: ConfigRecordValue(sint_list=SintList(vals=INTEGERS)),
                lambda: ConfigRecordValue(double_list=DoubleList(vals=REALS)),
                lambda: ConfigRecordValue(string_list=StringList(vals=NAMES[:20])),
                lambda: ConfigRecordValue(string_list=StringList(vals=["a", "a"])),
            )
        )()

    def spoil_config(self, part):
        if not part.items or self.generator.random() < 0.15:
            part.items.add(key=self.pick(NAMES), value=self.value())
            return
        item = self.pick(part.items)
        roll = self.generator.random()
        if item.key == "plan" and roll < 0.9:
            item.value.string = self.plan(item.value.string)
        elif roll < 0.15:
            part.items.remove(item)
        elif roll < 0.3:
            item.key = self.pick(NAMES)
        elif roll < 0.6 and item.value.WhichOneof("value") == "double":
            item.value.double = self.pick(REALS)
        elif roll < 0.6 and item.value.WhichOneof("value") == "sint64":
            item.value.sint64 = self.pick(INTEGERS)
        else:
            item.value.CopyFrom(self.value())

    def plan(self, text):
        """The plan's JSON with something else in a place of it."""
        if self.generator.random() < 0.1:
            deep = int(self.generator.integers(10, 100_000))
            return self.pick(
                ("[" * deep, '{"stages":' * deep, text[:-9], text * 2, "null", "\ud7ff")
            )
        try:
            tree = json.loads(text)
            place = tree if self.generator.random() < 0.5 else self.pick(tree["stages"])
            if self.generator.random() < 0.2:
                place = place.get("parameters", place)
            if not isinstance(place, dict):  # it had been spoiled before
                return json.dumps(place)
            key = self.pick(sorted(place)) if place else "hidden"
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
            return self.pick(NAMES)
        ways = (
            lambda: place.update({key: self.pick(INTEGERS)}),
            lambda: place.update({key: self.pick(REALS[:8])}),
            lambda: place.update({key: self.pick(NAMES[:30])}),
            lambda: place.update({key: self.pick((None, True, [], {}, [[[[]]]], 10**400))}),
            lambda: place.update({self.pick(NAMES): 1}),
            lambda: place.pop(key, None),
            lambda: place.update(
                parameters={self.pick(("hidden", "width", "x")): self.pick(INTEGERS)}
            ),
            lambda: place.update(encoder=self.pick(("resnet18", "pixels", "convnet", "os"))),
            lambda: place.update(dataset=self.pick(NAMES[:12])),
        )
        self.pick(ways)()
        return json.dumps(tree)
