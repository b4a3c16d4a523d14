"""Fifty generated state dicts to PyTorch and back, bit for bit, and its optimizers' states."""

from __future__ import annotations

import io
import random
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import nn
from lazytorch.tensor.attach import functions

reference = pytest.importorskip("torch")

DTYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool",
    "uint16", "uint32", "uint64", "complex64", "complex128",
)  # fmt: skip
SHAPES = ((), (0,), (3, 0, 2), (1,), (7,), (4, 5), (2, 3, 4), (1, 6, 1, 2))


def raw_of(tensor: Any) -> bytes:
    """A tensor's elements in order, of either library."""
    if isinstance(tensor, torch.Tensor):
        array = np.ascontiguousarray(functions.peek(tensor.detach()))
        return array.reshape(-1).view(np.uint8).tobytes()
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return plain.view(reference.uint8).numpy().tobytes() if plain.numel() else b""


def kind_of(tensor: Any) -> tuple:
    return (
        str(tensor.dtype), tuple(tensor.shape), tensor.stride(), tensor.storage_offset(),
        tensor.requires_grad, isinstance(tensor, (nn.Parameter, reference.nn.Parameter)),
    )  # fmt: skip


def same(mine: Any, theirs: Any, storages: dict[Any, Any]) -> None:
    """Equal in structure, types, strides, bits, and in which tensors share memory."""
    if isinstance(mine, (torch.Tensor, reference.Tensor)):
        assert kind_of(mine) == kind_of(theirs)
        assert raw_of(mine) == raw_of(theirs)
        if mine.numel():
            storage = mine.untyped_storage(), theirs.untyped_storage()
            one, other = (s.data_ptr() if hasattr(s, "data_ptr") else id(s) for s in storage)
            assert storages.setdefault(("one", one), other) == other
            assert storages.setdefault(("other", other), one) == one
        return
    if isinstance(mine, dict):
        assert list(mine) == list(theirs)
        mine, theirs = list(mine.values()), list(theirs.values())
    elif not isinstance(mine, (list, tuple)):
        assert mine == theirs or mine != mine
        return
    assert type(mine) is type(theirs) and len(mine) == len(theirs)
    for one, other in zip(mine, theirs):
        same(one, other, storages)


def views(base: Any, chance: random.Random) -> Iterator[Any]:
    """A tensor of PyTorch's and some that show parts of it."""
    yield base
    if base.dim() >= 2:
        yield base.transpose(0, 1)
        yield base[:, ::2]
        yield base[-1:].expand(3, *base.shape[1:])
    if base.dim() and base.shape[0] > 1:
        yield base[chance.randrange(base.shape[0])]
        yield base[1:]


def generated(seed: int) -> Any:
    """A state dict of PyTorch's, different for every seed."""
    chance = random.Random(seed)
    numbers = np.random.default_rng(seed)
    state: Any = OrderedDict()
    for place in range(chance.randrange(3, 9)):
        dtype = getattr(reference, DTYPES[(5 * seed + place) % len(DTYPES)])
        shape = chance.choice(SHAPES)
        base = reference.from_numpy(numbers.integers(0, 2, (*shape, 16), np.uint8))
        if dtype is not reference.bool:
            base = reference.from_numpy(numbers.integers(0, 256, (*shape, 16), np.uint8))
        base = base.reshape(-1).view(dtype)[: base[..., 0].numel()].reshape(shape)
        tensors = list(views(base, chance))
        state[f"layer.{place}.weight"] = base
        others = chance.sample(tensors, min(2, len(tensors)))
        state[f"layer.{place}.views"] = others[0] if chance.random() < 0.3 else tuple(others)
        if dtype.is_floating_point:
            state[f"layer.{place}.bias"] = reference.nn.Parameter(
                base.clone(), chance.random() < 0.5
            )
    state["nested"] = [{"lr": 0.1 * seed, "betas": (0.9, 0.999), "ids": list(range(seed))}, None]
    state["texts"] = {"ü": b"\x00\xff", 3: True, (1, "a"): -(2**70), "n": float("nan")}
    state._metadata = {"": {"version": seed}}
    return state


