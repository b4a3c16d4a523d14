"""Limits on the gradients of many parameters together; nothing here looks at a value."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import lazytorch as torch
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.tensor.attach import functions
from lazytorch.tensor.tensor import Tensor


def _as_list(parameters: Any) -> list[Tensor]:
    return [parameters] if isinstance(parameters, Tensor) else list(parameters)


def get_total_norm(
    tensors: Any,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """The norm of all tensors as if they were one vector, as a 0-d tensor."""
    values = _as_list(tensors)
    norm_type = float(norm_type)
    if not values:
        return functions.tensor(0.0)
    with no_grad():
        device = values[0].device
        norms = torch.stack(
            [torch.linalg.vector_norm(value, norm_type).to(device=device) for value in values]
        )
        total = torch.linalg.vector_norm(norms, norm_type)
    if error_if_nonfinite and bool(torch.logical_or(total.isnan(), total.isinf())):
        raise RuntimeError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, "
            "so it cannot be clipped. To disable this error and scale the gradients by the "
            "non-finite norm anyway, set `error_if_nonfinite=False`"
        )
    return total


def clip_grads_with_norm_(
    parameters: Any, max_norm: float, total_norm: Tensor, foreach: bool | None = None
) -> None:
    """Scale the gradients in place so that ``total_norm`` would become at most ``max_norm``."""
    gradients = [p.grad for p in _as_list(parameters) if p.grad is not None]
    with no_grad():
        # Multiplying by 1 where nothing has to be clipped avoids looking at the norm.
        factor = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(factor.to(device=gradient.device))


def clip_grad_norm_(
    parameters: Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients in place so that their common norm is at most ``max_norm``.

    Returns the norm before clipping. ``error_if_nonfinite`` looks at the value, the default
    does not.

    >>> p = nn.Parameter(torch.ones(4)); p.grad = torch.full((4,), 3.0)
    >>> nn.utils.clip_grad_norm_([p], 1.0)
    tensor(6.)
    """
    values = _as_list(parameters)
    gradients = [p.grad for p in values if p.grad is not None]
    total_norm = get_total_norm(gradients, norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(values, max_norm, total_norm, foreach)
    return total_norm


def clip_grad_norm(
    parameters: Any,
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Deprecated name of :func:`clip_grad_norm_`."""
    warnings.warn(
        "`torch.nn.utils.clip_grad_norm` is now deprecated in favor of "
        "`torch.nn.utils.clip_grad_norm_`.",
        FutureWarning,
        stacklevel=2,
    )
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Limit every entry of every gradient to [−clip_value, clip_value], in place."""
    limit = float(clip_value)
    gradients: Iterable[Any] = [p.grad for p in _as_list(parameters) if p.grad is not None]
    with no_grad():
        for gradient in gradients:
            gradient.clamp_(min=-limit, max=limit)
