"""Files that want to run code, fill memory, read what is not theirs, or are merely damaged.

Each is a name and bytes that no reader may take; they are made from a seed, the same each time.
"""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Iterator

PROTO = b"\x80\x04"
SIXTEEN = {"data/0": bytes(range(16))}
CALLABLES = (
    ("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "exec"),
    ("builtins", "__import__"), ("builtins", "getattr"), ("builtins", "open"),
    ("subprocess", "Popen"), ("socket", "create_connection"), ("importlib", "import_module"),
    ("functools", "partial"), ("pickle", "loads"), ("torch.serialization", "load"),
    ("lazytorch", "load"), ("torch.storage", "_load_from_bytes"), ("types", "FunctionType"),
    ("collections", "namedtuple"), ("numpy.core.multiarray", "_reconstruct"),
)  # fmt: skip


def archive(pickled: bytes, records: dict[str, bytes] | None = None, **written: int) -> bytes:
    """A checkpoint of a pickle and records; ``written`` are options of the zip file."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **written) as made:
        made.writestr("a/data.pkl", pickled)
        made.writestr("a/version", b"3\n")
        for name, content in (records or {}).items():
            made.writestr(f"a/{name}", content)
    return stream.getvalue()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"\x8a\x11" + value.to_bytes(17, "little", signed=True)


def numbers(values: tuple) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor_pickle(
    numel=4, offset=0, size=(2, 2), stride=(2, 1), key="0", kind=b"ctorch\nFloatStorage\n",
    place="cpu", flag=b"\x89", state=b"",
) -> bytes:  # fmt: skip
    storage = b"(" + text("storage") + kind + text(key) + text(place) + number(numel) + b"tQ"
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + numbers(size)
        + numbers(stride) + flag + b"ccollections\nOrderedDict\n)R" + state + b"tR."
    )  # fmt: skip


def codes() -> Iterator[tuple[str, bytes]]:
    """Pickles that call something, by every operation that can."""
    argument = text("touch /tmp/hostile")
    for module, name in CALLABLES:
        line = f"{module}\n{name}\n".encode()
        named = b"c" + line
        ways = {
            "REDUCE": named + argument + b"\x85R",
            "STACK_GLOBAL": text(module) + text(name) + b"\x93" + argument + b"\x85R",
            "INST": b"(" + argument + b"i" + line,
            "OBJ": b"(" + named + argument + b"o",
            "NEWOBJ": named + argument + b"\x85\x81",
            "NEWOBJ_EX": named + argument + b"\x85}\x92",
            "bare": named,
        }
        for way, body in ways.items():
            yield f"{way} {module}.{name}", PROTO + body + b"."
    ordered = b"ccollections\nOrderedDict\n)R"
    yield "BUILD of a class", PROTO + b"cos\nsystem\n}" + text("a") + b"K\x01sb."
    yield "BUILD of a list", PROTO + b"]}b."
    yield "BUILD of a tensor", tensor_pickle()[:-1] + b"}" + text("_node") + b"K\x01sb."
    yield "call of a dict's method", PROTO + ordered + text("clear") + b"\x85R."
    yield "class in metadata", PROTO + ordered + b"}" + text("_metadata") + b"cos\nsystem\nsb."
    yield "PERSID", PROTO + b"Pcos system\n."
    for operation in (b"\x82\x01", b"\x83\x01\x00", b"\x84\x01\x00\x00\x00", b"\x97", b"\x98"):
        yield f"operation {operation[0]:#x}", PROTO + operation + b"."
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter", "_rebuild_qtensor"):
        yield name, PROTO + f"ctorch._utils\n{name}\n".encode() + b"K\x01\x85R."
    nested = PROTO + b"ctorch._tensor\n_rebuild_from_type_v2\n"
    nested += b"(cbuiltins\neval\nctorch\nTensor\n" + argument + b"\x85}tR."
    yield "call within a call", nested
    yield "protocol 0", pickle.dumps({"a": [1.5]}, 0)


def bombs() -> Iterator[tuple[str, bytes]]:
    """Pickles of few bytes that want much."""
    many = b"(" + b"".join(text(f"{place:05}") + b"K\x01" for place in range(5000)) + b"u"
    table = PROTO + b"}" + many + b"\x94"
    yield "copies of a counter", table + b"ccollections\nCounter\n\x94(" + b"h\x01h\x00\x85R" * 3000
    rows = b"](" + b"".join(text(f"{n:04}") + b"K\x01\x86" for n in range(4000)) + b"e\x94"
    for name, module in (("OrderedDict", b"collections"), ("set", b"builtins")):
        called = b"c" + module + b"\n" + name.encode() + b"\n\x94("
        yield f"copies of a {name}", PROTO + rows + called + b"h\x01h\x00\x85R" * 3000 + b"t."
    big = PROTO + text("x" * 100_000) + b"\x94c_codecs\nencode\n\x94("
    yield "copies of bytes", big + b"h\x01h\x00\x85R" * 3000 + b"t."
    for name, operation in (("lists", b"]"), ("marks", b"(")):
        yield f"many {name}", PROTO + b"(" + operation * 240_000 + b"t."
    yield "a memo without end", PROTO + b"N" + b"\x94" * 200_000 + b"."
    doubled = (
        PROTO
        + b"]\x94"
        + b"".join(b"](" + b"h" + bytes([n]) + b"h" + bytes([n]) + b"e\x94" for n in range(200))
    )
    yield "lists that hold the one before twice, as a key", b"\x80\x04}" + doubled[2:] + b"K\x01s."
    deep = b"K\x01\x85" + b"\x85" * 20_000
    yield "a deep key", PROTO + b"}" + deep + b"K\x01s."
    storage = (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"
    )
    function = b"ctorch._utils\n_rebuild_tensor_v2\n"
    views = b"h\x01(h\x00K\x00))\x89NtR" * 40_000
    yield "views without end", PROTO + storage + b"\x94" + function + b"\x94(" + views + b"t."
    for name, operation in {
        "BINUNICODE": b"X\xff\xff\xff\xff", "BINUNICODE8": b"\x8d" + b"\xff" * 8,
        "BINBYTES": b"B\xff\xff\xff\x7f", "BINBYTES8": b"\x8e" + b"\xff" * 7 + b"\x7f",
        "BYTEARRAY8": b"\x96" + b"\xff" * 7 + b"\x7f", "BINSTRING": b"T\xff\xff\xff\xff",
        "LONG1": b"\x8a\xff", "LONG4": b"\x8b\xff\xff\xff\x7f",
        "negative LONG4": b"\x8b" + b"\xff" * 4,
        "FRAME": b"\x95" + b"\xff" * 8, "LONG_BINGET": b"j\xff\xff\xff\xff",
        "digits": b"I" + b"9" * 100_000 + b"\n", "long digits": b"L" + b"9" * 100_000 + b"L\n",
    }.items():  # fmt: skip
        yield f"{name} of what is not there", PROTO + operation + b"."


def tensors() -> Iterator[tuple[str, bytes]]:
    """Tensors that lie outside their storage, or are made of something else."""
    wrong: dict[str, dict] = {
        "more elements": {"numel": 5}, "fewer elements": {"numel": 3}, "no elements": {"numel": 0},
        "negative elements": {"numel": -4}, "elements without end": {"numel": 2**62},
        "offset": {"offset": 1}, "negative offset": {"offset": -1}, "far offset": {"offset": 2**63},
        "negative size": {"size": (-2, 2)}, "large size": {"size": (2**40, 2**40)},
        "size beyond a word": {"size": (2**64, 1)}, "negative stride": {"stride": (-2, 1)},
        "large stride": {"stride": (2**61, 1)}, "stride beyond a word": {"stride": (2**64, 1)},
        "sums beyond a word": {"size": (3, 3), "stride": (2**61, 2**61)},
        "a long view": {"size": (2**40, 2**40), "stride": (0, 0)},
        "fewer strides": {"stride": (1,)},
        "too many dimensions": {"size": (1,) * 70, "stride": (1,) * 70},
        "a path": {"key": "../../etc/passwd"}, "another record": {"key": "../data.pkl"},
        "another type": {"kind": b"ctorch\nDoubleStorage\n"},
        "no storage class": {"kind": b"ccollections\nOrderedDict\n"},
        "an unknown storage": {"kind": b"ctorch\nQUInt8Storage\n"},
        "no booleans": {"kind": b"ctorch\nBoolStorage\n", "numel": 16},
        "an unknown device": {"place": "nowhere"}, "a device of code": {"place": "cpu:__import__"},
        "a gradient of integers": {"kind": b"ctorch\nIntStorage\n", "flag": b"\x88"},
        "unknown state": {"state": b"}" + text("run") + b"\x88s"},
    }  # fmt: skip
    for name, fields in wrong.items():
        yield name, archive(tensor_pickle(**fields), SIXTEEN)
    yield "a storage that is not there", archive(tensor_pickle())
    both = tensor_pickle()[:-1] + tensor_pickle(kind=b"ctorch\nIntStorage\n")[2:-1] + b"\x86."
    yield "one storage of two types", archive(both, SIXTEEN)


def archives() -> Iterator[tuple[str, bytes]]:
    """Zip files that lie about what they hold."""
    one = PROTO + b"K\x01."
    packed = {"compression": zipfile.ZIP_DEFLATED}
    yield "a zip bomb", archive(one, {"data/0": bytes(20_000_000)}, **packed)
    yield "a bomb in the pickle", archive(one + bytes(20_000_000), **packed)
    yield "bzip2", archive(one, {"data/0": bytes(9999)}, compression=zipfile.ZIP_BZIP2)
    second = archive(one, {"data.pk_": one}).replace(b"a/data.pk_", b"b/data.pkl")
    yield "two pickles", second
    yield "a program", archive(one, {"constants.pkl": one})
    yield "another byte order", archive(one, {"byteorder": b"middle"})
    empty = io.BytesIO()
    zipfile.ZipFile(empty, "w").close()
    yield "an empty archive", empty.getvalue()
    whole = archive(tensor_pickle(), SIXTEEN)
    entry = whole.index(b"PK\x01\x02")
    last = whole.rindex(b"PK\x01\x02")
    end = whole.rindex(b"PK\x05\x06")

    def patched(place: int, content: bytes) -> bytes:
        return whole[:place] + content + whole[place + len(content) :]

    fields = {
        "encrypted": (8, b"\x01\x00"), "a method": (10, b"\x08\x00"),
        "a checksum": (16, b"\x00" * 4), "a packed size": (20, b"\xff" * 4),
        "a size": (24, b"\xfe\xff\xff\xff"), "a short size": (24, b"\x01"),
        "a long size": (24, b"\xff" * 4), "a name's length": (28, b"\xff\xff"),
        "an extra": (30, b"\xff\xff"), "a place": (42, b"\xff\xff\xff\x7f"),
        "another place": (42, b"\x00\x00\x00\x00"), "a name": (46, b"b"),
    }  # fmt: skip
    for name, (place, content) in fields.items():
        yield f"a directory with {name} of its own", patched(last + place, content)
    for name, place, content in (
        ("records without end", 8, b"\xff\xff\xff\xff"), ("a long directory", 12, b"\xff" * 4),
        ("a directory elsewhere", 16, b"\x00" * 4), ("a comment", 20, b"\x10\x00"),
        ("another disk", 4, b"\x01\x00"),
    ):  # fmt: skip
        yield f"an end with {name}", patched(end + place, content)
    yield "a header of another record", patched(30, b"b")
    yield "something in front", b"#!/bin/sh\n" + whole
    yield "something behind", whole + b"#!/bin/sh\n"
    # Twice the same record under two names: the second entry points to the first's header.
    doubled = whole[entry:last] + whole[last:end].replace(b"data/0", b"data/1")
    count = struct.pack("<HHLL", 4, 4, end - entry + end - last, entry)
    twins = whole[:end] + doubled[last - entry :] + whole[end : end + 8] + count + b"\x00\x00"
    yield "overlapping records", twins
    record = whole[last:end]
    again = struct.pack("<HHLL", 4, 4, end - entry + len(record), entry)
    yield "a record twice", whole[:end] + record + whole[end : end + 8] + again + b"\x00\x00"
    crowd = io.BytesIO()
    with zipfile.ZipFile(crowd, "w") as made:
        for name in range(3000):
            made.writestr(f"a/{name}", b"")
    yield "many records and no pickle", crowd.getvalue()
    yield "the old format", pickle.dumps(0x1950A86A20F9469CFC6C, 2) + one
    yield "nothing", b""
    yield "noise", random.Random(5).randbytes(5000)


def damaged(whole: bytes, count: int, seed: int = 3) -> Iterator[tuple[str, bytes]]:
    """Cut files."""
    chance = random.Random(seed)
    for _ in range(count):
        end = chance.randrange(len(whole))
        yield f"cut at {end} of {len(whole)}", whole[:end]


def flipped(whole: bytes, count: int, seed: int = 4) -> Iterator[tuple[str, bytes]]:
    """Files with one bit changed; where nothing depends on it they may still be read."""
    chance = random.Random(seed)
    for _ in range(count):
        bit = chance.randrange(8 * len(whole))
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit % 8} of byte {bit // 8}", bytes(content)


def checkpoints() -> Iterator[tuple[str, bytes]]:
    """All that end in an error, in the format of checkpoints."""
    for name, pickled in (*codes(), *bombs()):
        yield name, archive(pickled, SIXTEEN)
    yield from tensors()
    yield from archives()


def safetensors(whole: bytes) -> Iterator[tuple[str, bytes]]:
    """The same in the format of safetensors."""

    def file(header: object, data: bytes = b"") -> bytes:
        content = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(content)) + content + data

    def entry(begin: int, end: int, shape: tuple = (2,), dtype: str = "F32") -> dict:
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    data = bytes(16)
    yield "no header", b""
    yield "a header without end", struct.pack("<Q", 2**63) + whole[8:]
    yield "nested without end", file(b"[" * 100_000)
    yield "no names", file([1, 2], data)
    yield "overlapping tensors", file({"a": entry(0, 8), "b": entry(4, 12)}, data[:12])
    yield "a hole", file({"a": entry(0, 8), "b": entry(12, 16, (1,))}, data)
    yield "outside", file({"a": entry(0, 8), "b": entry(8, 2**40, (2**38 - 2,))}, data)
    yield "negative offsets", file({"a": entry(-8, 0)}, data)
    yield "backwards", file({"a": entry(8, 0)}, data[:8])
    yield "another shape", file({"a": entry(0, 8, (3,))}, data[:8])
    yield "a shape beyond a word", file({"a": entry(0, 8, (2**40, 2**40))}, data[:8])
    yield "an unknown type", file({"a": entry(0, 8, dtype="OBJECT")}, data[:8])
    yield "no booleans", file({"a": entry(0, 2, dtype="BOOL")}, b"\x07\x01")
    yield "more than is named", file({"a": entry(0, 8)}, data)
    yield from damaged(whole, 8)
