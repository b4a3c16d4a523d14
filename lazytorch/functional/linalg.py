"""Matrix products and what is made of them, over the one primitive ``contract``.

A product is described by labels: each dimension of an operand carries a number, dimensions of
equal number run together, numbers missing from the result are summed over, and ``None`` marks a
dimension of size 1 that repeats. The gradient of a labelled product is a labelled product, so
one function serves both ways, to any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lazytorch import dtypes
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.naming import shown_as
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach, label
from lazytorch.functional.elementwise import plain_add, plain_mul
from lazytorch.ops import contraction, elementwise, movement
from lazytorch.ops.shapes import broadcast, normalize_axis
from lazytorch.tensor.apply import common_device
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.autocast import cast_in_regions, cast_method
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.recorder import record
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

Labels = tuple[int | None, ...]


def labelled(
    first: Tensor, second: Tensor, labels: tuple[Labels, Labels, Labels], rule: Rule | None = None
) -> Tensor:
    """The sum of products over labels that the result (third of ``labels``) does not carry."""
    out = fresh(_labelled_node(first, second, labels), common_device((first, second)))
    return attach(out, rule or _plain_rule, (first, second), (labels,))


_forms: dict[Any, tuple[Any, ...]] = {}
_FORMS_KEPT = 4096


def _labelled_node(first: Tensor, second: Tensor, labels: tuple[Labels, Labels, Labels]) -> Any:
    a, b = node_of(first), node_of(second)
    if a.dtype.kind == "c" and b.dtype is a.dtype:
        return _complex_contraction(a, b, labels)
    return _contracted(a, b, labels)


def _complex_contraction(a: Any, b: Any, labels: tuple[Labels, Labels, Labels]) -> Any:
    """Four contractions of the parts: kernels of products know real numbers only."""
    part = a.dtype.real

    def take(op: Any, node: Any) -> Any:
        return record(op, (node,), (), node.shape, part, node.device)

    def combine(op: Any, first: Any, second: Any, dtype: Any) -> Any:
        return record(op, (first, second), (), first.shape, dtype, first.device)

    real, imaginary = elementwise.REAL, elementwise.IMAGINARY
    a_real, a_imaginary = take(real, a), take(imaginary, a)
    b_real, b_imaginary = take(real, b), take(imaginary, b)
    above = combine(
        elementwise.SUB,
        _contracted(a_real, b_real, labels),
        _contracted(a_imaginary, b_imaginary, labels),
        part,
    )
    beside = combine(
        elementwise.ADD,
        _contracted(a_real, b_imaginary, labels),
        _contracted(a_imaginary, b_real, labels),
        part,
    )
    return combine(elementwise.COMPLEX, above, beside, a.dtype)


def _contracted(a: Any, b: Any, labels: tuple[Labels, Labels, Labels]) -> Any:
    key = (a.shape, b.shape, a.dtype, b.dtype, labels)
    form = _forms.get(key)
    if form is None:
        if len(_forms) >= _FORMS_KEPT:
            _forms.clear()
        form = _forms[key] = _contraction(a, b, labels)
    attrs, shape, full = form
    out = record(contraction.CONTRACT, (a, b), attrs, shape, a.dtype, a.device)
    if full is not None:
        out = record(movement.RESHAPE, (out,), (full,), full, a.dtype, a.device)
    return out


def _contraction(a: Any, b: Any, labels: tuple[Labels, Labels, Labels]) -> tuple[Any, ...]:
    """(attributes, shape, shape with repeating dimensions if there are any)."""
    if a.dtype is not b.dtype:
        raise RuntimeError(
            "expected m1 and m2 to have the same dtype, but got: "
            f"{c_name(a.dtype)} != {c_name(b.dtype)}"
        )
    if a.dtype is dtypes.bool_:
        raise NotImplementedError("\"addmm_impl_cpu_\" not implemented for 'Bool'")
    extents: dict[int, int] = {}
    for node, names in ((a, labels[0]), (b, labels[1])):
        for name, extent in zip(names, node.shape):
            if name is not None:
                extents[name] = extent
    kept = [name for name in labels[2] if name is not None]
    axes = {name: number for number, name in enumerate(kept)}
    for name in extents:
        axes.setdefault(name, len(axes))
    sizes = tuple(extents[name] for name in axes)
    attrs = (
        sizes, tuple(range(len(kept))),
        tuple(() if name is None else ((axes[name], 1),) for name in labels[0]),
        tuple(() if name is None else ((axes[name], 1),) for name in labels[1]),
    )  # fmt: skip
    full = None
    if len(kept) != len(labels[2]):
        full = tuple(1 if name is None else extents[name] for name in labels[2])
    return attrs, sizes[: len(kept)], full


def c_name(dtype: Any) -> str:
    """The name of a dtype in C++, as PyTorch's messages about products have it."""
    names = {
        "float32": "float", "float64": "double", "float16": "c10::Half",
        "bfloat16": "c10::BFloat16", "int64": "long", "int32": "int",
    }  # fmt: skip
    return names.get(dtype.name, scalar_name(dtype).lower())


