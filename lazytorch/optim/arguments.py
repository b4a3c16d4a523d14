"""What constructors of optimizers check, with PyTorch's error classes."""

from __future__ import annotations

from typing import Any

from lazytorch.tensor.tensor import Tensor


def check_flags(foreach: bool | None, fused: bool | None, differentiable: bool) -> None:
    """Refuse what cannot be meant; the flags that only choose PyTorch's kernels change nothing."""
    if fused and differentiable:
        raise RuntimeError("`fused` does not support `differentiable`")
    if fused and foreach:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def check_at_least_zero(value: Any, what: str) -> None:
    """``ValueError`` for a negative (or NaN) option."""
    if not value >= 0.0:
        raise ValueError(f"Invalid {what}: {value}")


def check_learning_rate(lr: Any) -> None:
    """``ValueError`` for a negative rate or a tensor with more than one element."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    check_at_least_zero(lr, "learning rate")


def check_betas(betas: Any) -> None:
    """``ValueError`` for decay rates outside [0, 1)."""
    for place, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {place}: {beta}")


def check_adam_options(lr: Any, betas: Any, eps: float, weight_decay: float) -> None:
    """``ValueError`` for what Adam and its relatives refuse of the options they share."""
    check_learning_rate(lr)
    check_at_least_zero(eps, "epsilon value")
    check_betas(betas)
    check_at_least_zero(weight_decay, "weight_decay value")


def check_tensor_options(lr: Any, betas: Any, foreach: bool | None, capturable: bool) -> None:
    """``ValueError`` for what Adam refuses of a rate and decay rates given as tensors."""
    several = foreach and not capturable
    if isinstance(lr, Tensor) and several:
        raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
    if isinstance(betas[0], Tensor) != isinstance(betas[1], Tensor):
        raise ValueError("betas must be either both floats or both Tensors")
    for place, beta in enumerate(betas):
        if not isinstance(beta, (float, Tensor)):
            raise ValueError("betas must be either both floats or both Tensors")
        if isinstance(beta, Tensor) and several:
            raise ValueError(
                f"betas[{place}] as a Tensor is not supported for capturable=False and foreach=True"
            )
        if isinstance(beta, Tensor) and beta.numel() != 1:
            raise ValueError(f"Tensor betas[{place}] must be 1-element")
