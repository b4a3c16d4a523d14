"""What all distributions share: shapes, checks and the text they print as."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lazytorch as torch
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.tensor.attach import functions
from lazytorch.tensor.size import Size
from lazytorch.tensor.tensor import Tensor


class Distribution:
    """A distribution, or a batch of them.

    ``batch_shape`` is the shape of the parameters, ``event_shape`` that of one draw. Parameters,
    and values given to ``log_prob``, are checked, which computes them and waits;
    ``validate_args=False``, or ``Distribution.set_default_validate_args(False)``, looks at none.
    """

    has_rsample = False
    has_enumerate_support = False
    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 - subclasses have their own
    support: Any = None
    _validate_args = __debug__

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions made from now on check their arguments."""
        if value not in (True, False):
            raise ValueError(f"expected True or False, but got {value!r}")
        Distribution._validate_args = bool(value)

    def __init__(
        self,
        batch_shape: Sequence[int] = (),
        event_shape: Sequence[int] = (),
        validate_args: bool | None = None,
    ) -> None:
        self._batch_shape, self._event_shape = Size(batch_shape), Size(event_shape)
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            for name, constraint in self.arg_constraints.items():
                if name in self.__dict__:
                    self._check_parameter(name, constraint)

    def _check_parameter(self, name: str, constraint: Any) -> None:
        value: Any = getattr(self, name)
        valid = constraint.check(value)
        if not bool(valid.all()):
            raise ValueError(
                f"Expected parameter {name} ({type(value).__name__} of shape "
                f"{tuple(value.shape)}) of distribution {self!r} to satisfy the constraint "
                f"{constraint!r}, but found invalid values:\n{value}"
            )

    def _check_value(self, value: Any) -> None:
        if not isinstance(value, Tensor):
            raise ValueError("The value argument to log_prob must be a Tensor")
        event = len(self._event_shape)
        if event and tuple(value.shape[-event:]) != tuple(self._event_shape):
            raise ValueError(
                "The right-most size of value must match event_shape: "
                f"{value.shape} vs {self._event_shape}."
            )
        torch.broadcast_shapes(tuple(value.shape)[: value.dim() - event], tuple(self._batch_shape))
        if not bool(self.support.check(value).all()):
            raise ValueError(
                f"Expected value argument ({type(value).__name__} of shape "
                f"{tuple(value.shape)}) to be within the support ({self.support!r}) of the "
                f"distribution {self!r}, but found invalid values:\n{value}"
            )

    # Shapes -----------------------------------------------------------------------------------

    @property
    def batch_shape(self) -> Size:
        """The shape of the batch of distributions."""
        return self._batch_shape

    @property
    def event_shape(self) -> Size:
        """The shape of one draw from one of them."""
        return self._event_shape

    def _shape(self, sample_shape: Any) -> tuple[int, ...]:
        return (*sample_shape, *self._batch_shape, *self._event_shape)

    # What a subclass gives --------------------------------------------------------------------

    def sample(self, sample_shape: Any = ()) -> Any:
        """Draws of shape ``sample_shape + batch_shape + event_shape``, off the tape."""
        with no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Draws with a gradient to the parameters, where the distribution has them."""
        raise NotImplementedError(
            f"{type(self).__name__} has no rsample: its draws have no gradient; use sample() and "
            "log_prob()"
        )

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the density, or of the probability, at ``value``."""
        raise NotImplementedError

    def entropy(self) -> Any:
        """The entropy, in nats."""
        raise NotImplementedError

    @property
    def mean(self) -> Any:
        """The mean."""
        raise NotImplementedError

    @property
    def variance(self) -> Any:
        """The variance."""
        raise NotImplementedError

    @property
    def stddev(self) -> Any:
        """The standard deviation."""
        return self.variance.sqrt()

    def perplexity(self) -> Any:
        """The exponential of the entropy."""
        return torch.exp(self.entropy())

    def __repr__(self) -> str:
        names = [name for name in self.arg_constraints if name in self.__dict__]
        shown = []
        for name in names:
            value: Any = self.__dict__[name]
            shown.append(f"{name}: {value if value.numel() == 1 else value.size()}")
        return f"{type(self).__name__}({', '.join(shown)})"


def as_parameters(*values: Any) -> list[Any]:
    """Numbers and tensors as tensors of one shape, dtype and device."""
    given = [value for value in values if isinstance(value, Tensor)]
    like: Any = given[0] if given else functions.tensor(0.0)
    tensors = [
        value
        if isinstance(value, Tensor)
        else functions.tensor(float(value), dtype=like.dtype, device=like.device)
        for value in values
    ]
    return list(torch.broadcast_tensors(*tensors))
