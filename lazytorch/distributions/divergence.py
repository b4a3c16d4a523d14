"""kl_divergence: how far one distribution is from another.

S. Kullback, R. Leibler, "On information and sufficiency", 1951: the mean, under the first, of the
logarithm of the quotient of the densities.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lazytorch as torch
from lazytorch.distributions.continuous import Exponential, Normal, Uniform
from lazytorch.distributions.discrete import Bernoulli, Categorical
from lazytorch.nn import functional as F

_known: dict[tuple[type, type], Callable[[Any, Any], Any]] = {}


def register_kl(type_p: type, type_q: type) -> Callable[[Any], Any]:
    """Decorate the function that computes the divergence for two classes and their subclasses."""

    def decorate(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        _known[type_p, type_q] = function
        return function

    return decorate


def kl_divergence(p: Any, q: Any) -> Any:
    """The divergence of ``p`` from ``q``, of the shape of their batches.

    ``NotImplementedError`` for classes that no function is registered for.
    """
    for first in type(p).__mro__:
        for second in type(q).__mro__:
            if (first, second) in _known:
                return _known[first, second](p, q)
    raise NotImplementedError(
        f"No KL(p || q) is implemented for p type {type(p).__name__} and q type "
        f"{type(q).__name__}: register one with torch.distributions.register_kl"
    )


@register_kl(Normal, Normal)
def _normal(p: Any, q: Any) -> Any:
    ratio = (p.scale / q.scale).pow(2)
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale).pow(2) - 1 - ratio.log())


@register_kl(Uniform, Uniform)
def _uniform(p: Any, q: Any) -> Any:
    result = torch.log((q.high - q.low) / (p.high - p.low))
    return result.masked_fill((q.low > p.low) | (q.high < p.high), float("inf"))


@register_kl(Exponential, Exponential)
def _exponential(p: Any, q: Any) -> Any:
    ratio = q.rate / p.rate
    return ratio - ratio.log() - 1


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Any, q: Any) -> Any:
    there = p.probs * (F.softplus(-q.logits) - F.softplus(-p.logits))
    there = there.masked_fill(q.probs == 0, float("inf")).masked_fill(p.probs == 0, 0)
    absent = (1 - p.probs) * (F.softplus(q.logits) - F.softplus(p.logits))
    return there + absent.masked_fill(q.probs == 1, float("inf")).masked_fill(p.probs == 1, 0)


@register_kl(Categorical, Categorical)
def _categorical(p: Any, q: Any) -> Any:
    terms = p.probs * (p.logits - q.logits)
    terms = terms.masked_fill(q.probs == 0, float("inf")).masked_fill(p.probs == 0, 0)
    return terms.sum(-1)