def _first_gradient(g: Any, y: Any, attrs: Any) -> Any:
    (first, second, out) = attrs[0]
    return labelled(g, y, (out, second, first))


def _second_gradient(g: Any, x: Any, attrs: Any) -> Any:
    (first, second, out) = attrs[0]
    return labelled(x, g, (first, out, second))


def product_rule(name: str) -> Rule:
    """The rule of a labelled product under the name of a function."""
    return Rule(name, (_first_gradient, _second_gradient))


_plain_rule = product_rule("BmmBackward0")
_mm_rule = product_rule("MmBackward0")
_mv_rule = product_rule("MvBackward0")
_dot_rule = product_rule("DotBackward0")
_matmul_rule = product_rule("UnsafeViewBackward0")


def _matmul_labels(a: Sequence[int], b: Sequence[int]) -> tuple[Labels, Labels, Labels]:
    """Labels of PyTorch's matmul: row -1, shared -2, column -3, batch dimensions from 0 on."""
    batch_a, batch_b = a[:-2], b[:-2]
    rank = max(len(batch_a), len(batch_b))
    shape = broadcast((tuple(batch_a), tuple(batch_b))) if rank else ()
    names_a: list[int | None] = []
    names_b: list[int | None] = []
    for names, batch in ((names_a, batch_a), (names_b, batch_b)):
        for place, extent in enumerate(batch, rank - len(batch)):
            names.append(place if extent == shape[place] and extent != 1 else None)
    ones = [place if extent != 1 else None for place, extent in enumerate(shape)]
    names_a += [-2] if len(a) == 1 else [-1, -2]
    names_b += [-2] if len(b) == 1 else [-2, -3]
    out: list[int | None] = list(ones)
    out += [] if len(a) == 1 else [-1]
    out += [] if len(b) == 1 else [-3]
    return tuple(names_a), tuple(names_b), tuple(out)


_label_cache: dict[Any, tuple[Labels, Labels, Labels]] = {}
_MATMUL_RULES = {(1, 1): _dot_rule, (2, 1): _mv_rule, (2, 2): _mm_rule, (3, 3): _plain_rule}


