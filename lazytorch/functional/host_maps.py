"""The pattern of special functions: elementwise, by SciPy on the host, with PyTorch's dtypes.

Integers and bools are computed in the default dtype. 16-bit floats are computed in float32 and
rounded once where PyTorch takes them, and refused where it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.functional.composite import detached, narrowed, require_tensor, widened
from lazytorch.functional.host import on_host
from lazytorch.ops.elementwise import scipy_special
from lazytorch.tensor.apply import combined
from lazytorch.tensor.attach import public
from lazytorch.tensor.promotion import scalar_name
from lazytorch.tensor.tensor import Tensor

__all__ = ["host_value", "promoted", "scipy_special", "special_map"]


def promoted(kernel: str, operands: Sequence[Any], halves: bool) -> list[Tensor]:
    """Tensors and numbers in one real floating-point dtype; ``NotImplementedError`` for others."""
    values, dtype = combined(operands, floating=True)
    if dtype.kind == "c" or (dtype.itemsize == 2 and not halves):
        raise NotImplementedError(
            f"\"{kernel}_cpu\" not implemented for '{scalar_name(dtype)}': convert the input to a "
            "real floating-point dtype first, e.g. with .float()"
        )
    return values


def host_value(kernel: str, function: Callable[..., Any], *values: Tensor) -> Tensor:
    """``function`` of floating-point tensors of one dtype, in that dtype, without history."""
    wide = [widened(detached(value)) for value in values]
    return narrowed(on_host(kernel, function, *wide), values[0])


def special_map(
    name: str,
    function: Callable[..., Any],
    doc: str,
    *,
    gradient: Any = None,
    label: str = "",
    halves: bool = False,
    method: str = "",
    aliases: tuple[str, ...] = (),
) -> Callable[[Tensor], Tensor]:
    """Make ``torch.special.name`` public, a function of one tensor.

    ``gradient`` is the rule's formula (see ``autograd.rules``); without one the result never
    requires a gradient, as PyTorch has it. ``method`` is the name under which the function is
    also ``torch.method``, a method and an in-place method.
    """
    rule = Rule(label, (gradient,)) if gradient is not None else None

    def compute(input: Tensor) -> Tensor:
        require_tensor(input, method or f"special_{name}", "input", 1)
        (values,) = promoted(name, (input,), halves)
        out = host_value(name, function, values)
        return out if rule is None else attach(out, rule, (values,))

    compute.__name__ = compute.__qualname__ = method or name
    compute.__doc__ = doc
    public(f"special_{name}", method=False, aliases=aliases)(compute)
    if method:
        public(method, inplace=True)(compute)
    return compute
