"""Tensors beside NumPy, DLPack, buffers, pickles and copies: what PyTorch says, said here too.

Each program is run with both libraries; the last value's text, or the class of the error, must be
the same.
"""

from __future__ import annotations

import os
import pickle
from typing import Any

import numpy as np
import pytest

import lazytorch
from tests.programs import outcome

PROGRAMS = """
np.add(torch.ones(2), 1)
np.sin(torch.ones(2))
np.greater(torch.ones(3), 0)
np.add.reduce(torch.ones(3))
np.maximum(np.ones(2), torch.zeros(2))
np.concatenate([torch.ones(2), torch.zeros(2)])
np.array([torch.tensor(1), torch.tensor(2)])
np.ones(2) + torch.ones(2)
np.ones(2) * torch.ones(2, requires_grad=True)
np.array([2.0, 4.0]) / torch.tensor([1.0, 2.0])
torch.ones(2) + np.ones(2)
torch.ones(2) @ np.ones(2)
np.float64(2) * torch.ones(2)
torch.ones(2) * np.float16(3)
np.ones(2) == torch.ones(2)
torch.ones(2) == np.ones(2)
torch.ones(2) != np.ones(2)
torch.ones(2) < np.ones(2)
torch.ones(2) + "a"
[1.0] * torch.tensor(2)
None - torch.ones(2)
x = torch.ones(2); x += np.ones(2); x
a = np.ones(2); a += torch.ones(2); a
a = np.zeros(2); a[:] = torch.ones(2); a
torch.add(torch.ones(2), np.ones(2))
np.asarray(torch.ones(2), dtype=np.int64)
np.array(torch.ones(2), dtype=np.float64, copy=False)
x = torch.ones(2); a = np.array(x); a[0] = 5; x
x = torch.ones(2); a = np.asarray(x); a[0] = 5; x
torch.tensor(1.0).__array_wrap__(np.array(True))
torch.from_numpy(np.array(["a"]))
torch.from_numpy([1])
torch.from_numpy(np.float32(3))
torch.from_numpy(np.ones(3)[::-1])
torch.from_numpy(np.ones(3, ">f4"))
torch.from_numpy(np.ones((3, 4)).T).stride()
torch.ones(2, dtype=torch.bfloat16).numpy()
torch.ones(2).__dlpack_device__()
x = torch.arange(4.0); y = np.from_dlpack(x); x[0] = 9; y
x = torch.arange(6.0).reshape(2, 3).t(); np.from_dlpack(x).strides
y = np.arange(4.0); x = torch.from_dlpack(y); y[0] = 7; x
x = torch.ones(3); y = torch.from_dlpack(x); y[0] = 4; x
x = torch.ones(3); y = torch.from_dlpack(x, copy=True); y[0] = 4; x
x = torch.ones(3, dtype=torch.bfloat16); y = torch.from_dlpack(x); y[0] = 4; x, y
torch.from_dlpack(torch.tensor([True])), torch.from_dlpack(torch.tensor([1j]))
c = torch.to_dlpack(torch.ones(2)); torch.from_dlpack(c)
c = torch.to_dlpack(torch.ones(2)); torch.from_dlpack(c); torch.from_dlpack(c)
torch.ones(2, requires_grad=True).__dlpack__()
torch.from_dlpack([1, 2])
torch.frombuffer(bytearray(b"abcdef"), dtype=torch.int16, offset=2, count=1)
b = bytearray(8); x = torch.frombuffer(b, dtype=torch.int32); b[4] = 3; x[0] = 1; x, b
torch.frombuffer(bytearray(b"abcde"), dtype=torch.int16)
torch.frombuffer(bytearray(b"abcdef"), dtype=torch.int16, count=9)
torch.frombuffer(bytearray(b"abcdef"), dtype=torch.int16, offset=6)
torch.frombuffer(bytearray(b""), dtype=torch.int16)
torch.frombuffer([1], dtype=torch.int16)
x = torch.ones(2); y = torch.asarray(x, copy=True); y[0] = 3; x
a = np.ones(2); x = torch.asarray(a); a[0] = 3; x
torch.asarray([1.0, 2.0], copy=False)
torch.asarray(bytearray(b"abcd"), dtype=torch.uint8)
x = torch.ones(2); m = copy.deepcopy([x, x[:1]]); m[0][0] = 5; m, x
x = torch.arange(4.0); e = copy.deepcopy({"a": x, "v": x.view(2, 2)}); e["v"][0] = 9; e
x = torch.ones(2); y = copy.copy(x); y[0] = 5; x
x = torch.ones(2, requires_grad=True); x.foo = 3; y = copy.deepcopy(x); y, y.foo
copy.deepcopy(torch.ones(2, requires_grad=True) * 2)
x = torch.arange(6.0).reshape(2, 3).t(); y = pickle.loads(pickle.dumps(x)); y, y.stride()
pickle.loads(pickle.dumps(torch.ones(2, dtype=torch.bfloat16, requires_grad=True)))
x = torch.ones(2); x.foo = 4; pickle.loads(pickle.dumps(x)).foo
pickle.loads(pickle.dumps([torch.Size([1]), torch.device("cuda:1"), torch.float16]))
pickle.loads(pickle.dumps(torch.nn.Parameter(torch.ones(2))))
pickle.loads(pickle.dumps(torch.channels_last)) is torch.channels_last
copy.deepcopy(torch.strided) is torch.strided
pickle.loads(pickle.dumps(torch.Generator().manual_seed(7))).initial_seed()
""".strip().splitlines()


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_ends_as_in_pytorch(program: str) -> None:
    torch = pytest.importorskip("torch")
    assert outcome(lazytorch, program) == outcome(torch, program)


def test_memory_is_shared_without_pytorch(tmp_path: Any) -> None:
    torch = lazytorch
    host = np.arange(4.0)
    shared = torch.from_dlpack(host)
    shared[1] = 8
    assert host[1] == 8
    path = tmp_path / "numbers"
    written = torch.from_file(str(path), shared=True, size=3, dtype=torch.int32)
    written[2] = 7
    del written
    assert os.path.getsize(path) == 12
    assert torch.from_file(path, size=3, dtype=torch.int32).tolist() == [0, 0, 7]
    with pytest.raises(RuntimeError, match="has 12 bytes"):
        torch.from_file(path, size=4, dtype=torch.int32)


def test_views_share_memory_after_pickling() -> None:
    torch = lazytorch
    whole = torch.arange(6.0)
    first, part = pickle.loads(pickle.dumps([whole, whole[2:]]))
    first[3] = 100
    assert part.tolist() == [2, 100, 4, 5] and whole.tolist() == [0, 1, 2, 3, 4, 5]


def test_read_only_memory_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="not writable"):
        lazytorch.frombuffer(b"abcd", dtype=lazytorch.uint8)
