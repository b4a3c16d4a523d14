"""The tape: names, hooks, modes, graphs kept and freed, gradients of gradients."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch.autograd import Function


def leaf(*values: float) -> Any:
    return torch.tensor(list(values), requires_grad=True)


def test_grad_fn_names_and_links() -> None:
    x = leaf(1.0, 2.0)
    y = (x * 2).exp().sum()
    assert y.grad_fn.name() == "SumBackward0"
    exp = y.grad_fn.next_functions[0][0]
    mul = exp.next_functions[0][0]
    assert (exp.name(), mul.name()) == ("ExpBackward0", "MulBackward0")
    accumulate, number = mul.next_functions[0]
    assert accumulate.name() == "torch::autograd::AccumulateGrad" and number == 0
    assert accumulate.variable is x
    assert mul.next_functions[1] == (None, 0)
    assert repr(exp).startswith("<ExpBackward0 object at 0x")


def test_leaves_and_flags() -> None:
    x = leaf(1.0)
    y = x * 2
    assert (x.is_leaf, y.is_leaf, y.requires_grad) == (True, False, True)
    assert y.detach().requires_grad is False
    with torch.no_grad():
        assert (x * 2).requires_grad is False
    with pytest.raises(RuntimeError, match="leaf variables"):
        y.requires_grad = False


def test_gradients_accumulate_in_the_same_tensor() -> None:
    x = leaf(1.0, 2.0)
    (x * 3).sum().backward()
    kept = x.grad
    (x * 4).sum().backward()
    assert x.grad is kept
    assert kept.tolist() == [7, 7]


def test_shared_gradients_are_separate_tensors() -> None:
    a, b = leaf(1.0), leaf(2.0)
    (a + b).sum().backward()
    a.grad.add_(1)
    assert (a.grad.item(), b.grad.item()) == (2, 1)


def test_looking_changes_no_gradient() -> None:
    x = leaf(1.0, 2.0)
    y = x * x
    y.tolist()
    z = (y * 3).sum()
    assert z.item() == 15
    z.backward()
    assert x.grad.tolist() == [6, 12]


def test_retain_graph() -> None:
    x = leaf(3.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12


def test_gradient_argument_and_inputs() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = x * w
    y.backward(torch.tensor([1.0, 10.0]), inputs=[x])
    assert x.grad.tolist() == [3, 40]
    assert w.grad is None


def test_autograd_grad() -> None:
    x, w, unused = leaf(2.0), leaf(3.0), leaf(1.0)
    y = (x * w).sum()
    got = torch.autograd.grad(y, [x, w], retain_graph=True)
    assert [g.item() for g in got] == [3, 2]
    assert x.grad is None
    with pytest.raises(RuntimeError, match="allow_unused"):
        torch.autograd.grad(y, [unused], retain_graph=True)
    assert torch.autograd.grad(y, [x, unused], allow_unused=True)[1] is None


def test_grad_of_a_middle_tensor() -> None:
    x = leaf(2.0)
    y = x * 3
    z = (y * y).sum()
    (dy,) = torch.autograd.grad(z, y)
    assert dy.item() == 12


def test_double_backward() -> None:
    x = leaf(0.5, 1.5)
    y = (x.sin() * x**3).sum()
    (first,) = torch.autograd.grad(y, x, create_graph=True)
    assert first.requires_grad
    (second,) = torch.autograd.grad(first.sum(), x)
    v = np.array([0.5, 1.5])
    expected = -np.sin(v) * v**3 + 6 * v**2 * np.cos(v) + 6 * v * np.sin(v)
    np.testing.assert_allclose(second.tolist(), expected, rtol=1e-5)


def test_triple_backward_of_exp() -> None:
    x = leaf(0.3)
    y = x.exp().sum()
    for _ in range(3):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert y.item() == pytest.approx(np.exp(0.3), rel=1e-5)


def test_hooks_on_tensors() -> None:
    seen: list[Any] = []
    x = leaf(1.0, 1.0)
    y = x * 2
    handle = y.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: seen.append(g.tolist()))
    y.sum().backward()
    assert x.grad.tolist() == [20, 20]
    assert seen == [[20, 20]]
    handle.remove()
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_retain_grad_and_post_accumulate_hook() -> None:
    called: list[Any] = []
    x = leaf(1.0)
    x.register_post_accumulate_grad_hook(lambda t: called.append(t.grad.item()))
    y = x * 2
    y.retain_grad()
    (y * 3).sum().backward()
    assert y.grad.item() == 3
    assert called == [6]


def test_hooks_on_entries() -> None:
    x = leaf(1.0)
    y = x * 2
    calls: list[str] = []
    y.grad_fn.register_prehook(lambda g: calls.append("before"))
    y.grad_fn.register_hook(lambda inputs, outputs: calls.append("after"))
    y.sum().backward()
    assert calls == ["before", "after"]


def test_modes_nest_and_decorate() -> None:
    @torch.no_grad()
    def quiet() -> bool:
        return torch.is_grad_enabled()

    @torch.no_grad()
    def quiet_numbers() -> Any:
        yield torch.is_grad_enabled()
        with torch.enable_grad():
            yield torch.is_grad_enabled()

    assert quiet() is False
    assert list(quiet_numbers()) == [False, True]
    with torch.no_grad():
        with torch.enable_grad():
            assert torch.is_grad_enabled()
        assert not torch.is_grad_enabled()
        with torch.set_grad_enabled(True):
            assert torch.is_grad_enabled()
    previous = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    assert not torch.is_grad_enabled()
    torch.set_grad_enabled(previous)
    with torch.inference_mode():
        assert not (leaf(1.0) * 2).requires_grad


def test_the_mode_belongs_to_the_thread() -> None:
    answers: list[bool] = []
    with torch.no_grad():
        thread = threading.Thread(target=lambda: answers.append(torch.is_grad_enabled()))
        thread.start()
        thread.join()
    assert answers == [True]


def test_in_place_on_results_keeps_gradients() -> None:
    x = leaf(1.0, 2.0, 3.0)
    y = x * 1
    y.mul_(2).add_(1)
    y[0] = 0
    y[1:].mul_(x[1:])
    y.sum().backward()
    assert x.grad.tolist() == [0, 9, 13]


def test_write_of_a_tracked_value_into_a_plain_tensor() -> None:
    x = leaf(2.0)
    table = torch.zeros(3)
    table[1] = x[0] * 3
    assert table.requires_grad and not table.is_leaf
    (table * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.item() == 30


def test_views_see_the_history_of_their_base() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1
    view = y.view(2, 1)
    y.mul_(5)
    assert view.grad_fn.name() == "AsStridedBackward0"
    view.sum().backward()
    assert x.grad.tolist() == [5, 5]


def test_saved_values_are_few() -> None:
    x, y = leaf(1.0), leaf(2.0)
    total, product = x + y, x * y.detach()
    assert total.grad_fn.saved is None
    assert product.grad_fn.saved[0] is None


def test_a_leaf_is_freed_with_its_graph() -> None:
    import weakref

    x = leaf(1.0)
    y = (x * 2).exp().sum()
    watched = weakref.ref(x)
    gc.disable()
    try:
        del x
        assert watched() is not None
        del y
        assert watched() is None
    finally:
        gc.enable()


def test_dtype_and_shape_of_gradients_follow_the_source() -> None:
    a = torch.ones(3, 1, requires_grad=True)
    b = torch.ones(2, dtype=torch.float64, requires_grad=True)
    (a * b).sum().backward()
    assert (a.grad.shape, a.grad.dtype) == ((3, 1), torch.float32)
    assert (b.grad.shape, b.grad.dtype) == ((2,), torch.float64)


# Function -------------------------------------------------------------------------------------


class Cube(Function):
    @staticmethod
    def forward(ctx: Any, x: Any, scale: float) -> Any:
        ctx.save_for_backward(x)
        ctx.scale = scale
        return x**3 * scale

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return g * 3 * x**2 * ctx.scale, None


class MinMax(Function):
    @staticmethod
    def forward(x: Any) -> Any:
        return x.min(), x.max()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, low: Any, high: Any) -> Any:
        (x,) = ctx.saved_tensors
        return low * (x == x.min()) + high * (x == x.max())


def test_function_with_context() -> None:
    x = leaf(2.0, 3.0)
    y = Cube.apply(x, 2.0)
    assert y.grad_fn.name() == "CubeBackward"
    assert repr(y) == "tensor([16., 54.], grad_fn=<CubeBackward>)"
    y.sum().backward()
    assert x.grad.tolist() == [24, 54]


def test_function_with_two_results() -> None:
    x = leaf(2.0, 3.0)
    low, high = MinMax.apply(x)
    (low + 10 * high).backward()
    assert x.grad.tolist() == [1, 10]


def test_function_differentiates_twice() -> None:
    x = leaf(2.0)
    (first,) = torch.autograd.grad(Cube.apply(x, 1.0).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert second.item() == 12


def test_function_counts_its_gradients() -> None:
    class Wrong(Function):
        @staticmethod
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            return a + b

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g

    with pytest.raises(RuntimeError, match="incorrect number of gradients"):
        Wrong.apply(leaf(1.0), leaf(2.0)).sum().backward()


# Checking ----------------------------------------------------------------------------

DOUBLE = {"dtype": torch.float64, "requires_grad": True}
SMOOTH = {
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (y * y + 1),
    "pow": lambda x, y: (x * x + 1) ** y,
    "matmul": lambda x, y: x @ y.t(),
    "var": lambda x, y: x.var(0) + y.std(1, keepdim=True).sum(),
    "norm": lambda x, y: (x + y).norm(),
    "prod": lambda x, y: x.prod(1) * y.sum(),
    "cumprod": lambda x, y: x.cumprod(1) + y,
    "cumsum": lambda x, y: x.cumsum(0) * y,
    "logsumexp": lambda x, y: (x * y).logsumexp(1),
    "index": lambda x, y: x[[0, 1, 1]][:, 1:] * y[:, 1:][0],
    "view": lambda x, y: (x.t()[1:] * 2).reshape(-1) * y.reshape(-1)[:4],
    "sigmoid": lambda x, y: x.sigmoid() * y.tanh(),
    "atan2": lambda x, y: x.atan2(y),
    "max": lambda x, y: x.max(1)[0] + y.amax(0).sum(),
    "cat": lambda x, y: torch.cat([x, y * x]).tril(),
    "where": lambda x, y: torch.where(x > 0, x * y, y.exp()),
    "scatter": lambda x, y: x.scatter_add(1, torch.tensor([[0, 0, 1], [2, 2, 2]]), y * y),
    "einsum": lambda x, y: torch.einsum("ij,kj->ik", x, y),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_against_finite_differences(name: str) -> None:
    values = np.random.default_rng(3).standard_normal((2, 2, 3))
    x, y = (torch.tensor(value, **DOUBLE) for value in values)
    assert torch.autograd.gradcheck(SMOOTH[name], (x, y))
    assert torch.autograd.gradgradcheck(SMOOTH[name], (x, y))


def test_gradcheck_finds_a_wrong_gradient() -> None:
    class Wrong(Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 3

    x = torch.ones(2, **DOUBLE)
    assert not torch.autograd.gradcheck(Wrong.apply, (x,), raise_exception=False)


def test_anomaly_detection_names_the_line() -> None:
    x = torch.zeros(1, requires_grad=True)
    with torch.autograd.detect_anomaly():
        y = (x.sqrt() * 0).sum()
        with pytest.raises(RuntimeError, match=r"SqrtBackward0' recorded at .*test_tape.py:\d+"):
            y.backward()


def test_everything_is_computed_at_once_when_asked() -> None:
    from lazytorch.tensor import recorder
    from lazytorch.tensor.storage import node_of

    recorder.set_eager(True)
    try:
        x = torch.ones(3) * 2.5
        assert node_of(x).buffer is not None
    finally:
        recorder.set_eager(False)


def test_a_gradient_goes_back_to_the_device_its_value_came_from() -> None:
    x = torch.ones(3, device="numpy").requires_grad_()
    (gradient,) = torch.autograd.grad((x * 2).cpu(), x, torch.full((3,), 5.0, device="cpu"))
    assert gradient.device.type == "numpy"
    assert gradient.tolist() == [10, 10, 10]
