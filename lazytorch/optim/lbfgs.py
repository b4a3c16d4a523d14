"""L-BFGS (Nocedal 1980): quasi-Newton steps from the last gradients.

The directions are those of PyTorch's ``LBFGS``, computed in another way. All vectors of the
two-loop recursion are combinations of the history and the gradient, so the recursion runs on their
coefficients on the host, from inner products that come with the loss (the "vector-free" form of
Chen, Wang and Zhou, "Large-scale L-BFGS using MapReduce", 2014). A direction takes two products
with the matrix of the history, whatever its length, instead of four kernels a pair of vectors, and
every iteration is the same few plans.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lazytorch as torch
from lazytorch import engine
from lazytorch.autograd.grad_mode import enable_grad, no_grad
from lazytorch.optim.arguments import check_learning_rate
from lazytorch.optim.history import History, Seen, as_number
from lazytorch.optim.line_search import LineSearch, Trial
from lazytorch.optim.optimizer import Optimizer
from lazytorch.optim.scalars import StepScalars
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor

# Pairs whose curvature is smaller are not remembered.
_LEAST_CURVATURE = 1e-10


class LBFGS(Optimizer):
    """Minimizes a function of all parameters, which ``step(closure)`` evaluates several times.

    ``max_iter`` iterations a step, at most ``max_eval`` evaluations (default ``max_iter · 5 / 4``),
    until the largest gradient is ``tolerance_grad`` or smaller, or a change of parameters or loss
    smaller than ``tolerance_change``; ``history_size`` pairs of vectors are kept.
    ``line_search_fn`` is ``None`` (steps of length ``lr``) or ``"strong_wolfe"``.

    Jorge Nocedal, "Updating Quasi-Newton Matrices with Limited Storage", 1980; the line search is
    algorithms 3.5 and 3.6 of Nocedal and Wright, "Numerical Optimization", 2006. The host decides,
    so each evaluation is computed and waited for once; with a line search each iteration once
    more. One parameter group only, and one device; bad values raise ``ValueError``.

    >>> w = torch.zeros(2, requires_grad=True)
    >>> optimizer = torch.optim.LBFGS([w], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (w - 3).square().sum()
    ...     loss.backward()
    ...     return loss
    >>> optimizer.step(closure), w.detach()
    (tensor(18., grad_fn=<SumBackward0>), tensor([3., 3.]))
    """

    _host_entries = ()

    def __init__(
        self,
        params: Any,
        lr: Any = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        check_learning_rate(lr)
        super().__init__(
            params,
            {
                "lr": lr,
                "max_iter": max_iter,
                "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
                "tolerance_grad": tolerance_grad,
                "tolerance_change": tolerance_change,
                "history_size": history_size,
                "line_search_fn": line_search_fn,
            },
        )
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")
        self._history: History | None = None

    @property
    def _params(self) -> list[Tensor]:
        parameters: list[Tensor] = self.param_groups[0]["params"]
        return parameters

    @no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Minimize; ``closure`` clears the gradients, computes the loss and its gradients, and
        returns the loss. The first loss is returned."""
        if len(self.param_groups) != 1:
            raise AssertionError(
                f"Expected exactly one param_group, but got {len(self.param_groups)}"
            )
        return _Minimization(self, enable_grad()(closure)).run()

    def _flat_gradient(self) -> Tensor:
        """The gradients of all parameters as one vector, complex numbers as pairs."""
        parts = []
        for parameter in self._params:
            gradient: Any = parameter.grad
            gradient = torch.zeros_like(parameter) if gradient is None else gradient
            parts.append(_real(gradient).reshape(-1))
        return torch.cat(parts)

    def _move(self, start: list[Tensor], length: float, direction: Tensor) -> None:
        """Set the parameters to ``start + length · direction``.

        They are computed with all that is pending, not with the closure's values: these are
        another graph for each closure, and a parameter that nobody reads would never be computed.
        """
        number = StepScalars()
        place = 0
        for parameter, value in zip(self._params, start):
            target = _real(parameter)
            part = direction[place : place + target.numel()].reshape(target.shape)
            target.copy_(_real(value) + part * number("length", length, part))
            place += target.numel()
        engine.flush()

    # Saving and loading -----------------------------------------------------------------------

    def _with_vectors(self) -> Any:
        """The state with the history in it: lists of vectors, as PyTorch has them."""
        state = type(self.state)(dict, self.state)
        if self._history is not None:
            first = self._params[0]
            state[first] = {**self.state[first], **self._history.vectors()}
        return state

    def state_dict(self) -> dict[str, Any]:
        """As PyTorch's: everything is under the first parameter."""
        live, self.state = self.state, self._with_vectors()
        try:
            return super().state_dict()
        finally:
            self.state = live

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "state": self._with_vectors()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._history = None


class _Minimization:
    """One call of ``step``."""

    def __init__(self, optimizer: LBFGS, closure: Callable[[], Any]) -> None:
        self.optimizer = optimizer
        self.closure = closure
        self.options = optimizer.param_groups[0]
        self.state = optimizer.state[optimizer._params[0]]
        self.state.setdefault("func_evals", 0)
        self.state.setdefault("n_iter", 0)
        self.evaluations = 0

    def run(self) -> Any:
        """Iterate until an option says to stop; the first loss."""
        options, state = self.options, self.state
        first, gradient = self.evaluate()
        history = self.history(gradient)
        seen = history.look(first, gradient, float(state.get("t", 0.0)))
        if seen.largest_gradient <= options["tolerance_grad"]:
            return first
        last = int(options["max_iter"])
        for iteration in range(1, last + 1):
            state["n_iter"] += 1
            length = float(options["lr"])
            if state["n_iter"] == 1:
                length *= min(1.0, 1.0 / seen.gradient_sum)
            slope = history.turn(seen, state["n_iter"] > 1 and seen.curvature > _LEAST_CURVATURE)
            state.update(t=length, H_diag=history.scale, prev_loss=seen.loss)
            if slope > -options["tolerance_change"]:
                break
            found = self.advance(history, seen, slope, length, iteration == last)
            if found is None:
                break
            loss, gradient, state["t"] = found
            if iteration == last or self.evaluations >= options["max_eval"]:
                break
            seen = history.look(loss, gradient, state["t"])
            if self.is_done(seen):
                break
        engine.flush()
        return first

    def history(self, gradient: Tensor) -> History:
        """What earlier steps remember, or what was loaded; empty at first."""
        optimizer, state, size = self.optimizer, self.state, int(self.options["history_size"])
        history = optimizer._history
        if history is None or history.size != size:
            kept = state if history is None else {**state, **history.vectors()}
            history = optimizer._history = History(gradient, size, kept)
            for name in ("old_stps", "old_dirs", "ro"):
                state.pop(name, None)
            state.update(d=history.direction, prev_flat_grad=history.before)
        return history

    def evaluate(self) -> tuple[Any, Tensor]:
        """The loss and the gradient as one vector, not computed yet."""
        loss = self.closure()
        self.evaluations += 1
        self.state["func_evals"] += 1
        return loss, self.optimizer._flat_gradient()

    def is_done(self, seen: Seen) -> bool:
        """Whether the gradient is small, or the last step changed little."""
        small = self.options["tolerance_change"]
        return (
            seen.largest_gradient <= self.options["tolerance_grad"]
            or seen.largest_change <= small
            or abs(seen.loss - self.state["prev_loss"]) < small
        )

    def advance(
        self, history: History, seen: Seen, slope: float, length: float, last: bool
    ) -> tuple[Any, Tensor, float] | None:
        """Move the parameters along the direction; loss, gradient and length where they end, if
        that was evaluated."""
        optimizer, options = self.optimizer, self.options
        search, direction = options["line_search_fn"], history.direction
        if search is None:
            optimizer._move(optimizer._params, length, direction)
            if last:
                # Nobody would look at the gradient, which of noisy functions is another anyway.
                return None
            return (*self.evaluate(), length)
        if search != "strong_wolfe":
            raise RuntimeError("only 'strong_wolfe' is supported")
        start = [parameter.detach().clone() for parameter in optimizer._params]

        def attempt(at: float) -> Trial:
            optimizer._move(start, at, direction)
            loss, gradient = self.evaluate()
            found = torch.stack([as_number(loss, gradient), gradient.dot(direction)])
            engine.realize([node_of(found), node_of(gradient)])
            value, slope_there = found.tolist()
            return Trial(at, value, slope_there, gradient)

        line = LineSearch(
            attempt, Trial(0.0, seen.loss, slope, seen.gradient),
            largest=lambda: float(direction.abs().max()), tolerance=options["tolerance_change"],
        )  # fmt: skip
        chosen = line.run(length, int(options["max_eval"]) - self.evaluations)
        optimizer._move(start, chosen.length, direction)
        return chosen.loss, chosen.gradient, chosen.length


def _real(x: Tensor) -> Tensor:
    return torch.view_as_real(x) if x.is_complex() else x