@public()
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product, as ``input @ other``; leading dimensions are batches that broadcast.

    (n,) with (n,) gives a number, (n, k) with (k,) a vector, (.., n, k) with (.., k, m) gives
    (.., n, m).
    """
    for name, operand in (("input", input), ("other", other)):
        if not isinstance(operand, Tensor):
            raise TypeError(
                f"matmul(): argument '{name}' must be Tensor, not {type(operand).__name__}"
            )
    a, b = shape_of(input), shape_of(other)
    if not a or not b:
        raise RuntimeError(
            f"both arguments to matmul need to be at least 1D, but they are {len(a)}D and {len(b)}D"
        )
    inner = b[0] if len(b) == 1 else b[-2]
    if a[-1] != inner:
        raise RuntimeError(_mismatch(a, b))
    labels = _label_cache.get((a, b))
    if labels is None:
        if len(_label_cache) >= _FORMS_KEPT:
            _label_cache.clear()
        labels = _label_cache[a, b] = _matmul_labels(a, b)
    return labelled(input, other, labels, _MATMUL_RULES.get((len(a), len(b)), _matmul_rule))


def _mismatch(a: Sequence[int], b: Sequence[int]) -> str:
    if len(a) == 1 and len(b) == 1:
        return (
            "inconsistent tensor size, expected tensor "
            f"{list(a)} and src {list(b)} to have the same number of elements"
        )
    if len(a) > 2 and len(b) > 2:
        return (
            f"Expected size for first two dimensions of batch2 tensor to match: cannot multiply "
            f"batches of shapes {list(a)} and {list(b)}"
        )
    left = f"{_product(a[:-1])}x{a[-1]}"
    right = f"{b[-2]}x{b[-1]}" if len(b) > 1 else f"{b[0]}"
    return f"mat1 and mat2 shapes cannot be multiplied ({left} and {right})"


def _product(extents: Sequence[int]) -> int:
    result = 1
    for extent in extents:
        result *= extent
    return result


def _checked_rank(function: str, *operands: tuple[str, Tensor, int]) -> None:
    for name, operand, rank in operands:
        if len(shape_of(operand)) != rank:
            kinds = {1: "a vector (1D)", 2: "a matrix (2D)", 3: "a 3D tensor"}
            raise RuntimeError(
                f"{function}: {name} must be {kinds[rank]}, but it has shape "
                f"{list(shape_of(operand))}"
            )


@public()
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices."""
    _checked_rank("mm", ("self", input, 2), ("mat2", mat2, 2))
    return matmul(input, mat2)


@public()
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices, (b, n, k) with (b, k, m)."""
    _checked_rank("bmm", ("batch1", input, 3), ("batch2", mat2, 3))
    a, b = shape_of(input), shape_of(mat2)
    if a[0] != b[0] or a[2] != b[1]:
        raise RuntimeError(
            "Expected size for first two dimensions of batch2 tensor to be: "
            f"[{a[0]}, {a[2]}] but got: [{b[0]}, {b[1]}]."
        )
    return matmul(input, mat2)


@public()
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix and a vector."""
    _checked_rank("mv", ("self", input, 2), ("vec", vec, 1))
    if shape_of(input)[1] != shape_of(vec)[0]:
        raise RuntimeError(
            f"size mismatch, got input ({shape_of(input)[0]}), mat "
            f"({shape_of(input)[0]}x{shape_of(input)[1]}), vec ({shape_of(vec)[0]})"
        )
    return matmul(input, vec)


@public()
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The sum of products of two vectors."""
    if len(shape_of(input)) != 1 or len(shape_of(tensor)) != 1:
        raise RuntimeError(
            f"1D tensors expected, but got {len(shape_of(input))}D and {len(shape_of(tensor))}D "
            "tensors"
        )
    first, second = dtype_of(input), dtype_of(tensor)
    if first is not second:
        raise RuntimeError(
            f"dot : expected both vectors to have same dtype, but found {scalar_name(first)} and "
            f"{scalar_name(second)}"
        )
    return matmul(input, tensor)


@public(aliases=("ger",))
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of the elements of two vectors, (n,) with (m,) to (n, m)."""
    _checked_rank("outer", ("self", input, 1), ("vec2", vec2, 1))
    return plain_mul(functions.unsqueeze(input, 1), vec2)


def _inner_name(input: Tensor, other: Tensor) -> str:
    return "ViewBackward0" if input.ndim and other.ndim else "MulBackward0"


