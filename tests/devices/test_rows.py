"""Reductions and layouts whose loops take another form by size: against NumPy, on every device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import dtypes
from lazytorch.codegen import render
from lazytorch.codegen.target import Target
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis, of_atom
from lazytorch.ir.kernel import Kernel, RowBody, Store
from lazytorch.schedule import choices
from tests.graphs import DEVICES as PLACES

DEVICES = [name for name in PLACES if "/" not in name]


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape) + sum(shape)).standard_normal(shape).astype(np.float32)


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "shape",
    [(70, 128), (71, 129), (16, 64), (5, 67, 100), (3000, 40), (700, 1, 1100), (0, 64), (64, 0)],
)
def test_column_reductions(device: str, shape: tuple[int, ...]) -> None:
    x = values(*shape)
    t = torch.tensor(x, device=device)
    leading = tuple(range(len(shape) - 1))
    total = x.astype(np.float64).sum(leading)
    found = t.sum(leading).cpu().numpy()
    assert np.allclose(found, total, rtol=1e-4, atol=1e-3)
    if 0 not in shape:
        assert (t.amax(leading).cpu().numpy() == x.max(leading)).all()
        spread = t.std(leading, correction=0).cpu().numpy()
        assert np.allclose(spread, x.astype(np.float64).std(leading), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(33, 65), (130, 40), (4096, 32), (3, 19, 48)])
def test_softmax_over_columns(device: str, shape: tuple[int, ...]) -> None:
    x = values(*shape)
    found = torch.softmax(torch.tensor(x, device=device), len(shape) - 2).cpu().numpy()
    assert np.allclose(found, softmax(x, len(shape) - 2), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("device", DEVICES)
def test_column_reductions_of_other_types_and_layouts(device: str) -> None:
    x = values(90, 200)
    wide = torch.tensor(x, device=device)
    part = wide[3:80, 7:150]
    assert np.allclose(part.sum(0).cpu().numpy(), x[3:80, 7:150].sum(0), atol=1e-4)
    assert np.allclose(wide.t().sum(1).cpu().numpy(), x.sum(0), atol=1e-4)
    half = wide.half()
    reference = x.astype(np.float16).astype(np.float64).sum(0)
    assert np.allclose(half.sum(0).cpu().numpy(), reference, rtol=2e-3, atol=2e-3)
    whole = torch.tensor((x * 100).astype(np.int64), device=device)
    assert (whole.sum(0).cpu().numpy() == (x * 100).astype(np.int64).sum(0)).all()
    assert ((wide > 0).any(0).cpu().numpy() == (x > 0).any(0)).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("shape", "order"),
    [
        ((64, 32), (1, 0)), ((70, 35), (1, 0)), ((300, 17), (1, 0)), ((2, 33, 40), (0, 2, 1)),
        ((2, 19, 6, 7), (0, 2, 3, 1)), ((2, 6, 7, 19), (0, 3, 1, 2)),
        ((3, 20, 4, 24), (0, 2, 1, 3)), ((18, 3, 21), (2, 1, 0)),
        ((0, 20), (1, 0)), ((513, 1100), (1, 0)),
    ],
)  # fmt: skip
def test_transposes(device: str, shape: tuple[int, ...], order: tuple[int, ...]) -> None:
    x = values(*shape)
    t = torch.tensor(x, device=device)
    moved = np.ascontiguousarray(x.transpose(order))
    assert (t.permute(order).contiguous().cpu().numpy() == moved).all()
    # A second operand, read in the order in which the result lies, and one more that is turned.
    other = torch.tensor(moved, device=device)
    found = (t.permute(order) * 2 + other - (t + 1).permute(order)).cpu().numpy()
    assert np.allclose(found, moved * 2 + moved - (moved + 1), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["float16", "bfloat16", "float64", "int64", "uint8", "bool"])
def test_transposes_of_other_types(device: str, name: str) -> None:
    x = values(37, 50)
    t = torch.tensor(x, device=device) * 3
    t = (t > 0) if name == "bool" else t.abs().to(getattr(torch, name))
    found = t.t().contiguous().float().cpu().numpy()
    assert (found == t.float().cpu().numpy().T).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(8, 64), (7, 101), (3, 5, 33)])
def test_large_arrays_are_written_past_the_caches(
    device: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Rows of odd length begin at addresses that such a store must not be given.
    monkeypatch.setattr(choices, "STREAM_BYTES", 1)
    x = values(*shape)
    t = torch.tensor(x, device=device)
    # The factor makes graphs that no other test has finished a plan for.
    assert np.allclose((t * 1.0625 + 3).cpu().numpy(), x * np.float32(1.0625) + 3, atol=1e-6)
    found = torch.softmax(t * 1.0625, -1).cpu().numpy()
    assert np.allclose(found, softmax(x * np.float32(1.0625), -1), rtol=1e-5, atol=1e-7)
    double = (t.double() + 1.25).cpu().numpy()
    assert (double == x.astype(np.float64) + 1.25).all()
    joined = torch.cat([t.reshape(-1)[3:], t.reshape(-1)]).cpu().numpy()
    assert (joined == np.concatenate([x.reshape(-1)[3:], x.reshape(-1)])).all()


@pytest.mark.parametrize(("elements", "streamed"), [(1 << 20, False), (1 << 22, True)])
def test_only_large_arrays_are_streamed(elements: int, streamed: bool) -> None:
    axis = Axis(elements)
    load = ex.load(0, of_atom(axis), (), dtypes.float32)
    body = RowBody((axis,), (Store(1, of_atom(axis), load),))
    kernel = Kernel((body,), {0: dtypes.float32, 1: dtypes.float32})
    source = render.render(kernel, Target(vector_width=16), "copy")
    assert ("lt_stream" in source.text) is streamed


@pytest.mark.parametrize("device", DEVICES)
def test_what_has_no_elements_beside_what_has_some(device: str) -> None:
    """A normalization of no rows, and the sums over them, in one graph."""
    x = torch.ones(0, 5, 9, device=device)
    mean, square = x.sum((0, 2), keepdim=True), (x * x).sum((0, 2), keepdim=True)
    scaled = (x - mean) * (square + 1).rsqrt()
    assert scaled.tolist() == []
    assert mean.flatten().tolist() == [0] * 5 == square.flatten().tolist()


@pytest.mark.parametrize("device", DEVICES)
def test_a_gradient_of_no_elements(device: str) -> None:
    """Its scatter has nothing to write, and no place to write it to."""
    x = torch.zeros(0, device=device, requires_grad=True)
    taken = x.take(torch.zeros(0, dtype=torch.int64, device=device))
    (taken * torch.ones(0, device=device)).sum().backward()
    assert x.grad.tolist() == []


def negated_selections(where: Any, x: Any, y: Any, mask: Any) -> list[Any]:
    chosen, signs = where(mask, x, 0), where(mask, 2, -1)
    moved = chosen * (x + 3)
    return [
        -(moved + moved),
        chosen * chosen * -2,
        where(mask, 3, 0) * (x - 1) * -2,
        -where(x > y, x + x, -signs),
    ]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64])
def test_sums_of_negated_selections(device: str, dtype: type) -> None:
    """A compiler may make subtractions of them, and then mistake how partial sums are joined."""
    for rows, columns in ((25, 5), (100, 5)):
        drawn = np.random.default_rng(rows).normal(size=(2, rows, columns)) * 9
        arrays = [*drawn.astype(dtype), np.arange(columns) % 3 != 2]
        tensors = [torch.tensor(array, device=device) for array in arrays]
        wanted = [form.sum() for form in negated_selections(np.where, *arrays)]
        found = [form.sum() for form in negated_selections(torch.where, *tensors)]
        for number, total in zip(wanted, found, strict=True):
            assert np.allclose(total.cpu().numpy(), number, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_and_products_of_selected_functions(device: str, dtype: type) -> None:
    """A compiler may call the function under a condition only, and has crashed over that."""
    x = (values(25, 5) / 9).astype(dtype)
    mask = np.arange(5) % 3 != 2
    t, m = torch.tensor(x, device=device), torch.tensor(mask, device=device)
    for chosen, found in (
        (np.where(mask, np.exp(x), 1), torch.where(m, t.exp(), 1)),
        (x - np.where(mask, np.tanh(x), 0), t - torch.where(m, t.tanh(), 0)),
        (np.exp(x) * mask, t.exp() * m),
    ):
        assert np.allclose(found.sum().cpu().numpy(), chosen.sum(), rtol=1e-4)
        assert np.allclose(found.prod().cpu().numpy(), chosen.prod(), rtol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_the_gradient_of_a_masked_deviation_sums_to_zero(device: str) -> None:
    x = torch.tensor(values(5, 5, 5), dtype=torch.float64, device=device, requires_grad=True)
    mask = torch.tensor([True, True, False, True, False], device=device)
    torch.masked.std(x, mask=mask).backward()
    assert x.grad is not None
    assert abs(float(x.grad.sum())) < 1e-12
