"""scaled_dot_product_attention on every device, against its formula in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lazytorch
import lazytorch.nn.functional as F
from lazytorch import config, engine
from lazytorch.runtime import get_device
from lazytorch.tensor.storage import node_of
from tests.graphs import DEVICES

attention = F.scaled_dot_product_attention
Arrays = list[np.ndarray]


# Building kernels takes most of the time here: what is common to all devices is shown on NumPy.
@pytest.fixture(params=DEVICES)
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    """A device's name, with kernels of the family that the parameter names."""
    device, _, family = request.param.partition("/")
    with config.override(SCHEDULE_FAMILY=family, PLAN_CACHE=0 if family else 512):
        yield device


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape)


def expected(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, g: np.ndarray, mask: Any = None,
    is_causal: bool = False, scale: float | None = None, factor: Any = 1.0,
) -> Arrays:  # fmt: skip
    """(output, gradients of query, key, value) in float64."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = query @ np.swapaxes(key, -1, -2) * scale
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if is_causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    highest = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isinf(highest), 0, highest))
    total = weights.sum(-1, keepdims=True)
    weights = weights / np.where(total == 0, 1, total)
    through = g @ np.swapaxes(value, -1, -2) * factor
    change = weights * (through - (weights * through).sum(-1, keepdims=True))
    return [
        (weights * factor) @ value, change @ key * scale,
        np.swapaxes(change, -1, -2) @ query * scale, np.swapaxes(weights * factor, -1, -2) @ g,
    ]  # fmt: skip


def computed(
    place: str, arrays: Arrays, g: np.ndarray, dtype: Any, mask: Any, **how: Any
) -> Arrays:
    leaves = [lazytorch.tensor(a, device=place, dtype=dtype, requires_grad=True) for a in arrays]
    given = None
    if mask is not None:
        kind = None if mask.dtype == bool else dtype
        given = lazytorch.tensor(mask, device=place, dtype=kind)
    out = attention(*leaves, given, **how)
    out.backward(lazytorch.tensor(g, device=place, dtype=dtype))
    made = [out.detach(), *(leaf.grad for leaf in leaves)]
    return [t.to(lazytorch.float64).cpu().numpy() for t in made]


def check(
    place: str, lead: tuple[int, ...], sizes: tuple[int, int, int, int], dtype: Any = None,
    mask: Any = None, tolerance: float = 2e-5, **how: Any,
) -> None:  # fmt: skip
    length, keys, inner, columns = sizes
    dtype = dtype or lazytorch.float32
    arrays = [
        lazytorch.tensor(array, dtype=dtype).to(lazytorch.float64).numpy()
        for array in (
            numbers(*lead, length, inner), numbers(*lead, keys, inner, seed=1),
            numbers(*lead, keys, columns, seed=2), numbers(*lead, length, columns, seed=3),
        )
    ]  # fmt: skip
    *arrays, g = arrays
    wanted = expected(*arrays, g, mask, **how)
    made = computed(place, arrays, g, dtype, mask, **how)
    for name, a, b in zip(("output", "query", "key", "value"), made, wanted):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=name)


SHAPES = [
    ((2, 3), (5, 6, 4, 7), True),
    ((3,), (1, 33, 16, 16), False),
    ((2, 2), (127, 127, 24, 40), True),
    ((1, 1), (40, 300, 5, 16), True),
    ((), (70, 20, 16, 3), False),
]


def test_odd_sizes_on_every_device(place: str) -> None:
    check(place, (2, 2), (127, 127, 24, 40), is_causal=True)


def test_keys_of_one_head_are_split_over_work_items() -> None:
    check("cpu", (1, 1), (40, 300, 5, 16), is_causal=True)


@pytest.mark.parametrize(("lead", "sizes", "causal"), SHAPES)
def test_more_shapes(lead: tuple[int, ...], sizes: tuple[int, int, int, int], causal: bool) -> None:
    check("numpy", lead, sizes, is_causal=causal)


@pytest.mark.parametrize(
    ("device", "name", "tolerance"),
    [
        ("numpy", "float64", 1e-12), ("numpy", "float16", 5e-3), ("numpy", "bfloat16", 4e-2),
        ("cpu", "bfloat16", 4e-2),
    ],
)  # fmt: skip
def test_dtypes(device: str, name: str, tolerance: float) -> None:
    dtype = getattr(lazytorch, name)
    check(device, (2, 2), (20, 37, 24, 16), dtype, tolerance=tolerance, is_causal=True)


ALLOWED = numbers(2, 1, 30, 45) > 0
ALLOWED[1, 0, 4] = False


@pytest.mark.parametrize(
    "mask",
    [
        ALLOWED, ALLOWED[0, 0], ALLOWED[:, :, :1], ALLOWED[..., :1], numbers(2, 3, 30, 45),
        numbers(45), np.where(ALLOWED, 0, -np.inf),
    ],
)  # fmt: skip
def test_masks(mask: np.ndarray) -> None:
    check("numpy", (2, 3), (30, 45, 16, 16), mask=mask, scale=0.3)


def test_a_mask_on_every_device(place: str) -> None:
    with config.override(BOUNDS=True):
        check(place, (2, 3), (30, 45, 16, 16), mask=ALLOWED)


def test_views_and_broadcast_operands() -> None:
    place = "numpy"
    joint = numbers(2, 20, 3, 2, 16)
    tensor = lazytorch.tensor(joint, device=place, requires_grad=True)
    q, k, v = tensor.permute(2, 0, 3, 1, 4)
    g = numbers(2, 2, 20, 16)
    out = attention(q, k[:1], v, is_causal=True)
    out.backward(lazytorch.tensor(g, device=place))
    a, b, c = np.transpose(joint, (2, 0, 3, 1, 4))
    wanted = expected(a, np.broadcast_to(b[:1], b.shape), c, g, is_causal=True)
    np.testing.assert_allclose(out.detach().cpu().numpy(), wanted[0], rtol=1e-9, atol=1e-9)
    summed = np.zeros_like(b)
    summed[0] = wanted[2].sum(0)
    gradient = np.transpose(np.stack([wanted[1], summed, wanted[3]]), (1, 3, 0, 2, 4))
    np.testing.assert_allclose(tensor.grad.cpu().numpy(), gradient, rtol=1e-9, atol=1e-9)


def test_fewer_key_heads() -> None:
    place = "numpy"
    q, k, v = numbers(2, 6, 9, 8), numbers(2, 2, 11, 8, seed=1), numbers(2, 3, 11, 8, seed=2)
    g = numbers(2, 6, 9, 8, seed=3)
    made = computed(place, [q, k, v], g, lazytorch.float64, None, enable_gqa=True)
    out, dq, dk, dv = expected(q, k.repeat(3, 1), v.repeat(2, 1), g)
    wanted = [out, dq, dk.reshape(2, 2, 3, 11, 8).sum(2), dv.reshape(2, 3, 2, 11, 8).sum(2)]
    for a, b in zip(made, wanted):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_dropout_drops_the_same_everywhere(place: str) -> None:
    q, k, g = numbers(2, 2, 19, 8), numbers(2, 2, 37, 8, seed=1), numbers(2, 2, 19, 37, seed=3)
    lazytorch.manual_seed(5)
    kept = lazytorch.rand(2, 2, 19, 37).numpy() >= 0.3
    lazytorch.manual_seed(5)
    # With the unit matrix for values the output is the dropped weights themselves.
    v = np.broadcast_to(np.eye(37), (2, 2, 37, 37))
    made = computed(place, [q, k, v], g, lazytorch.float64, None, dropout_p=0.3)
    for a, b in zip(made, expected(q, k, v, g, factor=kept / 0.7)):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    assert np.array_equal(made[0] != 0, kept)


def test_everything_is_dropped_at_probability_one() -> None:
    q = lazytorch.ones(2, 3, 4, requires_grad=True)
    out = attention(q, q, q, dropout_p=1.0)
    out.sum().backward()
    assert float(out.abs().sum()) == 0 and float(q.grad.abs().sum()) == 0


@pytest.mark.parametrize("sizes", [(0, 4, 8, 8), (3, 0, 8, 8), (3, 4, 8, 0), (3, 4, 0, 8)])
def test_without_elements(sizes: tuple[int, int, int, int]) -> None:
    length, keys, inner, columns = sizes
    q, k, v = (
        lazytorch.tensor(numbers(1, 2, n, e))
        for n, e in ((length, inner), (keys, inner), (keys, columns))
    )
    out = attention(q, k, v)
    assert tuple(out.shape) == (1, 2, length, columns)
    if keys == 0:
        assert not out.numpy().any()


def test_not_a_number_stays_in_its_row() -> None:
    place = "cpu"
    q, k = numbers(1, 20, 8), numbers(1, 24, 8, seed=1)
    q[0, 3, 2] = np.nan
    out = attention(*(lazytorch.tensor(a, device=place) for a in (q, k, k))).cpu().numpy()
    assert np.isnan(out[0, 3]).all() and not np.isnan(np.delete(out, 3, 1)).any()


def launches(*tensors: Any) -> int:
    """Kernels launched to compute all tensors together."""
    before = lazytorch.stats()["kernels_launched"]
    engine.realize([node_of(tensor) for tensor in tensors])
    return int(lazytorch.stats()["kernels_launched"] - before)


def operands(lead: tuple[int, ...], length: int, width: int, gradient: bool) -> list[Any]:
    made = [lazytorch.tensor(numbers(*lead, length, width, seed=n), dtype=lazytorch.float32)
            for n in range(3)]  # fmt: skip
    engine.realize([node_of(tensor) for tensor in made])
    return [tensor.requires_grad_(gradient) for tensor in made]


def planned(*tensors: Any) -> int:
    """Kernels that computing all tensors would launch."""
    return engine.plan_for([node_of(tensor) for tensor in tensors]).plan.launches


def test_forward_is_one_kernel() -> None:
    assert planned(attention(*operands((4, 4), 64, 16, False), is_causal=True)) == 1


def test_heads_cut_from_a_projection_are_read_in_place() -> None:
    joint = lazytorch.tensor(numbers(4, 64, 3, 4, 16), dtype=lazytorch.float32)
    engine.realize([node_of(joint)])
    q, k, v = joint.permute(2, 0, 3, 1, 4)
    out = attention(q, k, v, is_causal=True).transpose(1, 2).contiguous()
    assert planned(out) == 1


def test_backward_is_two_kernels() -> None:
    leaves = operands((4, 4), 64, 16, True)
    out = attention(*leaves, is_causal=True)
    grads = lazytorch.autograd.grad((out * out).sum(), leaves)
    # With the forward kernel and delta.
    assert planned(out, *grads) == 3


def test_gradients_are_written_into_that_of_the_projection(place: str) -> None:
    check_joint_gradient(place, "unbind")


def test_the_same_for_a_projection_that_was_split() -> None:
    check_joint_gradient("numpy", "split")


def check_joint_gradient(place: str, cut: str) -> None:
    shape = (2, 20, 3, 2, 16) if cut == "unbind" else (2, 20, 96)
    array, g = numbers(*shape), numbers(2, 2, 20, 16)
    with config.override(VERIFY=True):
        joint = lazytorch.tensor(array, device=place, dtype=lazytorch.float32, requires_grad=True)
        if cut == "unbind":
            parts = joint.permute(2, 0, 3, 1, 4).unbind()
        else:
            parts = [p.view(2, 20, 2, 16).transpose(1, 2) for p in joint.split(32, -1)]
        out = attention(*parts, is_causal=True)
        engine.realize([node_of(out)])
        out.backward(lazytorch.tensor(g, device=place, dtype=lazytorch.float32))
        # delta, and one kernel for everything on a CPU; for GPUs one along queries, one along keys.
        assert launches(joint.grad) <= 3
    wanted = expected(*np.moveaxis(array.reshape(2, 20, 3, 2, 16), (2, 3), (0, 2)), g, None, True)
    made = joint.grad.cpu().numpy().reshape(2, 20, 3, 2, 16)
    for a, b in zip(np.moveaxis(made, (2, 3), (0, 2)), wanted[1:]):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_a_loss_that_was_looked_at_is_not_computed_again() -> None:
    leaves = operands((4, 4), 64, 16, True)
    out = attention(*leaves)
    out.sum().item()
    grads = lazytorch.autograd.grad(out.sum(), leaves)
    # delta, and the gradient: the logarithm of the sums was kept.
    assert launches(*grads) <= 2


def test_dropout_and_masks_cost_no_kernel() -> None:
    q, k, v = operands((4, 4), 64, 16, False)
    mask = lazytorch.ones(64, 64, dtype=lazytorch.bool).tril()
    assert planned(attention(q, k, v, mask, dropout_p=0.1)) == 1


@pytest.mark.parametrize("gradient", [False, True])
def test_scores_are_never_in_memory(gradient: bool) -> None:
    leaves = operands((1, 2), 1024, 8, gradient)
    device = get_device(leaves[0]._device.runtime)
    device.reset_peak()
    before = device.memory_allocated()
    out = attention(*leaves, dropout_p=0.1)
    if gradient:
        out.sum().backward()
        engine.realize([node_of(leaf.grad) for leaf in leaves])
    engine.realize([node_of(out)])
    # One head's scores are 4 MiB; an operand is 64 KiB.
    assert device.max_memory_allocated() - before < 1 << 20