@public()
@shown_as(_inner_name)
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Sums of products over the last dimensions of both."""
    a, b = shape_of(input), shape_of(other)
    if not a or not b:
        return plain_mul(input, other)
    if a[-1] != b[-1]:
        raise RuntimeError(
            "inner() the last dimension must match on both input tensors but got shapes "
            f"{list(a)} and {list(b)}"
        )
    first = (*range(len(a) - 1), -1)
    second = (*range(len(a), len(a) + len(b) - 1), -1)
    return labelled(input, other, (first, second, first[:-1] + second[:-1]))


@public(method=False)
@shown_as("ViewBackward0")
def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """Sums of products over the last ``dims`` dimensions of ``a`` and first of ``b``, or over
    two lists of dimensions."""
    shape_a, shape_b = shape_of(a), shape_of(b)
    if isinstance(dims, Tensor):
        dims = dims.tolist()  # type: ignore[attr-defined]
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        pairs_a = list(range(len(shape_a) - dims, len(shape_a)))
        pairs_b = list(range(dims))
    else:
        pairs_a = [normalize_axis(axis, len(shape_a)) for axis in dims[0]]
        pairs_b = [normalize_axis(axis, len(shape_b)) for axis in dims[1]]
    names_a = list(range(len(shape_a)))
    names_b = list(range(len(shape_a), len(shape_a) + len(shape_b)))
    for first, second in zip(pairs_a, pairs_b):
        # As in PyTorch, a dimension of size 1 goes with any other: that one is summed first.
        if shape_a[first] == 1 and shape_b[second] != 1:
            b = functions.sum(b, second, keepdim=True)
        elif shape_b[second] == 1 and shape_a[first] != 1:
            a = functions.sum(a, first, keepdim=True)
        elif shape_a[first] != shape_b[second]:
            raise RuntimeError(
                "contracted dimensions need to match, but first has size "
                f"{shape_a[first]} in dim {first} and second has size {shape_b[second]} in dim "
                f"{second}"
            )
        names_b[second] = names_a[first]
    out = [name for axis, name in enumerate(names_a) if axis not in pairs_a]
    out += [name for axis, name in enumerate(names_b) if axis not in pairs_b]
    return labelled(a, b, (tuple(names_a), tuple(names_b), tuple(out)))


# linear: input (.., k), weight (n, k), bias (n) -----------------------------------------------


_linear_rule = Rule(
    "AddmmBackward0",
    (
        lambda g, y, attrs: labelled(g, y, (attrs[0][2], attrs[0][1], attrs[0][0])),
        lambda g, x, attrs: labelled(g, x, (attrs[0][2], attrs[0][0], attrs[0][1])),
        lambda g: g,
    ),
)


# PyTorch multiplies more than two dimensions as two and views the result.
_viewed_linear_rule = _linear_rule.under("ViewBackward0")


@cast_in_regions
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``input @ weight.T + bias``: input (.., k), weight (n, k) or (k,), bias (n,) or none."""
    a, b = shape_of(input), shape_of(weight)
    if not a or len(b) not in (1, 2):
        raise RuntimeError(
            f"linear(): input must have at least 1 dimension and weight 1 or 2, but their shapes "
            f"are {list(a)} and {list(b)}"
        )
    if a[-1] != b[-1]:
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({_product(a[:-1])}x{a[-1]} and "
            f"{b[-1]}x{b[0] if len(b) == 2 else 1}): input has {a[-1]} features, weight expects "
            f"{b[-1]}"
        )
    batch = tuple(range(len(a) - 1))
    rows: Labels = (-3,) if len(b) == 2 else ()
    labels = ((*batch, -2), (*rows, -2), (*batch, *rows))
    if bias is None:
        return labelled(input, weight, labels, _mm_rule if len(a) == 2 else _matmul_rule)
    with no_grad():
        out = plain_add(labelled(input, weight, labels), bias)
    rule = _linear_rule if len(a) == 2 else _viewed_linear_rule
    return attach(out, rule, (input, weight, bias), (labels,))


functions.linear = linear


def _bilinear_name(a: Tensor, b: Tensor, weight: Tensor, bias: Any = None) -> str:
    return "ViewBackward0" if bias is None else "AddBackward0"


@public(method=False)
@shown_as(_bilinear_name)
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Any = None) -> Tensor:
    """``input1 @ weight[k] @ input2`` for each k: weight (out, n, m)."""
    rank = len(shape_of(input1))
    batch = tuple(range(rank - 1))
    half = labelled(input1, weight, ((*batch, -1), (-3, -1, -2), (*batch, -3, -2)))
    out = labelled(half, input2, ((*batch, -3, -2), (*batch, -2), (*batch, -3)))
    return out if bias is None else plain_add(out, bias)


