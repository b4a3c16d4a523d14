"""L-BFGS against PyTorch, its plans, its saved state, its mistakes."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import lazytorch as torch
from lazytorch.optim import history
from lazytorch.runtime import available_devices

CASES = [
    {"lr": 0.1, "history_size": 3},
    {"line_search_fn": "strong_wolfe", "max_iter": 6},
    {"line_search_fn": "strong_wolfe", "lr": 30.0, "history_size": 1},
    {"tolerance_grad": 1e-2, "lr": 0.1, "max_eval": 7},
    {"tolerance_change": 1e-3, "lr": 0.1},
]


class Problem:
    """Parameters, one of them unused, under a smooth function; and the losses that were seen."""

    def __init__(self, library, options: dict, kinds="ddd", device: str = "cpu") -> None:
        generator = np.random.default_rng(3)
        draws = [generator.standard_normal(s).astype(k) for s, k in zip(((3, 4), (5,), 2), kinds)]
        tensors = [library.tensor(d, device=device) for d in (*draws, *draws)]
        self.parameters = [library.nn.Parameter(t) for t in tensors[:3]]
        self.targets = [t * (0.5 + 1j if k == "D" else 0.5) for t, k in zip(tensors[3:], kinds)]
        unused = library.nn.Parameter(library.tensor(draws[1], device=device))
        self.optimizer = library.optim.LBFGS([*self.parameters, unused], **options)
        self.losses: list[float] = []

    def closure(self):
        self.optimizer.zero_grad()
        squares = [(p - t) * (p - t).conj() for p, t in zip(self.parameters, self.targets)]
        loss = sum((s * s + s).sum().real for s in squares)
        loss = loss + (self.parameters[0] * self.targets[0]).sum()
        loss.backward()
        self.losses.append(loss.item())
        return loss

    def steps(self, count: int) -> list[np.ndarray]:
        for _ in range(count):
            self.optimizer.step(self.closure)
        return [p.detach().cpu().numpy().copy() for p in self.parameters]


@pytest.mark.parametrize("device", available_devices())
def test_iterates_are_pytorchs(device: str) -> None:
    """In float64; in float32 both follow their own rounding once a minimum is near."""
    reference = pytest.importorskip("torch")
    for options in CASES if device == "numpy" else CASES[:1]:
        kinds = "ddD" if device == "numpy" else "ddd"
        mine, theirs = Problem(torch, options, kinds, device), Problem(reference, options, kinds)
        for a, b in zip(mine.steps(3), theirs.steps(3)):
            np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-7)
        np.testing.assert_allclose(mine.losses, theirs.losses, rtol=1e-6, atol=1e-9)
        my_state = mine.optimizer.state_dict()["state"][0]
        their_state = theirs.optimizer.state_dict()["state"][0]
        assert set(their_state) - set(my_state) <= {"al"}
        for name in ("n_iter", "func_evals"):
            assert my_state[name] == their_state[name]
        assert len(my_state["old_dirs"]) == len(their_state["old_dirs"])


def test_going_on_from_a_saved_state_both_ways() -> None:
    reference = pytest.importorskip("torch")
    options = {"lr": 0.1, "max_iter": 5, "history_size": 4}
    problems = Problem(torch, options, device="numpy"), Problem(reference, options)
    for problem in problems:
        problem.steps(1)

    def moved(value, library):
        if isinstance(value, (list, tuple)):
            return [moved(entry, library) for entry in value]
        if isinstance(value, dict):
            return {key: moved(entry, library) for key, entry in value.items()}
        return library.tensor(value.numpy()) if hasattr(value, "numpy") else value

    saved = [problem.optimizer.state_dict() for problem in problems]
    for problem, other, library in zip(problems, reversed(saved), (torch, reference)):
        problem.optimizer.load_state_dict(moved(other, library))
    for _ in range(2):
        for a, b in zip(*(problem.steps(1) for problem in problems)):
            np.testing.assert_allclose(a, b, rtol=1e-9)


def test_no_plan_after_the_first_step() -> None:
    """Neither the length of the history nor what an iteration keeps is part of a graph."""
    options = {"lr": 0.02, "max_iter": 3, "history_size": 5}
    problem = Problem(torch, options, "fff", "numpy")
    made = []
    for _ in range(5):
        before = torch.stats()
        # Values are not looked at: memory that NumPy sees is never written over.
        problem.optimizer.step(problem.closure)
        after = torch.stats()
        made.append(sum(after[k] - before[k] for k in ("plans_missed", "plans_loaded")))
    assert made[0] <= 4 and made[1:] == [0] * 4
    assert len(problem.optimizer.state_dict()["state"][0]["old_dirs"]) == 5


def test_a_history_that_grows_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Problem(torch, {"lr": 0.05}, device="numpy").steps(1)
    monkeypatch.setattr(history, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(history, "_FEW_PAIRS", 2)
    for a, b in zip(whole, Problem(torch, {"lr": 0.05}, device="numpy").steps(1)):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_copies_and_a_history_of_another_size() -> None:
    problem = Problem(torch, {"lr": 0.05, "max_iter": 4}, device="numpy")
    problem.steps(1)
    twin = copy.deepcopy(problem)
    for a, b in zip(problem.steps(1), twin.steps(1)):
        np.testing.assert_array_equal(a, b)
    problem.optimizer.param_groups[0]["history_size"] = 2
    problem.steps(1)
    assert len(problem.optimizer.state_dict()["state"][0]["old_dirs"]) == 2


def test_mistakes() -> None:
    w = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="per-parameter options"):
        torch.optim.LBFGS([{"params": [w]}, {"params": [torch.nn.Parameter(torch.ones(1))]}])
    with pytest.raises(ValueError, match="Invalid learning rate: -1"):
        torch.optim.LBFGS([w], lr=-1)
    with pytest.raises(TypeError, match="closure"):
        torch.optim.LBFGS([w]).step()
    with pytest.raises(RuntimeError, match="only 'strong_wolfe' is supported"):
        Problem(torch, {"line_search_fn": "armijo"}, device="numpy").steps(1)