def test_fifty_state_dicts_travel_both_ways(tmp_path: Path) -> None:
    for seed in range(50):
        theirs = generated(seed)
        reference.save(theirs, tmp_path / "theirs.pt")
        mine = torch.load(tmp_path / "theirs.pt", mmap=seed % 2 == 0, map_location="numpy")
        same(mine, theirs, {})
        assert type(mine) is OrderedDict and mine._metadata == theirs._metadata
        torch.save(mine, tmp_path / "mine.pt")
        back = reference.load(tmp_path / "mine.pt", weights_only=True, mmap=seed % 2 == 1)
        same(mine, back, {})
        assert back._metadata == theirs._metadata


def test_states_of_every_optimizer(tmp_path: Path) -> None:
    """PyTorch's state of an optimizer after two steps, read here and given back by ours."""
    kinds = [
        kind for kind in vars(reference.optim).values()
        if isinstance(kind, type) and kind is not reference.optim.Optimizer
        and kind.__name__ not in ("SparseAdam", "LBFGS")
    ]  # fmt: skip
    assert len(kinds) >= 12
    for kind in kinds:
        theirs = reference.nn.Linear(3, 2, bias=kind.__name__ != "Muon")
        optimizer = kind([{"params": [p]} for p in theirs.parameters()], lr=0.01)
        for _ in range(2):
            theirs(reference.ones(1, 3)).sum().backward()
            optimizer.step()
        reference.save(optimizer.state_dict(), tmp_path / "o.pt")
        state = torch.load(tmp_path / "o.pt", map_location="numpy")
        same(state, optimizer.state_dict(), {})
        with torch.device("numpy"):
            mine = nn.Linear(3, 2, bias=kind.__name__ != "Muon")
        ours = getattr(torch.optim, kind.__name__)([{"params": [p]} for p in mine.parameters()])
        ours.load_state_dict(state)
        torch.save(ours.state_dict(), tmp_path / "o.pt")
        back = reference.load(tmp_path / "o.pt", weights_only=True)
        assert set(back["state"]) == set(state["state"])
        optimizer.load_state_dict(back)
        same(state["state"], optimizer.state_dict()["state"], {})


def test_what_pytorch_writes_besides() -> None:
    stream = io.BytesIO()
    written = {
        "conjugated": reference.tensor([1 + 2j, 3 - 1j]).conj(),
        "negative": reference.tensor([1 + 2j]).conj().imag,
        "array": bytearray(b"\x01\x80"), "size": reference.Size([2]), "dtype": reference.bfloat16,
    }  # fmt: skip
    reference.save(written, stream)
    stream.seek(0)
    found = torch.load(stream)
    assert found["conjugated"].tolist() == [1 - 2j, 3 + 1j]
    assert found["negative"].tolist() == [-2.0]
    assert found["array"] == b"\x01\x80" and type(found["array"]) is bytearray
    assert found["size"] == torch.Size([2]) and found["dtype"] is torch.bfloat16


def saved(value: Any, **options: Any) -> io.BytesIO:
    stream = io.BytesIO()
    reference.save(value, stream, **options)
    stream.seek(0)
    return stream


def test_what_is_refused_says_what_to_do() -> None:
    for stream, text in (
        (saved(reference.nn.Linear(1, 1)), r"torch.nn.modules.linear.Linear.*its state_dict\(\)"),
        (saved({}, _use_new_zipfile_serialization=False), "old format.*save it again"),
        (saved([np.float64(1)]), r"numpy.*\.item\(\)"),
        (saved(reference.eye(2).to_sparse()), "_rebuild_sparse_tensor"),
    ):
        with pytest.raises(torch.serialization.CheckpointError, match=text):
            torch.load(stream)


def test_big_endian_files() -> None:
    """Made of one of ours: bytes swapped, and said so."""
    stream = io.BytesIO()
    values = {
        "f": torch.tensor([1.5, -2.0]),
        "c": torch.tensor([1 + 2j]),
        "b": torch.tensor([7, 8]),
    }
    torch.save(values, stream)
    turned = io.BytesIO()
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(turned, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if "/data/" in name:
                size = {"0": 4, "1": 4, "2": 8}[name[-1]]
                content = np.frombuffer(content, f"<u{size}").astype(f">u{size}").tobytes()
            new.writestr(name, b"big" if name.endswith("byteorder") else content)
    turned.seek(0)
    back = torch.load(turned)
    assert {name: tensor.tolist() for name, tensor in back.items()} == {
        name: tensor.tolist() for name, tensor in values.items()
    }
