"""gradcheck and gradgradcheck: the tape's gradients against finite differences."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lazytorch.autograd import jacobians
from lazytorch.autograd.flow import grad
from lazytorch.autograd.jacobians import Array
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import dtype_of, repeats, shape_of, strides_of
from lazytorch.tensor.tensor import Tensor


class GradcheckError(RuntimeError):
    """A gradient of the tape and its finite difference disagree."""


@dataclass(frozen=True)
class _Manner:
    """How gradients are checked; see :func:`gradcheck`."""

    eps: float
    atol: float
    rtol: float
    nondet_tol: float
    undefined: bool
    dtypes: bool
    batched: bool
    fast: bool


def _tensors(given: Any) -> list[Tensor]:
    several = given if isinstance(given, (tuple, list)) else (given,)
    return [value for value in several if isinstance(value, Tensor)]


def _differentiable(given: Any) -> list[Tensor]:
    return [value for value in _tensors(given) if value.requires_grad]


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Whether the gradients of ``func(*inputs)`` agree with central differences.

    Inputs that require a gradient should be of double precision, real or complex. Compared are
    whole Jacobians, or with ``fast_mode`` their products with random vectors from both sides,
    up to ``atol`` and ``rtol``. Also looked at: that a second pass gives the same up to
    ``nondet_tol``; that gradients fit their inputs, with ``check_grad_dtypes`` in dtype too; that
    the function stands missing gradients of its results (``check_undefined_grad``); that
    ``is_grads_batched`` gives the same (``check_batched_grad``). A disagreement is a
    :class:`GradcheckError`, or ``False`` without ``raise_exception``. ``check_forward_ad`` compares
    what dual tensors give as well. ``masked`` concerns sparse tensors, which there are none of.

    >>> gradcheck(lambda x: x * x, (tensor([1.0, 2.0], dtype=float64, requires_grad=True),))
    True
    """
    if not (check_forward_ad or check_backward_ad):
        raise AssertionError(
            "Expected at least one of check_forward_ad or check_backward_ad to be True"
        )
    if check_batched_grad and not check_backward_ad:
        raise AssertionError(
            "Setting check_batched_grad=True requires check_backward_ad to be True"
        )
    if check_batched_forward_grad:
        raise NotImplementedError(
            "gradcheck: check_batched_forward_grad is not available: a batch of tangents is "
            "torch.func.vmap of torch.func.jvp"
        )
    manner = _Manner(
        eps, atol, rtol, nondet_tol, check_undefined_grad, check_grad_dtypes, check_batched_grad,
        fast_mode,
    )  # fmt: skip
    given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    leaves = _checked_inputs(given)
    try:
        if check_forward_ad:
            _check_forward(func, given, leaves, manner)
        if check_backward_ad:
            _check(func, given, leaves, manner)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _checked_inputs(given: Sequence[Any]) -> list[Tensor]:
    """The inputs that gradients are checked of."""
    leaves = []
    for number, value in enumerate(given):
        if not isinstance(value, Tensor) or not value.requires_grad:
            continue
        if dtype_of(value).name not in ("float64", "complex128"):
            warnings.warn(
                f"Input #{number} requires gradient and is not a double precision floating point "
                "or complex. This check will likely fail if all the inputs are not of double "
                "precision floating point or complex. ",
                stacklevel=3,
            )
        if repeats(shape_of(value), strides_of(value)):
            raise RuntimeError(
                f"The {number}th input has a dimension with stride 0. gradcheck only supports "
                "inputs that are non-overlapping to be able to compute the numerical gradients "
                "correctly. You should call .contiguous on the input before passing it to "
                "gradcheck."
            )
        value.retain_grad()  # type: ignore[attr-defined]
        leaves.append(value)
    if not leaves:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of the "
            "them have requires_grad=True."
        )
    return leaves


def _check(
    func: Callable[..., Any], given: Sequence[Any], leaves: list[Tensor], manner: _Manner
) -> None:
    if not _differentiable(func(*given)):
        _check_constant(func, given, leaves, manner)
        return
    for part in ("real", "imaginary"):

        def outputs(part: str = part) -> list[Tensor]:
            """The outputs computed anew: differences write into the inputs."""
            return _parts(_differentiable(func(*given)), part)

        if not outputs():
            continue
        (_compare_fast if manner.fast else _compare)(outputs, leaves, manner, part)
        for number, out in enumerate(outputs()):
            _check_pass(out, number, leaves, manner)
    if manner.undefined:
        _check_undefined(func, given, leaves)


