"""gradcheck and gradgradcheck: what they accept, what they find, in PyTorch's words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
from lazytorch.autograd import Function, GradcheckError

peer = pytest.importorskip("torch")


def leaf(module: Any, *shape: int, dtype: str = "float64") -> Any:
    rng = np.random.default_rng(len(shape))
    array = rng.uniform(0.5, 1.5, shape)
    if dtype == "complex128":
        array = array + 1j * rng.uniform(0.5, 1.5, shape)
    return module.tensor(array, dtype=getattr(module, dtype)).requires_grad_()


class Wrong(Function):
    """A square whose gradient forgets the 2."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return ctx.saved_tensors[0] * gradient


ACCEPTED = {
    "product": lambda m, x, y: x * y,
    "several results": lambda m, x, y: (x @ y.T, x.sum(), 3),
    "a view": lambda m, x, y: x[:1].t(),
    "not differentiable": lambda m, x, y: (x > 9),
}  # fmt: skip
MANNERS: list[dict[str, Any]] = [
    {}, {"fast_mode": True}, {"check_batched_grad": True, "check_grad_dtypes": True},
    {"check_forward_ad": True}, {"check_forward_ad": True, "check_backward_ad": False},
]  # fmt: skip


@pytest.mark.parametrize("manner", MANNERS, ids=str)
@pytest.mark.parametrize("name", ACCEPTED)
def test_right_gradients_pass(name: str, manner: dict[str, Any]) -> None:
    inputs = (leaf(lazytorch, 2, 3), leaf(lazytorch, 2, 3).detach().requires_grad_())
    if name == "not differentiable" and "check_forward_ad" in manner:
        pytest.skip("nothing to push forward")
    assert lazytorch.autograd.gradcheck(lambda *t: ACCEPTED[name](lazytorch, *t), inputs, **manner)


def test_on_every_device(each_device: str) -> None:
    x = leaf(lazytorch, 2, 3)
    assert lazytorch.autograd.gradgradcheck(lambda x: x.sin() * x, (x,), fast_mode=True)


@pytest.mark.parametrize("fast", [False, True])
def test_complex_numbers(fast: bool) -> None:
    x = leaf(lazytorch, 3, dtype="complex128")
    y = leaf(lazytorch, 3)
    for function in (lambda x, y: x * x * y, lambda x, y: x.abs() + y, lambda x, y: x.conj()):
        assert lazytorch.autograd.gradcheck(function, (x, y), fast_mode=fast)
        assert lazytorch.autograd.gradgradcheck(function, (x, y), fast_mode=fast)


def test_second_order() -> None:
    x = leaf(lazytorch, 2, 2)
    for options in ({}, {"gen_non_contig_grad_outputs": True}, {"check_fwd_over_rev": True}):
        assert lazytorch.autograd.gradgradcheck(lambda x: (x.sin() @ x, x.exp()), (x,), **options)
    assert lazytorch.autograd.gradgradcheck(
        lambda x: x**3, (x,), lazytorch.ones(2, 2, dtype=lazytorch.float64).requires_grad_()
    )


@pytest.mark.parametrize("fast", [False, True])
def test_a_wrong_gradient_is_found(fast: bool) -> None:
    x = leaf(lazytorch, 3)
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to inp"):
        lazytorch.autograd.gradcheck(Wrong.apply, (x,), fast_mode=fast)
    assert not lazytorch.autograd.gradcheck(
        Wrong.apply, (x,), fast_mode=fast, raise_exception=False
    )


def _forgetful(module: Any) -> Any:
    """A function that does not stand a missing gradient."""

    class Forgetful(module.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.set_materialize_grads(False)
            return x * 1, x * 2

        @staticmethod
        def backward(ctx: Any, first: Any, second: Any) -> Any:
            return first + 2 * second

    return Forgetful.apply


def _adding(module: Any) -> Any:
    """A function whose gradient is not a multiple of its argument."""

    class Adding(module.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            return gradient + 1e-7

    return Adding.apply


def _unsteady(module: Any) -> Any:
    """A function whose gradient differs a little from pass to pass."""

    class Unsteady(module.autograd.Function):  # type: ignore[misc]
        passes = 0

        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 1

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            Unsteady.passes += 1
            return gradient * (1 + 1e-8 * Unsteady.passes)

    return Unsteady.apply


MISUSES = {
    "nothing to check": lambda m, x: m.autograd.gradcheck(m.exp, (x.detach(),)),
    "no pass": lambda m, x: m.autograd.gradcheck(m.exp, (x,), check_backward_ad=False),
    "overlapping": lambda m, x: m.autograd.gradcheck(m.exp, (x[:1].detach().expand(3)
                                                             .requires_grad_(),)),
    "missing gradients": lambda m, x: m.autograd.gradcheck(_forgetful(m), (x,)),
    "added": lambda m, x: m.autograd.gradcheck(_adding(m), (x,)),
    "unsteady": lambda m, x: m.autograd.gradcheck(_unsteady(m), (x,)),
    "a dependence without a history": lambda m, x: m.autograd.gradcheck(
        lambda x: x.detach() * 2, (x,)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISUSES)
@pytest.mark.filterwarnings("ignore")
def test_what_is_wrong_is_said_as_in_pytorch(name: str) -> None:
    with pytest.raises(Exception) as expected:
        MISUSES[name](peer, leaf(peer, 3))
    with pytest.raises(Exception) as found:
        MISUSES[name](lazytorch, leaf(lazytorch, 3))
    assert type(found.value).__name__ == type(expected.value).__name__
    assert str(found.value)[:40] == str(expected.value)[:40]


def test_single_precision_is_warned_of() -> None:
    x = leaf(lazytorch, 3, dtype="float32")
    with pytest.warns(UserWarning, match="Input #0 requires gradient and is not a double"):
        assert lazytorch.autograd.gradcheck(lambda x: x * 2, (x,), eps=1e-2, atol=1e-2)


def test_the_module_path_leaves_the_function_where_it_was() -> None:
    from lazytorch.autograd.gradcheck import gradcheck, gradgradcheck

    x = leaf(lazytorch, 2).to("numpy").detach().requires_grad_()
    for check in (
        gradcheck,
        gradgradcheck,
        lazytorch.autograd.gradcheck,
        lazytorch.autograd.gradgradcheck,
    ):
        assert check(lambda x: x * x * x, (x,))
        assert not check(lambda x: (x * x).detach() * x, (x,), raise_exception=False)
