"""torch.distributions beside PyTorch's: densities, moments, gradients, draws, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch as torch

D = torch.distributions
FAMILIES = [
    ("Normal", {"loc": [0.5, -1.0, 2.0], "scale": [0.5, 1.0, 3.0]}),
    ("Normal", {"loc": 0.0, "scale": [[0.5], [2.0]]}),
    ("Uniform", {"low": [-1.0, 0.0], "high": [2.0, 0.5]}),
    ("Exponential", {"rate": [0.5, 4.0]}),
    ("Bernoulli", {"probs": [0.0, 0.25, 1.0]}),
    ("Bernoulli", {"logits": [-2.0, 0.5]}),
    ("Categorical", {"probs": [[1.0, 3.0, 0.0], [2.0, 2.0, 1.0]]}),
    ("Categorical", {"logits": [0.5, -1.0, 2.0]}),
]
VALUES = {"Uniform": 0.25, "Bernoulli": 1.0, "Categorical": 1, "Exponential": 0.75, "Normal": 0.3}
ASKED = ("mean", "variance", "stddev", "mode", "probs", "logits")


def made(library: Any, name: str, parameters: dict[str, Any]) -> tuple[Any, list[Any]]:
    given = {
        key: library.tensor(value, requires_grad=True) if isinstance(value, list) else value
        for key, value in parameters.items()
    }
    leaves = [value for value in given.values() if hasattr(value, "dtype")]
    return getattr(library.distributions, name)(**given), leaves


def facts(library: Any, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    one, leaves = made(library, name, parameters)
    other, _ = made(library, name, parameters)
    found: dict[str, Any] = {"repr": repr(one), "shapes": (tuple(one.batch_shape), one.has_rsample)}
    value = library.tensor(VALUES[name])
    for asked in ASKED:
        if not (name == "Uniform" and asked == "mode"):
            result = getattr(one, asked, None)
            found[asked] = None if result is None else result.tolist()
    terms = [one.log_prob(value), one.entropy()]
    if hasattr(one, "cdf") and name not in ("Bernoulli", "Categorical"):
        terms += [one.cdf(value), one.icdf(library.tensor(0.3))]
    terms.append(library.distributions.kl_divergence(one, other))
    for number, term in enumerate(terms):
        found[f"term {number}"] = term.tolist()
    sum(term[library.isfinite(term)].sum() for term in terms).backward()
    found["gradients"] = [leaf.grad.tolist() for leaf in leaves]
    found["sampled"] = tuple(one.sample((2, 3)).shape), str(one.sample().dtype)
    return found


@pytest.mark.parametrize(("name", "parameters"), FAMILIES)
def test_families_are_pytorchs(name: str, parameters: dict[str, Any]) -> None:
    pytorch = pytest.importorskip("torch")
    with torch.device("numpy"):
        ours = facts(torch, name, parameters)
    theirs = facts(pytorch, name, parameters)
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        if key in ("repr", "shapes", "sampled"):
            assert ours[key] == value
        elif value is not None:
            for mine, other in zip(np.atleast_1d(ours[key]), np.atleast_1d(value)):
                np.testing.assert_allclose(mine, other, rtol=2e-5, atol=1e-6, err_msg=key)


@pytest.mark.parametrize(("name", "parameters"), FAMILIES)
def test_draws_have_the_moments(name: str, parameters: dict[str, Any]) -> None:
    torch.manual_seed(3)
    with torch.device("numpy"):
        one, leaves = made(torch, name, parameters)
        draws = one.sample((20000,)).double()
        if name == "Categorical":
            seen = torch.stack([(draws == i).double().mean(0) for i in range(3)], -1)
            assert torch.allclose(seen, one.probs.double(), atol=0.02)
            return
        assert torch.allclose(draws.mean(0), one.mean.double(), atol=0.1)
        assert torch.allclose(draws.std(0), one.stddev.double(), atol=0.1)
        assert not one.sample().requires_grad
        if one.has_rsample:
            one.rsample((4,)).sum().backward()
            assert all(leaf.grad is not None for leaf in leaves)
        else:
            with pytest.raises(NotImplementedError, match="no rsample"):
                one.rsample()


def test_what_is_refused() -> None:
    probs = torch.tensor([0.2, 0.8])
    for make, told in (
        (lambda: D.Normal(0.0, -1.0), r"parameter scale \(Tensor of shape \(\)\) of distribution"),
        (lambda: D.Uniform(2.0, 1.0), "parameter low"),
        (lambda: D.Bernoulli(2.0), r"Interval\(lower_bound=0.0, upper_bound=1.0\)"),
        (lambda: D.Categorical(torch.tensor([-1.0, 2.0])), r"Simplex\(\)"),
        (lambda: D.Categorical(), "Either `probs` or `logits`"),
        (lambda: D.Bernoulli(0.1, 0.2), "but not both"),
        (lambda: D.Categorical(torch.tensor(1.0)), "at least one-dimensional"),
        (lambda: D.Categorical(probs).log_prob(torch.tensor(5)), "within the support"),
        (lambda: D.Bernoulli(0.5).log_prob(torch.tensor(0.5)), r"support \(Boolean\(\)\)"),
        (lambda: D.Normal(0.0, 1.0).log_prob(3), "must be a Tensor"),
    ):
        with pytest.raises(ValueError, match=told):
            make()
    with pytest.raises(NotImplementedError, match="register one"):
        D.kl_divergence(D.Normal(0.0, 1.0), D.Bernoulli(0.5))
    assert D.Normal(0.0, -1.0, validate_args=False).scale.item() == -1