def _check_forward(
    func: Callable[..., Any], given: Sequence[Any], leaves: list[Tensor], manner: _Manner
) -> None:
    """Compare what dual tensors give, by real directions of the inputs."""
    places = [n for n, out in enumerate(_tensors(func(*given))) if out.requires_grad]
    for place, leaf in enumerate(leaves):
        found = jacobians.forward(func, given, leaf, places)
        for part in ("real", "imaginary"):

            def outputs(part: str = part) -> list[Tensor]:
                return _parts([_tensors(func(*given))[n] for n in places], part)

            expected = jacobians.numerical(outputs, leaf, manner.eps)
            if part == "imaginary":
                mine = [one.imag for one in found if one.dtype.kind == "c"]
            else:
                mine = [one.real for one in found]
            for number, (a, b) in enumerate(zip(mine, expected)):
                if not np.allclose(a, b.real, manner.rtol, manner.atol):
                    raise _mismatch(number, place, b.real, a, part)


def _parts(outputs: list[Tensor], part: str) -> list[Tensor]:
    """The outputs as real ones: for the imaginary part, of the complex ones only."""
    if part == "imaginary":
        return [functions.imag(out) for out in outputs if out.is_complex()]
    return [functions.real(out) if out.is_complex() else out for out in outputs]


def _check_constant(
    func: Callable[..., Any], given: Sequence[Any], leaves: list[Tensor], manner: _Manner
) -> None:
    """Outputs without a history must not depend on the inputs."""

    def outputs() -> list[Tensor]:
        return [out for out in _tensors(func(*given)) if dtype_of(out).kind == "f"]

    for leaf in leaves:
        if any(found.any() for found in jacobians.numerical(outputs, leaf, manner.eps)):
            raise GradcheckError("Numerical gradient for function expected to be zero")


def _compare(outputs: jacobians.Outputs, leaves: list[Tensor], manner: _Manner, part: str) -> None:
    found = [jacobians.analytical(out, leaves) for out in outputs()]
    for place, leaf in enumerate(leaves):
        for number, expected in enumerate(jacobians.numerical(outputs, leaf, manner.eps)):
            if not np.allclose(found[number][place], expected, manner.rtol, manner.atol):
                raise _mismatch(number, place, expected, found[number][place], part)


def _mismatch(number: int, place: int, expected: Array, found: Array, part: str) -> GradcheckError:
    prefix = ""
    if part == "imaginary":
        prefix = "While considering the imaginary part of complex outputs only, "
    return GradcheckError(
        f"{prefix}Jacobian mismatch for output {number} with respect to input {place},\n"
        f"numerical:{expected.T}\nanalytical:{found.T}\n"
    )


def _compare_fast(
    outputs: jacobians.Outputs, leaves: list[Tensor], manner: _Manner, part: str
) -> None:
    """Compare v J u for random unit vectors u and v, one pass for each output."""
    rng = np.random.default_rng(0)
    made = outputs()
    seeds = [_unit(rng, out.numel()) for out in made]
    pulled = [jacobians.pulled(out, leaves, seed) for out, seed in zip(made, seeds)]
    for place, leaf in enumerate(leaves):
        direction = _unit(rng, leaf.numel()).astype(jacobians.values(leaf).dtype)
        if direction.dtype.kind == "c":
            direction = (direction + 1j * _unit(rng, leaf.numel())) / np.sqrt(2)
        moved = jacobians.difference(outputs, leaf, direction, manner.eps)
        for number, seed in enumerate(seeds):
            expected = float(np.real(seed @ moved[number]))
            gradient = jacobians.line_of(pulled[number][place], leaf)
            found = float(np.real(np.vdot(gradient, direction)))
            room = manner.atol * float(np.abs(direction).sum() * seed.sum())
            if not np.allclose(found, expected, manner.rtol, max(room, manner.atol)):
                raise _mismatch(number, place, np.array(expected), np.array(found), part)


def _unit(rng: np.random.Generator, size: int) -> Array:
    line: Array = rng.uniform(size=size)
    return line / max(float(np.linalg.norm(line)), 1e-300)


