"""Files both ways with PyTorch, and what is refused."""

from __future__ import annotations

import io
import os
import pickle
import stat
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import nn
from lazytorch.serialization import CheckpointError
from lazytorch.tensor.attach import functions

DTYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8",
    "bool", "uint16", "uint32", "uint64",
)  # fmt: skip


def everything() -> dict:
    base = torch.tensor(np.arange(12, dtype=np.float32).reshape(3, 4))
    content = {
        "base": base,
        "transposed": base.t(),
        "strided": base[1:, ::2],
        "again": base,
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(3.5),
        "parameter": nn.Parameter(torch.ones(2)),
        "frozen": nn.Parameter(torch.ones(2), requires_grad=False),
        "numbers": [None, True, 3, -5, 2**70, 1.5, 1j],
        "texts": ("é", b"\x00\xff", "", ()),
        "containers": OrderedDict(a={1, 2}, b=Counter({1: 2}), c=[1, [2, (3,)]]),
        "types": [torch.float32, torch.Size([2, 3]), torch.device("cpu")],
    }
    for name in DTYPES:
        content[name] = torch.tensor(np.array([1, 0, 3])).to(getattr(torch, name))
    return content


def same(mine, other) -> None:
    if isinstance(mine, torch.Tensor):
        assert type(mine) is type(other) and mine.dtype is other.dtype
        assert mine.shape == other.shape and mine.requires_grad == other.requires_grad
        assert np.array_equal(functions.peek(mine.detach()), functions.peek(other.detach()))
    elif isinstance(mine, dict):
        assert list(mine) == list(other) and type(mine) is type(other)
        for key in mine:
            same(mine[key], other[key])
    else:
        assert mine == other and type(mine) is type(other)


def test_round_trip(tmp_path: Path) -> None:
    content = everything()
    torch.save(content, tmp_path / "x.pt")
    back = torch.load(tmp_path / "x.pt")
    same(content, back)
    assert back["again"] is back["base"]
    back["base"][0, 0] = 99
    assert back["transposed"][0, 0].item() == 99


def test_pytorch_reads_and_writes_the_same(tmp_path: Path) -> None:
    reference = pytest.importorskip("torch")
    content = everything()
    torch.save(content, tmp_path / "mine.pt")
    theirs = reference.load(tmp_path / "mine.pt", weights_only=True)
    assert theirs["transposed"].data_ptr() == theirs["base"].data_ptr()
    assert isinstance(theirs["parameter"], reference.nn.Parameter)
    reference.load(tmp_path / "mine.pt", weights_only=True, mmap=True)
    reference.save(theirs, tmp_path / "theirs.pt")
    same(content, torch.load(tmp_path / "theirs.pt"))


def test_state_dicts_travel(tmp_path: Path) -> None:
    reference = pytest.importorskip("torch")
    theirs = reference.nn.Sequential(reference.nn.Conv2d(1, 2, 3), reference.nn.BatchNorm2d(2))
    reference.save(theirs.state_dict(), tmp_path / "m.pt")
    mine = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    state = torch.load(tmp_path / "m.pt")
    assert state._metadata["1"] == {"version": 2}
    mine.load_state_dict(state)
    torch.save(mine.state_dict(), tmp_path / "back.pt")
    theirs.load_state_dict(reference.load(tmp_path / "back.pt"))


def test_alignment_and_file_objects(tmp_path: Path) -> None:
    torch.save(everything(), tmp_path / "x.pt")
    raw = (tmp_path / "x.pt").read_bytes()
    for entry in zipfile.ZipFile(tmp_path / "x.pt").infolist():
        begin = entry.header_offset
        name, extra = raw[begin + 26] + 256 * raw[begin + 27], raw[begin + 28]
        assert (begin + 30 + name + extra) % 64 == 0
    buffer = io.BytesIO()
    torch.save([1, torch.ones(2)], buffer)
    buffer.seek(0)
    assert torch.load(buffer)[1].tolist() == [1.0, 1.0]


