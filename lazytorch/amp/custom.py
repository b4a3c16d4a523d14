"""Decorators for the two halves of a ``torch.autograd.Function`` used in ``autocast`` regions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from lazytorch import dtypes
from lazytorch.dtypes import DType
from lazytorch.functional.autocast import autocast, get_autocast_dtype, is_autocast_enabled
from lazytorch.tensor.storage import dtype_of
from lazytorch.tensor.tensor import Tensor


def _cast(value: Any, kind: str, dtype: DType) -> Any:
    """Floating-point tensors (float64 excepted) of a kind of device, in containers too."""
    if isinstance(value, Tensor):
        own = dtype_of(value)
        eligible = own.kind == "f" and own is not dtypes.float64 and value._device.type == kind
        return value.to(dtype) if eligible else value
    if isinstance(value, Mapping):
        return {key: _cast(item, kind, dtype) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(item, kind, dtype) for item in value)
    return value


def custom_fwd(
    fwd: Callable[..., Any] | None = None,
    *,
    device_type: str,
    cast_inputs: DType | None = None,
) -> Any:
    """Decorate ``forward``: it notes the region it runs in, for ``custom_bwd``.

    With ``cast_inputs`` its floating-point tensors are cast to that dtype when it runs in a region,
    and nothing inside chooses a dtype; outside of regions it runs as it is.

    >>> class Product(torch.autograd.Function):
    ...     @staticmethod
    ...     @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    ...     def forward(ctx, a, b):
    ...         ctx.save_for_backward(a, b)
    ...         return a @ b
    """
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)
    forward = fwd

    @functools.wraps(forward)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        ctx, inside = args[0], is_autocast_enabled(device_type)
        ctx._dtype = get_autocast_dtype(device_type)
        ctx._fwd_used_autocast = inside and cast_inputs is None
        if cast_inputs is None or not inside:
            return forward(*args, **kwargs)
        with autocast(device_type, enabled=False):
            given = _cast(args[1:], device_type, cast_inputs)
            return forward(ctx, *given, **_cast(kwargs, device_type, cast_inputs))

    return decorated


def custom_bwd(bwd: Callable[..., Any] | None = None, *, device_type: str) -> Any:
    """Decorate ``backward``: it runs in the region its ``custom_fwd`` ran in."""
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)
    backward = bwd

    @functools.wraps(backward)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        ctx = args[0]
        with autocast(device_type, enabled=ctx._fwd_used_autocast, dtype=ctx._dtype):
            return backward(*args, **kwargs)

    return decorated