# Sums of a tensor and a product ---------------------------------------------------------------


def _scaled(tensor: Tensor, factor: Any) -> Tensor:
    return tensor if not isinstance(factor, Tensor) and factor == 1 else plain_mul(tensor, factor)


def _with_product(input: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    dtype = dtype_of(product)
    if dtype.kind in "iub":
        # PyTorch converts the factors to the tensors' type.
        kind = bool if dtype.kind == "b" else int
        beta, alpha = (f if isinstance(f, Tensor) else kind(f) for f in (beta, alpha))
    product = _scaled(product, alpha)
    if not isinstance(beta, Tensor) and beta == 0:
        return product
    if broadcast((shape_of(input), shape_of(product))) != shape_of(product):
        raise RuntimeError(
            f"The expanded size of the tensor ({list(shape_of(product))}) must match the existing "
            f"size ({list(shape_of(input))})"
        )
    return plain_add(_scaled(input, beta), product)


_addmm_rule = Rule(
    "AddmmBackward0",
    (
        lambda g: g,
        lambda g, z, attrs: labelled(g, z, (attrs[0][2], attrs[0][1], attrs[0][0])),
        lambda g, y, attrs: labelled(y, g, (attrs[0][0], attrs[0][2], attrs[0][1])),
    ),
)


@public(inplace=True)
@shown_as("AddmmBackward0")
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * (mat1 @ mat2)``."""
    _checked_rank("addmm", ("mat1", mat1, 2), ("mat2", mat2, 2))
    if shape_of(mat1)[1] != shape_of(mat2)[0]:
        raise RuntimeError(_mismatch(shape_of(mat1), shape_of(mat2)))
    if beta == 1 and alpha == 1:
        labels: Any = ((-1, -2), (-2, -3), (-1, -3))
        with no_grad():
            out = _with_product(input, labelled(mat1, mat2, labels), 1, 1)
        return attach(out, _addmm_rule, (input, mat1, mat2), (labels,))
    return _with_product(input, mm(mat1, mat2), beta, alpha)


@public(inplace=True)
@shown_as("BaddbmmBackward0")
def baddbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1
) -> Tensor:
    """``beta * input + alpha * (batch1 @ batch2)``, matrix by matrix."""
    return _with_product(input, bmm(batch1, batch2), beta, alpha)


@public(inplace=True)
@shown_as("AddbmmBackward0")
def addbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1
) -> Tensor:
    """``beta * input + alpha * sum(batch1 @ batch2)`` over the batch."""
    _checked_rank("addbmm", ("batch1", batch1, 3), ("batch2", batch2, 3))
    product = labelled(batch1, batch2, ((0, -1, -2), (0, -2, -3), (-1, -3)))
    return _with_product(input, product, beta, alpha)


@public(inplace=True)
@shown_as("AddmvBackward0")
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * (mat @ vec)``."""
    return _with_product(input, mv(mat, vec), beta, alpha)


@public(inplace=True)
@shown_as("AddrBackward0")
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """``beta * input + alpha * outer(vec1, vec2)``."""
    return _with_product(input, outer(vec1, vec2), beta, alpha)


@public()
def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    _checked_rank("trace", ("self", input, 2))
    return label(functions.sum(functions.diagonal(input)), "TraceBackward0")


def _operator(self: Tensor, other: Any) -> Any:
    return matmul(self, other) if isinstance(other, Tensor) else NotImplemented


_members: Any = Tensor
_members.__matmul__ = _operator
cast_method("__matmul__", "matmul")
_members.__imatmul__ = lambda self, other: functions.assign_result(
    self, matmul(functions.snapshot(self), other)
)


def squared_repeatedly(base: Tensor, exponent: int, multiply: Callable[..., Tensor]) -> Tensor:
    """``base`` multiplied ``exponent`` (at least 1) times, by squaring: O(log n) products."""
    result: Tensor | None = None
    while True:
        if exponent & 1:
            result = base if result is None else multiply(result, base)
        exponent >>= 1
        if not exponent:
            assert result is not None
            return result
        base = multiply(base, base)
