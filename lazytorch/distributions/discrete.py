"""Distributions over a few outcomes: Bernoulli, categorical."""

from __future__ import annotations

from typing import Any

import lazytorch as torch
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.distributions import constraints
from lazytorch.distributions.distribution import Distribution, as_parameters
from lazytorch.nn import functional as F


def _one_of(probs: Any, logits: Any) -> None:
    if (probs is None) == (logits is None):
        raise ValueError("Either `probs` or `logits` must be specified, but not both.")


class Bernoulli(Distribution):
    """1 with probability ``probs`` (or the sigmoid of ``logits``), else 0.

    >>> Bernoulli(torch.tensor([0.0, 1.0])).sample()
    tensor([0., 1.])
    """

    arg_constraints = {  # noqa: RUF012
        "probs": constraints.unit_interval, "logits": constraints.real
    }  # fmt: skip
    support = constraints.boolean

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        _one_of(probs, logits)
        if logits is None:
            (self.probs,) = as_parameters(probs)
        else:
            (self.logits,) = as_parameters(logits)
        given = self.logits if probs is None else self.probs
        super().__init__(given.shape, (), validate_args)

    def __getattr__(self, name: str) -> Any:
        """The parameter that was not given, from the one that was; it does not print."""
        if name == "probs":
            return torch.sigmoid(self.__dict__["logits"])
        if name == "logits":
            probs = self.__dict__["probs"]
            tiny = torch.finfo(probs.dtype).eps
            kept = probs.clamp(min=tiny, max=1 - tiny)
            return torch.log(kept) - torch.log1p(-kept)
        raise AttributeError(f"'{type(self).__name__}' object has no attribute {name!r}")

    mean = property(lambda self: self.probs)
    mode = property(lambda self: (self.probs >= 0.5).to(self.probs))
    variance = property(lambda self: self.probs * (1 - self.probs))

    def sample(self, sample_shape: Any = ()) -> Any:
        """Draws, as numbers of the parameter's dtype."""
        with no_grad():
            return torch.bernoulli(self.probs.expand(self._shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the probability."""
        if self._validate_args:
            self._check_value(value)
        logits, wanted = torch.broadcast_tensors(self.logits, value)
        return -F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")

    def entropy(self) -> Any:
        """The cross-entropy of the distribution with itself."""
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none")


class Categorical(Distribution):
    """Outcome i of the last dimension with a probability proportional to ``probs[i]``, or to the
    exponential of ``logits[i]``.

    >>> Categorical(torch.tensor([1.0, 3.0])).log_prob(torch.tensor(1)).exp()
    tensor(0.7500)
    """

    arg_constraints = {  # noqa: RUF012
        "probs": constraints.simplex, "logits": constraints.real_vector
    }  # fmt: skip

    def __init__(
        self, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        _one_of(probs, logits)
        name, given = ("probs", probs) if logits is None else ("logits", logits)
        if given.dim() < 1:
            raise ValueError(f"`{name}` parameter must be at least one-dimensional.")
        if logits is None:
            self.probs = probs / probs.sum(-1, keepdim=True)
        else:
            self.logits = logits - logits.logsumexp(dim=-1, keepdim=True)
        self._num_events = given.shape[-1]
        self.support = constraints.IntegerInterval(0, self._num_events - 1)
        super().__init__(given.shape[:-1], (), validate_args)

    def __getattr__(self, name: str) -> Any:
        """The parameter that was not given, from the one that was; it does not print."""
        if name == "probs":
            return F.softmax(self.__dict__["logits"], -1)
        if name == "logits":
            probs = self.__dict__["probs"]
            tiny = torch.finfo(probs.dtype).eps
            return torch.log(probs.clamp(min=tiny, max=1 - tiny))
        raise AttributeError(f"'{type(self).__name__}' object has no attribute {name!r}")

    @property
    def mean(self) -> Any:
        """NaN: outcomes are names, not numbers."""
        return torch.full(tuple(self._batch_shape), float("nan"), dtype=self.probs.dtype)

    variance = mean
    mode = property(lambda self: self.probs.argmax(dim=-1))

    def sample(self, sample_shape: Any = ()) -> Any:
        """Draws, as int64."""
        with no_grad():
            rows = self.probs.reshape(-1, self._num_events)
            count = 1
            for extent in sample_shape:
                count *= extent
            drawn = torch.multinomial(rows, count, True).transpose(0, 1)
            return drawn.reshape(self._shape(sample_shape))

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the probability."""
        if self._validate_args:
            self._check_value(value)
        wanted, logits = torch.broadcast_tensors(value.long().unsqueeze(-1), self.logits)
        return logits.gather(-1, wanted[..., :1]).squeeze(-1)

    def entropy(self) -> Any:
        """``-sum p log p``."""
        logits = self.logits.clamp(min=torch.finfo(self.logits.dtype).min)
        return -(logits * self.probs).sum(-1)
