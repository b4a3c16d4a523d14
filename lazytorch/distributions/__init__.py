"""torch.distributions: those that programs use most.

>>> kl_divergence(Normal(0.0, 1.0), Normal(1.0, 1.0))
tensor(0.5000)
"""

from __future__ import annotations

from lazytorch.distributions import constraints
from lazytorch.distributions.continuous import Exponential, Normal, Uniform
from lazytorch.distributions.discrete import Bernoulli, Categorical
from lazytorch.distributions.distribution import Distribution
from lazytorch.distributions.divergence import kl_divergence, register_kl

__all__ = [
    "Bernoulli", "Categorical", "Distribution", "Exponential", "Normal", "Uniform", "constraints",
    "kl_divergence", "register_kl",
]  # fmt: skip
