"""torch.distributions.constraints: which values a parameter or a sample may have."""

from __future__ import annotations

from typing import Any


class Constraint:
    """A set of values; ``check`` tells, for each value (or vector), whether it is in the set."""

    event_dim = 0
    is_discrete = False

    def check(self, value: Any) -> Any:
        """Where values are in the set, as a bool tensor."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return type(self).__name__ + "()"


class Real(Constraint):
    """Numbers that are not NaN."""

    def check(self, value: Any) -> Any:
        """Where values are numbers."""
        return value == value


class RealVector(Real):
    """Vectors of numbers that are not NaN."""

    event_dim = 1

    def check(self, value: Any) -> Any:
        """Where all entries are numbers."""
        return (value == value).all(-1)


class Boolean(Constraint):
    """0 and 1."""

    is_discrete = True

    def check(self, value: Any) -> Any:
        """Where values are 0 or 1."""
        return (value == 0) | (value == 1)


class Simplex(Constraint):
    """Vectors of numbers that are not negative and sum to 1."""

    event_dim = 1

    def check(self, value: Any) -> Any:
        """Where vectors sum to 1, up to 1e-6, and no entry is negative."""
        return (value >= 0).all(-1) & ((value.sum(-1) - 1).abs() < 1e-6)


class _Bounded(Constraint):
    def __init__(self, **bounds: Any) -> None:
        self._bounds = bounds
        vars(self).update(bounds)

    def __repr__(self) -> str:
        bounds = ", ".join(f"{name}={value}" for name, value in self._bounds.items())
        return f"{type(self).__name__}({bounds})"


class GreaterThan(_Bounded):
    """Numbers above a bound."""

    def __init__(self, lower_bound: Any) -> None:
        super().__init__(lower_bound=lower_bound)

    def check(self, value: Any) -> Any:
        """Where values are above the bound."""
        return value > self._bounds["lower_bound"]


class GreaterThanEq(GreaterThan):
    """Numbers not below a bound."""

    def check(self, value: Any) -> Any:
        """Where values are not below the bound."""
        return value >= self._bounds["lower_bound"]


class LessThan(_Bounded):
    """Numbers below a bound."""

    def __init__(self, upper_bound: Any) -> None:
        super().__init__(upper_bound=upper_bound)

    def check(self, value: Any) -> Any:
        """Where values are below the bound."""
        return value < self._bounds["upper_bound"]


class Interval(_Bounded):
    """Numbers between two bounds, which belong to it."""

    def __init__(self, lower_bound: Any, upper_bound: Any) -> None:
        super().__init__(lower_bound=lower_bound, upper_bound=upper_bound)

    def check(self, value: Any) -> Any:
        """Where values are between the bounds."""
        return (value >= self._bounds["lower_bound"]) & (value <= self._bounds["upper_bound"])


class IntegerInterval(Interval):
    """Integers between two bounds, which belong to it."""

    is_discrete = True

    def check(self, value: Any) -> Any:
        """Where values are integers between the bounds."""
        return (value % 1 == 0) & super().check(value)


real, real_vector, boolean, simplex = Real(), RealVector(), Boolean(), Simplex()
positive = GreaterThan(0.0)
nonnegative = GreaterThanEq(0.0)
unit_interval = Interval(0.0, 1.0)
less_than, greater_than, interval, integer_interval = (
    LessThan,
    GreaterThan,
    Interval,
    IntegerInterval,
)
