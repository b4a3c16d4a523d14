"""Complex tensors: their parts, views between real and complex, and arithmetic from the parts.

Addition, products and quotients are primitives. Every other function of a complex number is
written here in terms of its real and imaginary part (DLMF 4.2, 4.21, 4.35 have the formulas), so
that kernels, devices and gradients need to know nothing of it. Gradients follow PyTorch's
convention: for a real loss L of z = x + iy the gradient is dL/dx + i dL/dy, which is what the
gradients of the two parts give when they are joined again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.functional import elementwise, unary
from lazytorch.functional.composite import require_tensor
from lazytorch.functional.linalg import squared_repeatedly
from lazytorch.ops import elementwise as ops
from lazytorch.tensor.apply import apply, cast, combined, complex_forms, reinterpret_view
from lazytorch.tensor.attach import Target, functions, public
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.storage import dtype_of, shape_of, strides_of
from lazytorch.tensor.tensor import Tensor

Pair = tuple[Tensor, Tensor]


def parts(input: Tensor) -> Pair:
    """The real and the imaginary part as values of their own."""
    return apply(ops.REAL, (input,)), apply(ops.IMAGINARY, (input,))


def joined(real: Tensor, imaginary: Tensor) -> Tensor:
    """The complex tensor with these parts."""
    return apply(ops.COMPLEX, (real, imaginary), (), _join_rule)


_join_rule = Rule(
    "ComplexBackward0",
    (lambda g, f: f.real_part(g), lambda g, f: f.imaginary_part(g)),
    joins_parts=True,
)


functions.real_part = lambda input: apply(ops.REAL, (input,)) if _is_complex(input) else input
functions.imaginary_part = lambda input: (
    apply(ops.IMAGINARY, (input,)) if _is_complex(input) else functions.zeros_like(input)
)


def _is_complex(input: Tensor) -> bool:
    return dtype_of(input).kind == "c"


# Making complex tensors and taking them apart ---------------------------------------------------


@public("complex", method=False, out=Target(exact=1))
def complex_(real: Tensor, imag: Tensor) -> Tensor:
    """A complex tensor from its real and imaginary part, which broadcast.

    Both parts are float32 (giving complex64) or float64 (complex128).

    >>> torch.complex(tensor([1.0]), tensor([2.0]))
    tensor([1.+2.j])
    """
    require_tensor(real, "complex", "real", 1)
    require_tensor(imag, "complex", "imag", 2)
    first, second = dtype_of(real), dtype_of(imag)
    for dtype in (first, second):
        if dtype.kind != "f" or dtype is dtypes.bfloat16:
            raise RuntimeError(
                "Expected both inputs to be Half, Float or Double tensors but got "
                f"{scalar_name(first)} and {scalar_name(second)}"
            )
    if first is not second:
        raise RuntimeError(
            f"Expected object of scalar type {scalar_name(first)} but got scalar type "
            f"{scalar_name(second)} for second argument"
        )
    if first is dtypes.float16:
        raise NotImplementedError("complex(): complex32 does not exist here: use float32 parts")
    return joined(real, imag)


@public(method=False)
def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """A complex tensor from magnitudes and angles (in radians)."""
    require_tensor(abs, "polar", "abs", 1)
    require_tensor(angle, "polar", "angle", 2)
    real = elementwise.mul(abs, functions.cos(angle))
    imaginary = elementwise.mul(abs, functions.sin(angle))
    return label(complex_(real, imaginary), "PolarBackward0")


_view_as_real_rule = Rule("ViewAsRealBackward0", (lambda g, f: f.view_as_complex(g.contiguous()),))
_view_as_complex_rule = Rule(
    "ViewAsComplexBackward0", (lambda g, f: f.view_as_real(g),), joins_parts=True
)


@public(method=False, out=False)
def view_as_real(input: Tensor) -> Tensor:
    """A complex tensor of shape ``s`` seen as a real one of shape ``(*s, 2)``, sharing memory."""
    if not _is_complex(input):
        raise RuntimeError("view_as_real is only supported for complex tensors")
    strides = (*(2 * stride for stride in strides_of(input)), 1)
    offset = 2 * input.storage_offset()
    shape = (*shape_of(input), 2)
    return reinterpret_view(input, dtype_of(input).real, shape, strides, offset, _view_as_real_rule)


@public(method=False, out=False)
def view_as_complex(input: Tensor) -> Tensor:
    """A real tensor of shape ``(*s, 2)`` seen as a complex one of shape ``s``, sharing memory."""
    dtype, shape, strides = dtype_of(input), shape_of(input), strides_of(input)
    if dtype not in (dtypes.float32, dtypes.float64):
        raise RuntimeError(
            "view_as_complex is only supported for half, float and double tensors, but got a "
            f"tensor of scalar type: {scalar_name(dtype)}"
        )
    if not shape:
        raise RuntimeError("Input tensor must have one or more dimensions")
    if shape[-1] != 2:
        raise RuntimeError("Tensor must have a last dimension of size 2")
    if strides[-1] != 1:
        raise RuntimeError("Tensor must have a last dimension with stride 1")
    offset = input.storage_offset()
    if any(stride % 2 for stride, extent in zip(strides[:-1], shape) if extent > 1):
        raise RuntimeError("Tensor must have a stride divisible by 2 for all but last dimension")
    if offset % 2:
        raise RuntimeError("Tensor must have a storage_offset divisible by 2")
    halves = tuple(stride // 2 for stride in strides[:-1])
    return reinterpret_view(
        input, dtype.to_complex(), shape[:-1], halves, offset // 2, _view_as_complex_rule
    )


@public()
def real(input: Tensor) -> Tensor:
    """The real part, a view of the tensor; a real tensor itself."""
    return view_as_real(input).select(-1, 0) if _is_complex(input) else input


@public()
def imag(input: Tensor) -> Tensor:
    """The imaginary part, a view of the tensor."""
    if not _is_complex(input):
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    return view_as_real(input).select(-1, 1)


def _part_property(position: int) -> property:
    def take(self: Tensor) -> Tensor:
        return imag(self) if position else real(self)

    def put(self: Tensor, value: Any) -> None:
        take(self).copy_(functions.as_tensor(value))

    return property(take, put)


_members: Any = Tensor
_members.real = _part_property(0)
_members.imag = _part_property(1)


@public(inplace=True, aliases=("conj_physical",))
def conj(input: Tensor) -> Tensor:
    """The complex conjugate, computed at once; a real tensor itself."""
    if not _is_complex(input):
        return input
    real_part, imaginary = parts(input)
    return joined(real_part, unary.neg(imaginary))


@public(out=False)
def resolve_conj(input: Tensor) -> Tensor:
    """The tensor itself: conjugation is never pending here."""
    return input


@public(out=False)
def resolve_neg(input: Tensor) -> Tensor:
    """The tensor itself: negation is never pending here."""
    return input


@public(out=False)
def is_conj(input: Tensor) -> bool:
    """Always false: ``conj`` computes its result."""
    return False


@public(out=False)
def is_neg(input: Tensor) -> bool:
    """Always false: negation is never pending here."""
    return False


@public(out=False)
def adjoint(input: Tensor) -> Tensor:
    """The conjugate with the last two dimensions exchanged."""
    if len(shape_of(input)) < 2:
        raise RuntimeError(
            "tensor.adjoint() is only supported on matrices or batches of matrices. Got "
            f"{len(shape_of(input))}-D tensor."
        )
    return conj(input.transpose(-2, -1))


def _hermitian(self: Tensor) -> Tensor:
    if self.ndim == 2:
        return conj(self.transpose(0, 1))
    if self.ndim == 0:
        return self
    raise RuntimeError(
        f"tensor.H is only supported on matrices (2-D tensors). Got {self.ndim}-D tensor. For "
        "batches of matrices, consider using tensor.mH"
    )


_members.H = property(_hermitian)
_members.mH = property(adjoint)


@public()
def vdot(input: Tensor, other: Tensor) -> Tensor:
    """The sum of products of two vectors, the first one conjugated."""
    return label(functions.dot(conj(input), other), "VdotBackward0")


# Arithmetic -------------------------------------------------------------------------------------


def _form(op: Any) -> Callable[[Any], Any]:
    def register(function: Any) -> Any:
        complex_forms[op] = function
        return function

    return register


@_form(ops.MUL)
def _product(x: Tensor, y: Tensor) -> Tensor:
    return apply(ops.MUL, (x, y))


@_form(ops.DIV)
def _quotient(x: Tensor, y: Tensor) -> Tensor:
    return apply(ops.DIV, (x, y))


def _magnitude_gradient(g: Tensor, x: Tensor, out: Tensor, f: Any) -> Tensor:
    """0 at 0, as PyTorch has it."""
    zero = out == 0
    return scaled(x, f.where(zero, 0, g / f.where(zero, 1, out)))


_magnitude_rule = Rule("AbsBackward0", (_magnitude_gradient,))


def magnitude(input: Tensor) -> Tensor:
    """|z| without overflow: the larger part times the root of one plus a ratio squared."""
    with no_grad():
        first, second = (unary.abs(part) for part in parts(input))
        large, small = elementwise.maximum(first, second), elementwise.minimum(first, second)
        plain = elementwise.plain_eq(large, 0)
        endless = elementwise.plain_eq(large, float("inf"))
        ratio = elementwise.plain_div(small, elementwise.where(plain, 1.0, large))
        out = large * functions.sqrt(ratio * ratio + 1)
        out = elementwise.where(endless, large, out)
    return attach(out, _magnitude_rule, (input,))


complex_forms[ops.ABS] = magnitude


@public(inplace=True)
def angle(input: Tensor) -> Tensor:
    """The angle of a complex number in radians; of a real one pi below zero, else 0."""
    if _is_complex(input):
        real_part, imaginary = parts(input)
        return label(functions.atan2(imaginary, real_part), "AngleBackward0")
    values = unary._floating(input)
    turned = elementwise.where(elementwise.plain_lt(values, 0), 3.141592653589793, 0.0)
    turned = cast(turned, dtype_of(values))
    out = elementwise.where(unary.isnan(values), values, turned)
    return label(out, "AngleBackward0")


def sign_of(input: Tensor) -> Tensor:
    """z / |z|, and 0 at 0."""
    size = magnitude(input)
    zero = elementwise.plain_eq(size, 0)
    safe = elementwise.where(zero, 1.0, size)
    return label(scaled(input, 1 / safe), "SgnBackward0")


def scaled(input: Tensor, factor: Tensor) -> Tensor:
    """A complex tensor times a real one."""
    real_part, imaginary = parts(input)
    return joined(real_part * factor, imaginary * factor)


def _from_parts(op: Any) -> Callable[[Callable[[Tensor, Tensor], Pair]], Any]:
    """Register a function of (real part, imaginary part) that gives both parts of the result."""

    def register(function: Callable[[Tensor, Tensor], Pair]) -> Any:
        complex_forms[op] = lambda z: joined(*function(*parts(z)))
        return function

    return register


@_from_parts(ops.EXP)
def _exp(x: Tensor, y: Tensor) -> Pair:
    size = functions.exp(x)
    return size * functions.cos(y), size * functions.sin(y)


def _log(z: Tensor) -> Tensor:
    x, y = parts(z)
    return joined(functions.log(magnitude(z)), functions.atan2(y, x))


def _root(z: Tensor) -> Tensor:
    # The half angle: sqrt((|z| + |x|) / 2) is exact where the other part would cancel.
    x, y = parts(z)
    size = magnitude(z)
    large = functions.sqrt((size + unary.abs(x)) * 0.5)
    none = elementwise.plain_eq(large, 0)
    small = unary.abs(y) / (elementwise.where(none, 1.0, large) * 2)
    right = elementwise.plain_ge(x, 0)
    real_part = elementwise.where(right, large, small)
    imaginary = unary.copysign(elementwise.where(right, small, large), y)
    return joined(real_part, imaginary)


complex_forms[ops.LOG] = _log
complex_forms[ops.SQRT] = _root
complex_forms[ops.RSQRT] = lambda z: _quotient(functions.ones_like(z), _root(z))
complex_forms[ops.EXP2] = lambda z: functions.exp(z * 0.6931471805599453)
complex_forms[ops.LOG2] = lambda z: _log(z) * 1.4426950408889634
complex_forms[ops.LOG10] = lambda z: _log(z) * 0.4342944819032518


@_from_parts(ops.EXPM1)
def _expm1(x: Tensor, y: Tensor) -> Pair:
    # exp(x) cos(y) - 1 = expm1(x) cos(y) - 2 sin(y / 2)^2
    half = functions.sin(y * 0.5)
    real_part = functions.expm1(x) * functions.cos(y) - 2 * half * half
    return real_part, functions.exp(x) * functions.sin(y)


@_from_parts(ops.LOG1P)
def _log1p(x: Tensor, y: Tensor) -> Pair:
    above = x + 1
    # log |1 + z| = log1p(x (2 + x) + y^2) / 2
    return functions.log1p(x * (x + 2) + y * y) * 0.5, functions.atan2(y, above)


@_from_parts(ops.SIN)
def _sin(x: Tensor, y: Tensor) -> Pair:
    return functions.sin(x) * functions.cosh(y), functions.cos(x) * functions.sinh(y)


@_from_parts(ops.COS)
def _cos(x: Tensor, y: Tensor) -> Pair:
    real_part = functions.cos(x) * functions.cosh(y)
    return real_part, unary.neg(functions.sin(x) * functions.sinh(y))


@_from_parts(ops.SINH)
def _sinh(x: Tensor, y: Tensor) -> Pair:
    return functions.sinh(x) * functions.cos(y), functions.cosh(x) * functions.sin(y)


@_from_parts(ops.COSH)
def _cosh(x: Tensor, y: Tensor) -> Pair:
    return functions.cosh(x) * functions.cos(y), functions.sinh(x) * functions.sin(y)


@_from_parts(ops.TANH)
def _tanh(x: Tensor, y: Tensor) -> Pair:
    # With t = tan(y), s = sinh(x) and b = 1 + t^2 (Kahan, 1987): no overflow for large |x|.
    tangent, sine = functions.tan(y), functions.sinh(elementwise.clamp(x, -40.0, 40.0))
    beta = 1 + tangent * tangent
    rho = functions.sqrt(1 + sine * sine)
    below = 1 + beta * sine * sine
    return beta * rho * sine / below, tangent / below


def _times_i(z: Tensor) -> Tensor:
    x, y = parts(z)
    return joined(unary.neg(y), x)


def _times_minus_i(z: Tensor) -> Tensor:
    x, y = parts(z)
    return joined(y, unary.neg(x))


complex_forms[ops.TAN] = lambda z: _times_minus_i(functions.tanh(_times_i(z)))


def _asinh(z: Tensor) -> Tensor:
    # log(z + sqrt(z^2 + 1)), from the side where nothing cancels; the function is odd.
    x, _ = parts(z)
    left = elementwise.plain_lt(x, 0)
    turned = elementwise.where(left, unary.neg(z), z)
    found = _log(turned + _root(turned * turned + 1))
    return elementwise.where(left, unary.neg(found), found)


def _atanh(z: Tensor) -> Tensor:
    return (functions.log1p(z) - functions.log1p(unary.neg(z))) * 0.5


def _acosh(z: Tensor) -> Tensor:
    return _log(z + _product(_root(z + 1), _root(z - 1)))


def _acos(z: Tensor) -> Tensor:
    x, y = parts(_asin(z))
    return joined(1.5707963267948966 - x, unary.neg(y))


def _asin(z: Tensor) -> Tensor:
    return _times_minus_i(_asinh(_times_i(z)))


complex_forms[ops.ASINH] = _asinh
complex_forms[ops.ATANH] = _atanh
complex_forms[ops.ACOSH] = _acosh
complex_forms[ops.ASIN] = _asin
complex_forms[ops.ACOS] = _acos
complex_forms[ops.ATAN] = lambda z: _times_minus_i(_atanh(_times_i(z)))


def _integer_power(z: Tensor, exponent: int) -> Tensor:
    """By repeated squaring."""
    if exponent < 0:
        return _quotient(functions.ones_like(z), _integer_power(z, -exponent))
    if exponent == 0:
        return functions.ones_like(z)
    return squared_repeatedly(z, exponent, _product)


_LARGEST_SQUARED = 64


def power(base: Any, exponent: Any) -> Tensor:
    """base ** exponent, where one of them or the result is complex; 0 ** 0 is 1."""
    if isinstance(exponent, (int, float)) and not isinstance(exponent, bool):
        whole = float(exponent).is_integer() and -_LARGEST_SQUARED <= exponent <= _LARGEST_SQUARED
        if whole and isinstance(base, Tensor):
            return label(_integer_power(base, int(exponent)), "PowBackward0")
        if exponent == 0.5 and isinstance(base, Tensor):
            return label(_root(base), "PowBackward0")
    (first, second), _ = combined((base, exponent))
    nothing = elementwise.plain_eq(first, 0)
    safe = elementwise.where(nothing, functions.ones_like(first), first)
    found = functions.exp(_product(second, _log(safe)))
    at_zero = cast(elementwise.plain_eq(second, 0), dtype_of(found))
    return label(elementwise.where(nothing, at_zero, found), "PowBackward1")


complex_forms[ops.POW] = power


functions.complex_parts = parts
functions.complex_power = power
functions.complex_sign = sign_of

__all__ = ["angle", "conj", "joined", "magnitude", "parts", "power", "scaled", "sign_of"]