def test_map_location(tmp_path: Path) -> None:
    torch.save(torch.ones(2), tmp_path / "x.pt")
    seen = []

    def place(storage, location):
        seen.append((tuple(storage.shape), location))
        return storage

    for where in ("cpu", torch.device("cpu"), {"cpu": "numpy"}, place, None):
        assert torch.load(tmp_path / "x.pt", map_location=where).tolist() == [1.0, 1.0]
    assert torch.load(tmp_path / "x.pt", map_location={"cpu": "numpy"}).device.type == "numpy"
    assert seen == [((2,), "cpu")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (nn.Linear(1, 1), r"state_dict\(\), not a model"),
        ({"a": [np.float64(1.0)]}, r"cannot save \['a'\]\[0\]: it is a numpy.float64"),
        (np.ones(2), "convert NumPy values"),
        (print, "builtin"),
    ],
)
def test_what_is_not_saved(value, text: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=text):
        torch.save(value, tmp_path / "x.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x.pt"
    torch.save(torch.ones(1), path)
    os.chmod(path, 0o640)
    torch.save(torch.full((1,), 2.0), path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640

    def fail(number: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        torch.save(torch.full((1,), 3.0), path)
    monkeypatch.undo()
    assert torch.load(path).item() == 2.0 and list(tmp_path.iterdir()) == [path]


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/should-not-exist",)


def archive(pickled: bytes, records: dict[str, bytes] | None = None) -> io.BytesIO:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr("a/data.pkl", pickled)
        made.writestr("a/version", b"3\n")
        for name, content in (records or {}).items():
            made.writestr(f"a/{name}", content)
    stream.seek(0)
    return stream


def tensor_pickle(numel=4, offset=0, size=(2, 2), stride=(2, 1), key="0") -> bytes:
    def number(value: int) -> bytes:
        return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)

    def numbers(values: tuple) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu")
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(numel) + b"tQ"
        + number(offset) + numbers(size) + numbers(stride)
        + b"\x89ccollections\nOrderedDict\n)RtR."
    )  # fmt: skip


SIXTEEN = {"data/0": b"\x00" * 16}


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        (io.BytesIO(b"hello"), "no zip archive"),
        (io.BytesIO(b""), "no zip archive"),
        (io.BytesIO(pickle.dumps(3)), "old format"),
        (archive(pickle.dumps(Evil(), 2)), "asks for posix.system"),
        (archive(b"\x80\x02cbuiltins\neval\n."), "asks for builtins.eval"),
        (archive(b"\x80\x02cos\nsystem\n."), "asks for os.system"),
        (archive(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n."), "bare class, function"),
        (archive(b"\x80\x02ctorch\nFloatStorage\n."), "bare class, function"),
        (archive(b"\x80\x02]q\x00h\x05."), "not there"),
        (archive(b"\x80\x02(K\x01."), "ends too early|leaves values"),
        (archive(b"\x80\x02K\x01)R."), "no known function"),
        (archive(b"\x80\x02}]K\x01s."), "key of type list"),
        (archive(b"\x80\x02}K\x01b."), "fills something"),
        (archive(b"\x80\x02i__main__\nx\n."), "pickle operation INST|damaged"),
        (archive(b"\x80\x02\x82\x01."), "pickle operation EXT1"),
        (archive(b"garbage"), "damaged|refused"),
        (archive(tensor_pickle(), SIXTEEN), None),
        (archive(tensor_pickle()), "lacks the record"),
        (archive(tensor_pickle(numel=5), SIXTEEN), "16 bytes where 5 elements"),
        (archive(tensor_pickle(offset=1), SIXTEEN), "does not fit"),
        (archive(tensor_pickle(offset=-1), SIXTEEN), "cannot be"),
        (archive(tensor_pickle(stride=(2**61, 1)), SIXTEEN), "does not fit"),
        (archive(tensor_pickle(stride=(-2, 1)), SIXTEEN), "shape or strides"),
        (archive(tensor_pickle(size=(2**40, 2**40), stride=(0, 0)), SIXTEEN), "does not fit"),
        (archive(tensor_pickle(size=(2,)), SIXTEEN), "cannot be"),
        (archive(tensor_pickle(key="../../etc/passwd"), SIXTEEN), "lacks the record"),
    ],
)
def test_hostile_files(stream: io.BytesIO, text: str | None) -> None:
    stream.seek(0)
    if text is None:
        assert torch.load(stream).tolist() == [[0.0, 0.0], [0.0, 0.0]]
        return
    with pytest.raises(CheckpointError, match=text):
        torch.load(stream)


def test_archives_that_lie() -> None:
    doubled = io.BytesIO()
    with zipfile.ZipFile(doubled, "w") as made, pytest.warns(UserWarning, match="Duplicate"):
        made.writestr("a/data.pkl", b"\x80\x02K\x01.")
        made.writestr("a/data.pkl", b"\x80\x02K\x02.")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a/data.pkl", b"\x80\x02K\x01." + b"\x00" * 9999)
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as made:
        made.writestr("readme.txt", b"hello")
    for stream, text in (
        (doubled, "twice"),
        (packed, "more bytes|compressed"),
        (other, "data.pkl"),
    ):
        stream.seek(0)
        with pytest.raises(CheckpointError, match=text):
            torch.load(stream)


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(4), "n": 1}, tmp_path / "x.pt")
    raw = (tmp_path / "x.pt").read_bytes()
    for end in range(0, len(raw) - 1, 7):
        with pytest.raises(CheckpointError):
            torch.load(io.BytesIO(raw[:end]))


def test_refused_options(tmp_path: Path) -> None:
    torch.save(1, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="weights_only=False"):
        torch.load(tmp_path / "x.pt", weights_only=False)
    with pytest.raises(CheckpointError, match="pickle_module"):
        torch.load(tmp_path / "x.pt", pickle_module=pickle)
    with pytest.raises(FileNotFoundError):
        torch.load(tmp_path / "missing.pt")
    with pytest.raises(TypeError):
        torch.load(3)
    with pytest.raises(NotImplementedError):
        torch.save(1, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
