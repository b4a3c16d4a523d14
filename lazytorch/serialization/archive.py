"""A reader for the zip archives that checkpoints are: plain records, checked before they are used.

The standard library's would build an object for everything a file claims and looks at claims
singly. Here a file is refused unless its directory lies at its end, says the same as the headers
beside the data, and names records that do not overlap, are not compressed and not encrypted.
Every record's checksum is verified when it is read. What is kept of a record is its place, so a
file's directory takes less than four times its bytes in memory.
"""

from __future__ import annotations

import io
import mmap
import struct
import zlib
from typing import Any

import numpy as np

from lazytorch.errors import CheckpointError

_MAX_RECORDS = 1 << 20
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = (1 << 16) - 1
_SATURATED = (1 << 32) - 1
_ENCRYPTED = 1

Place = tuple[int, int, int]  # Where a record's data begins, how long it is, its checksum.


class Archive:
    """The records of a checkpoint, all in one folder, by their names in it."""

    def __init__(self, stream: Any, mapped: bool = False) -> None:
        stream = stream if stream.seekable() else io.BytesIO(stream.read())
        self._begin = stream.tell()
        self.size = stream.seek(0, io.SEEK_END) - self._begin
        self._stream = stream
        self._map = None
        if mapped:
            # Written pages are this process's own; the file stays as it is.
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        magic = self._bytes(0, 4)
        if magic != b"PK\x03\x04":
            raise CheckpointError(_not_a_zip(magic))
        self._places: dict[str, Place] = {}
        self._read_directory()
        self._check_local_headers()
        pickles = [
            name for name in self._places if name.count("/") == 1 and name.endswith("/data.pkl")
        ]
        if len(pickles) != 1:
            raise CheckpointError(
                "the zip file holds no data.pkl record in its folder, so it is no checkpoint"
            )
        self._root = pickles[0].removesuffix("data.pkl")

    def holds(self, name: str) -> bool:
        """Whether there is a record of this name."""
        return self._root + name in self._places

    def read(self, name: str) -> bytes:
        """A record's bytes."""
        return self.array(name).tobytes()

    def array(self, name: str) -> np.ndarray:
        """A record's bytes as a writable array, in the mapped file or in memory of its own."""
        if not self.holds(name):
            raise CheckpointError(f"the file lacks the record {name!r}: it is not complete")
        start, length, checksum = self._places[self._root + name]
        if self._map is not None:
            array = np.frombuffer(self._map, np.uint8, length, self._begin + start)
        else:
            array = np.empty(length, np.uint8)
            self._fill(memoryview(array), start)  # type: ignore[arg-type]
        if zlib.crc32(array) != checksum:  # type: ignore[arg-type]
            raise CheckpointError(f"the record {name!r} is damaged: its checksum is another one")
        return array

    # The file -------------------------------------------------------------------------------

    def _fill(self, target: memoryview, start: int) -> None:
        self._stream.seek(self._begin + start)
        done = 0
        while done < len(target):
            # At once where a file can do that; a mere read() makes a second copy.
            if hasattr(self._stream, "readinto"):
                count = self._stream.readinto(target[done:])
            else:
                part = self._stream.read(len(target) - done)
                count = len(part)
                target[done : done + count] = part
            if not count:
                raise CheckpointError("the file ends within a record: it is not complete")
            done += count

    def _bytes(self, start: int, length: int) -> bytes:
        if not 0 <= start <= self.size:
            raise CheckpointError("the file points outside itself: it is damaged")
        self._stream.seek(self._begin + start)
        found: bytes = self._stream.read(min(length, self.size - start))
        return found

    # The directory ---------------------------------------------------------------------------

    def _read_directory(self) -> None:
        """Note for every record where its header is, its length and its checksum."""
        start, length, count = self._directory()
        self._directory_start = start
        raw = self._bytes(start, length)
        position = 0
        for _ in range(count):
            if position + _ENTRY.size > len(raw):
                raise CheckpointError("the file's directory is shorter than it claims")
            fields = _ENTRY.unpack_from(raw, position)
            name_end = position + _ENTRY.size + fields[10]
            end = name_end + fields[11] + fields[12]
            if fields[0] != b"PK\x01\x02" or end > len(raw):
                raise CheckpointError("the file's directory is damaged")
            name = raw[position + _ENTRY.size : name_end].decode()
            if name in self._places:
                raise CheckpointError(f"the file names the record {name!r} twice")
            self._places[name] = _place(name, fields, raw[name_end : name_end + fields[11]])
            position = end
        if position != len(raw):
            raise CheckpointError("the file's directory is longer than it claims")

    def _directory(self) -> tuple[int, int, int]:
        """Where the directory begins, its length and the number of its entries."""
        tail_start = max(0, self.size - _END.size - _LONGEST_COMMENT)
        tail = self._bytes(tail_start, self.size)
        place = tail.rfind(b"PK\x05\x06")
        if place < 0 or place + _END.size > len(tail):
            raise CheckpointError("the file has no end of an archive: it is not complete")
        _, disk, first, here, count, length, start, comment = _END.unpack_from(tail, place)
        end = tail_start + place
        if end + _END.size + comment != self.size or disk or first or here != count:
            raise CheckpointError("the file's end is damaged")
        locator = self._bytes(max(0, end - _LOCATOR.size), _LOCATOR.size)
        if locator[:4] == b"PK\x06\x07":
            _, disk, end64, disks = _LOCATOR.unpack(locator)
            raw = self._bytes(end64, _END64.size)
            if disk or disks != 1 or end64 + _END64.size != end - _LOCATOR.size:
                raise CheckpointError("the file's end is damaged")
            long = _END64.unpack(raw)
            short = (count, length, start)
            limits = (0xFFFF, _SATURATED, _SATURATED)
            for own, full, limit in zip(short, long[7:], limits):
                if own not in (full, limit):
                    raise CheckpointError("the file's end contradicts itself")
            if long[0] != b"PK\x06\x06" or long[6] != long[7]:
                raise CheckpointError("the file's end is damaged")
            count, length, start, end = long[7], long[8], long[9], end64
        if start + length != end:
            raise CheckpointError("the file's directory is not where it should be")
        if count > _MAX_RECORDS:
            raise CheckpointError(f"the file claims {count} records: refused")
        return start, length, count

    def _check_local_headers(self) -> None:
        """Each record's own header must say what the directory says, and none overlap."""
        end = 0
        for name, (start, length, checksum) in sorted(
            self._places.items(), key=lambda item: item[1][0]
        ):
            encoded = name.encode()
            raw = self._bytes(start, _LOCAL.size + len(encoded))
            if len(raw) < _LOCAL.size + len(encoded):
                raise CheckpointError(f"the record {name!r} lies outside the file")
            signature, _, _, method, *_, own_name, extra = _LOCAL.unpack_from(raw)
            same = own_name == len(encoded) and raw[_LOCAL.size :] == encoded
            if signature != b"PK\x03\x04" or method or not same:
                raise CheckpointError(
                    f"the header of the record {name!r} contradicts the directory"
                )
            data = start + _LOCAL.size + own_name + extra
            if start < end:
                raise CheckpointError(f"the record {name!r} overlaps another one")
            end = data + length
            if end > self._directory_start:
                raise CheckpointError(f"the record {name!r} claims more bytes than the file has")
            self._places[name] = (data, length, checksum)


def _place(name: str, fields: tuple[Any, ...], extra: bytes) -> Place:
    """What an entry of the directory says about a record, long sizes taken from its extra part."""
    _, _, _, flags, method, _, _, checksum, packed, length, *_, start = fields
    if method or flags & _ENCRYPTED:
        raise CheckpointError(
            f"the record {name!r} is compressed or encrypted; PyTorch stores records plain"
        )
    long = _long_fields(extra)
    values = []
    for value in (length, packed, start):
        if value == _SATURATED:
            if len(long) < 8:
                raise CheckpointError(f"the sizes of the record {name!r} are missing")
            (value,), long = struct.unpack("<Q", long[:8]), long[8:]
        values.append(value)
    if values[0] != values[1]:
        raise CheckpointError(f"the record {name!r} claims to be longer or shorter than it is")
    return values[2], values[0], checksum


def _long_fields(extra: bytes) -> bytes:
    """The part of an entry's extras that holds 64-bit sizes."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""


def _not_a_zip(magic: bytes) -> str:
    if magic[:1] == b"\x80":
        return (
            "the file is in PyTorch's old format, which is a bare pickle and refused; load it "
            "with PyTorch and save it again"
        )
    return "the file is no zip archive, so it is no checkpoint written by torch.save"
