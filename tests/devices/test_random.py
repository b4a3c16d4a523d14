"""Random numbers are the same on every device, whatever loop they are drawn in."""

from __future__ import annotations

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import dtypes
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis, of_atom
from lazytorch.ir.kernel import RowBody, Store
from lazytorch.ir.segments import MOST_SEGMENTS, segments
from lazytorch.ops.philox import philox_bits
from tests.graphs import DEVICES as PLACES

DEVICES = [name for name in PLACES if "/" not in name]
SEED = (1 << 62) + 77


def uniforms(offset: int, *shape: int) -> np.ndarray:
    return (philox_bits(SEED, offset, shape) >> 8).astype(np.float32) * np.float32(2.0**-24)


def start(blocks: int = 0) -> None:
    """The stream of SEED, ``blocks`` blocks of four further on."""
    torch.manual_seed(SEED)
    torch.rand(4 * blocks)


def test_bits_from_any_element_on() -> None:
    for first in (0, 1, 6, 8192 * 4 - 1):
        whole = philox_bits(SEED, (1 << 32) - 5, (first + 70000,))
        assert (philox_bits(SEED, (1 << 32) - 5, (70000,), first) == whole[first:]).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(1,), (31,), (5000,), (70001,), (40, 36), (0, 5)])
def test_uniform(device: str, shape: tuple[int, ...]) -> None:
    start(3)
    assert (torch.rand(*shape, device=device).cpu().numpy() == uniforms(3, *shape)).all()


@pytest.mark.parametrize("device", DEVICES)
def test_integers_and_probabilities(device: str) -> None:
    start()
    drawn = torch.randint(-5, 12, (4003,), device=device).cpu().numpy()
    bits = philox_bits(SEED, 0, (4003,)).astype(np.int64)
    assert (drawn == ((bits * 17) >> 32) - 5).all()
    start()
    chance = torch.linspace(0, 1, 4003, device=device)
    drawn = torch.bernoulli(chance).cpu().numpy()
    assert (drawn == (uniforms(0, 4003) < chance.cpu().numpy())).all()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(7,), (65,), (4104,), (99, 300), (0,)])
def test_normal(device: str, shape: tuple[int, ...]) -> None:
    start(1)
    count = int(np.prod(shape))
    half = (count + 1) // 2
    first, second = uniforms(1, 2, half).astype(np.float64)
    radius = np.sqrt(-2 * np.log(1 - first))
    angle = 2 * np.pi * second
    wanted = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    found = torch.randn(*shape, device=device).cpu().numpy()
    assert np.allclose(found.reshape(-1), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(9, 260), (9, 250)])
def test_drawn_beside_a_reduction(device: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    for dim in (0, 1):
        start()
        t = torch.tensor(x, device=device)
        kept = torch.rand(*shape, device=device) >= 0.4
        found = torch.where(kept, torch.softmax(t, dim), -1).cpu().numpy()
        assert ((found >= 0) == (uniforms(0, *shape) >= np.float32(0.4))).all()
        start()
        summed = (torch.rand(*shape, device=device) * t).sum(dim).cpu().numpy()
        assert np.allclose(summed, (uniforms(0, *shape) * x).sum(dim), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_dropout_and_its_gradient_use_one_mask(device: str) -> None:
    x = torch.ones(6421, device=device, requires_grad=True)
    start()
    out = torch.nn.functional.dropout(x * 3, 0.25)
    out.sum().backward()
    kept = uniforms(0, 6421) >= np.float32(0.25)
    assert np.allclose(out.detach().cpu().numpy(), np.where(kept, 4, 0))
    assert np.allclose(x.grad.cpu().numpy(), np.where(kept, 4, 0))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("widths", [(16, 48), (64, 65, 64), (1, 2, 3, 4, 5), (33, 0, 31)])
@pytest.mark.parametrize("dim", [0, 1])
def test_pieces_side_by_side(device: str, widths: tuple[int, ...], dim: int) -> None:
    rng = np.random.default_rng(1)
    pieces = [rng.standard_normal((w, 18) if dim == 0 else (18, w)).astype("f4") for w in widths]
    tensors = [torch.tensor(piece, device=device) * 2 for piece in pieces]
    found = torch.flip(torch.exp(torch.cat(tensors, dim)), (dim,)).cpu().numpy()
    wanted = np.flip(np.exp(2 * np.concatenate(pieces, dim)), dim)
    assert np.allclose(found, wanted, rtol=1e-5)


def choice(edges: list[int], size: int, factor: int = 1) -> RowBody:
    """A map that stores the number of the piece that an element lies in."""
    row = Axis(size)
    value = ex.constant(0, dtypes.float32)
    for number, edge in enumerate(edges, 1):
        place = of_atom(row) * factor
        value = ex.choose(
            (ex.Condition(place, edge, 1 << 30),), ex.constant(number, dtypes.float32), value
        )
    return RowBody((row,), (Store(0, of_atom(row), value),))


def test_segments_have_one_value_each() -> None:
    parts = segments(choice([10, 25], 60))
    assert [(part.rows[0].size, part.stages[0].value.data) for part in parts] == [
        (10, 0), (15, 1), (35, 2)
    ]  # fmt: skip
    assert [part.stores()[0].index.low for part in parts] == [0, 10, 25]
    # Halfway between two multiples the edge is the next position.
    assert [part.rows[0].size for part in segments(choice([21], 60, 2))] == [11, 49]
    many = choice(list(range(1, MOST_SEGMENTS + 1)), 60)
    assert segments(many) == [many]