def _check_pass(out: Tensor, number: int, leaves: list[Tensor], manner: _Manner) -> None:
    """What is asked of a pass besides its values: the same again, fitting, nothing from zeros."""
    seed = np.random.default_rng(1).standard_normal(out.numel())
    first, second = (jacobians.pulled(out, leaves, seed) for _ in range(2))
    for a, b, leaf in zip(first, second, leaves):
        apart = np.abs(jacobians.line_of(a, leaf) - jacobians.line_of(b, leaf))
        if apart.size and apart.max() > manner.nondet_tol:
            raise GradcheckError(
                "Backward is not reentrant, i.e., running backward with same input and "
                "grad_output multiple times gives different values, although analytical gradient "
                "matches numerical gradient. The tolerance for nondeterminism was "
                f"{manner.nondet_tol}."
            )
        if a is not None and manner.dtypes and dtype_of(a) is not dtype_of(leaf):
            raise GradcheckError(
                f"grad is incorrect type: {a.dtype!r} for an input of {leaf.dtype!r}"
            )
    for gradient in jacobians.pulled(out, leaves, np.zeros(out.numel())):
        if gradient is not None and jacobians.values(gradient).any():
            raise GradcheckError("backward not multiplied by grad_output")
    if manner.batched:
        _check_batched(out, number, leaves, manner)


def _check_batched(out: Tensor, number: int, leaves: list[Tensor], manner: _Manner) -> None:
    try:
        together = jacobians.batched(out, leaves)
    except RuntimeError as error:
        raise GradcheckError(
            f"While computing batched gradients, got: {error}\n\ngradcheck or gradgradcheck failed "
            "while testing batched gradient computation: see is_grads_batched of autograd.grad"
        ) from error
    for place, (a, b) in enumerate(zip(together, jacobians.analytical(out, leaves))):
        if not np.allclose(a, b, manner.rtol, manner.atol):
            raise GradcheckError(
                f"For output {number} and input {place}:\n\ngradcheck or gradgradcheck failed "
                f"while testing batched gradient computation.\nGot:\n{a}\n\nExpected:\n{b}"
            )


def _check_undefined(func: Callable[..., Any], given: Sequence[Any], leaves: list[Tensor]) -> None:
    """A function must stand that some of its results, or none, have a gradient."""
    made = _differentiable(func(*given))
    for gone in made if len(made) > 1 else ():
        # A zero seed reaches what stays; what is gone gets no gradient at all.
        kept = [out for out in made if out is not gone]
        seeds = [functions.zeros_like(out) for out in kept]
        try:
            found = grad(kept, leaves, seeds, retain_graph=True, allow_unused=True)
        except (AttributeError, RuntimeError, TypeError) as error:
            raise GradcheckError(
                "Expected backward function to handle undefined output grads. Please look at "
                "'Notes about undefined output gradients' in 'tools/autograd/derivatives.yaml': "
                f"{type(error).__name__}: {error}"
            ) from error
        if any(one is not None and jacobians.values(one).any() for one in found):
            raise GradcheckError(
                "Expected all input grads to be undefined or zero when all output grads are "
                "undefined or zero."
            )


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """Whether gradients of gradients of ``func(*inputs)`` agree with central differences.

    Differentiated are the gradients by the inputs and by ``grad_outputs``, which are drawn at
    random unless given, with strides of their own if ``gen_non_contig_grad_outputs``. The rest
    is :func:`gradcheck`'s.
    """
    if not (check_fwd_over_rev or check_rev_over_rev):
        raise AssertionError(
            "Expected at least one of check_fwd_over_rev or check_rev_over_rev to be True"
        )
    given = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    if grad_outputs is None:
        seeds = [
            _seed(out, number, gen_non_contig_grad_outputs)
            for number, out in enumerate(_differentiable(func(*given)))
        ]
    else:
        seeds = _tensors(grad_outputs)

    def first_order(*arguments: Any) -> tuple[Any, ...]:
        own, weights = arguments[: len(given)], arguments[len(given) :]
        made = _differentiable(func(*own))
        inputs = _differentiable(own)
        found = grad(made, inputs, list(weights), create_graph=True, allow_unused=True)
        return tuple(value for value in found if value is not None)

    return gradcheck(
        first_order, (*given, *seeds), eps=eps, atol=atol, rtol=rtol,
        raise_exception=raise_exception, nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad, check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad, check_forward_ad=check_fwd_over_rev,
        check_backward_ad=check_rev_over_rev, fast_mode=fast_mode, masked=masked,
    )  # fmt: skip


def _seed(out: Tensor, number: int, strided: bool) -> Tensor:
    """A random weight for an output, that requires a gradient."""
    rng = np.random.default_rng(number)
    array = rng.standard_normal(tuple(out.shape))
    if out.is_complex():
        array = array + 1j * rng.standard_normal(tuple(out.shape))
    if not strided or not out.ndim:
        made = functions.tensor(array, dtype=out.dtype, device=out.device)
        return made.requires_grad_()  # type: ignore[no-any-return]
    doubled = functions.tensor(np.stack([array, array], -1), dtype=out.dtype, device=out.device)
    return doubled.select(-1, 0).detach().requires_grad_()  # type: ignore[no-any-return]
