"""Distributions of real numbers: normal, uniform, exponential."""

from __future__ import annotations

import math
from typing import Any

import lazytorch as torch
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.distributions import constraints
from lazytorch.distributions.distribution import Distribution, as_parameters


class Normal(Distribution):
    """Mean ``loc`` and standard deviation ``scale``: density
    exp(-(x - loc)² / (2 scale²)) / (scale √(2π)).

    >>> Normal(0.0, 2.0).log_prob(torch.tensor(1.0))
    tensor(-1.7371)
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}  # noqa: RUF012
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = as_parameters(loc, scale)
        super().__init__(self.loc.shape, (), validate_args)

    mean = mode = property(lambda self: self.loc)
    stddev = property(lambda self: self.scale)
    variance = property(lambda self: self.scale.pow(2))

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Draws with a gradient to ``loc`` and ``scale``."""
        shape = self._shape(sample_shape)
        drawn = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + drawn * self.scale

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the density."""
        if self._validate_args:
            self._check_value(value)
        squared = (value - self.loc) ** 2 / (2 * self.scale**2)
        return -squared - self.scale.log() - math.log(math.sqrt(2 * math.pi))

    def cdf(self, value: Any) -> Any:
        """The probability of less than ``value``."""
        if self._validate_args:
            self._check_value(value)
        return 0.5 * (1 + torch.erf((value - self.loc) / (self.scale * math.sqrt(2))))

    def icdf(self, value: Any) -> Any:
        """The value below which ``value`` of the probability lies."""
        return self.loc + self.scale * torch.erfinv(2 * value - 1) * math.sqrt(2)

    def entropy(self) -> Any:
        """``(1 + log 2π) / 2 + log scale``."""
        return 0.5 + 0.5 * math.log(2 * math.pi) + torch.log(self.scale)


class Uniform(Distribution):
    """Equally likely everywhere in [low, high)."""

    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = as_parameters(low, high)
        self.arg_constraints = {
            "low": constraints.LessThan(self.high), "high": constraints.GreaterThan(self.low)
        }  # fmt: skip
        self.support = constraints.Interval(self.low, self.high)
        super().__init__(self.low.shape, (), validate_args)

    mean = property(lambda self: (self.high + self.low) / 2)
    variance = property(lambda self: (self.high - self.low).pow(2) / 12)

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Draws with a gradient to ``low`` and ``high``."""
        shape = self._shape(sample_shape)
        drawn = torch.rand(shape, dtype=self.low.dtype, device=self.low.device)
        return self.low + drawn * (self.high - self.low)

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the density: minus infinity outside."""
        if self._validate_args:
            self._check_value(value)
        inside = (self.low <= value) & (self.high > value)
        return torch.log(inside.to(self.low.dtype)) - torch.log(self.high - self.low)

    def cdf(self, value: Any) -> Any:
        """The probability of less than ``value``."""
        if self._validate_args:
            self._check_value(value)
        return ((value - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Any) -> Any:
        """The value below which ``value`` of the probability lies."""
        return value * (self.high - self.low) + self.low

    def entropy(self) -> Any:
        """``log(high - low)``."""
        return torch.log(self.high - self.low)


class Exponential(Distribution):
    """Density ``rate exp(-rate x)`` for x not below 0."""

    arg_constraints = {"rate": constraints.positive}  # noqa: RUF012
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = as_parameters(rate)
        super().__init__(self.rate.shape, (), validate_args)

    mean = stddev = property(lambda self: self.rate.reciprocal())
    mode = property(lambda self: torch.zeros_like(self.rate))
    variance = property(lambda self: self.rate.pow(-2))

    def rsample(self, sample_shape: Any = ()) -> Any:
        """Draws with a gradient to ``rate``."""
        with no_grad():
            drawn: Any = torch.empty(
                self._shape(sample_shape), dtype=self.rate.dtype, device=self.rate.device
            )
            drawn.exponential_()
        return drawn / self.rate

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the density."""
        if self._validate_args:
            self._check_value(value)
        return self.rate.log() - self.rate * value

    def cdf(self, value: Any) -> Any:
        """The probability of less than ``value``."""
        if self._validate_args:
            self._check_value(value)
        return 1 - torch.exp(-self.rate * value)

    def icdf(self, value: Any) -> Any:
        """The value below which ``value`` of the probability lies."""
        return -torch.log1p(-value) / self.rate

    def entropy(self) -> Any:
        """``1 - log rate``."""
        return 1.0 - torch.log(self.rate)
