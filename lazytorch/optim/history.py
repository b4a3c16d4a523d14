"""What L-BFGS remembers: pairs of a step and the change of the gradient along it, as one matrix.

Knows the matrix on the device and the inner products of its rows on the host; must not know what
is minimized.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import lazytorch as torch
from lazytorch import engine
from lazytorch.optim.scalars import StepScalars, state_like
from lazytorch.runtime import get_device
from lazytorch.tensor.attach import functions
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.tensor import Tensor

# A matrix of so many bytes is made in its full size at once; a larger one grows from few pairs.
_WHOLE_BYTES = 64 * 2**20
_FEW_PAIRS = 8


@dataclass
class Seen:
    """What is read from the device after an evaluation, in one go.

    ``products`` are the inner products of the last step, the change of the gradient along it, and
    the gradient itself; ``with_rows`` theirs with the rows of the history.
    """

    loss: float
    largest_gradient: float
    gradient_sum: float
    largest_change: float
    products: np.ndarray
    with_rows: np.ndarray
    gradient: Tensor
    step: Tensor
    change: Tensor

    @property
    def curvature(self) -> float:
        """How much the slope along the last step has changed."""
        return float(self.products[0, 1])


class History:
    """At most ``size`` pairs of vectors like ``like``, and the direction that follows from them.

    Row ``2k`` of the matrix is a step, row ``2k + 1`` the change of the gradient along it. There
    is one pair more than are used, so that each iteration has a place to write to: an iteration
    whose pair is not kept is the same graph as any other, and no graph depends on how many pairs
    there are. ``state`` may hold what was saved, in PyTorch's form; see :meth:`vectors`.
    """

    def __init__(self, like: Tensor, size: int, state: dict[str, Any]) -> None:
        self.size = size
        # Inner products of vectors that nearly cancel decide: they need more digits than vectors.
        exact = get_device(like.device.runtime).capabilities.fp64
        self._wide = torch.float64 if exact else torch.float32
        self.direction: Tensor = state["d"] if "d" in state else state_like(like)
        self.before: Tensor = (
            state["prev_flat_grad"] if "prev_flat_grad" in state else state_like(like)
        )
        self.scale = float(state.get("H_diag", 1.0))
        pairs = list(zip(state.get("old_stps") or [], state.get("old_dirs") or []))
        pairs = pairs[max(0, len(pairs) - size) :]
        # Places of the pairs that are used, oldest first, and the place to write to.
        self._order = list(range(len(pairs)))
        self._free = len(pairs)
        row_bytes = like.numel() * like.element_size()
        few = max(_FEW_PAIRS, len(pairs) + 1, _WHOLE_BYTES // max(1, 2 * row_bytes))
        self._capacity = min(size + 1, few)
        self._rows = state_like(like.new_empty((2 * self._capacity, like.numel())))
        self._products = np.zeros((2 * self._capacity, 2 * self._capacity))
        if pairs:
            saved = torch.stack([vector for pair in pairs for vector in pair])
            self._rows[: len(saved)] = saved
            saved = saved.to(self._wide)
            self._products[: len(saved), : len(saved)] = (saved @ saved.T).cpu().numpy()

    def vectors(self) -> dict[str, list[Any]]:
        """As PyTorch saves them: lists of vectors, and of the inverse curvatures."""
        steps = [self._rows[2 * place].clone() for place in self._order]
        changes = [self._rows[2 * place + 1].clone() for place in self._order]
        inverse = [1.0 / self._curvature(place) for place in self._order]
        ro = [functions.tensor(value, dtype=self._rows.dtype) for value in inverse]
        return {"old_dirs": changes, "old_stps": steps, "ro": ro}

    def look(self, loss: Any, gradient: Tensor, length: float) -> Seen:
        """Compute and read everything that is to be decided on, after a step of ``length`` along
        the direction: the only wait."""
        step = self.direction * StepScalars()("length", length, gradient)
        change = gradient - self.before
        new = torch.stack([step, change, gradient]).to(self._wide)
        sizes = new.abs()
        firsts = [as_number(loss, new), sizes[2].max(), sizes[2].sum(), sizes[0].max()]
        found = torch.cat(
            [
                torch.stack(firsts), (new @ new.T).reshape(-1),
                (self._rows.to(self._wide) @ new.T).reshape(-1),
            ]
        )  # fmt: skip
        # The gradient too, or what comes next would compute it again.
        engine.realize([node_of(found), node_of(gradient)])
        values = np.asarray(found.cpu().numpy(), np.float64)
        loss_now, largest, total, moved = values[:4].tolist()
        products, with_rows = values[4:13].reshape(3, 3), values[13:].reshape(-1, 3)
        return Seen(loss_now, largest, total, moved, products, with_rows, gradient, step, change)

    def turn(self, seen: Seen, keep: bool) -> float:
        """Remember the last step if it is to be kept; set the new direction, nothing of it
        computed yet, and return the slope along it."""
        if self._free == self._capacity:
            self._grow(seen)
        rows = [2 * self._free, 2 * self._free + 1]
        # Places as data: a number in the graph would be another kernel for each of them.
        where = functions.tensor(np.asarray(rows), device=self._rows.device)
        self._rows.index_copy_(0, where, torch.stack([seen.step, seen.change]))
        self._products[:, rows] = seen.with_rows[:, :2]
        self._products[rows, :] = seen.with_rows[:, :2].T
        self._products[np.ix_(rows, rows)] = seen.products[:2, :2]
        with_gradient = seen.with_rows[:, 2].copy()
        with_gradient[rows] = seen.products[:2, 2]
        if keep:
            # The first estimate of the inverse Hessian is a multiple of the identity.
            with np.errstate(all="ignore"):
                self.scale = float(seen.products[0, 1] / seen.products[1, 1])
            self._order.append(self._free)
            full = len(self._order) > self.size
            self._free = self._order.pop(0) if full else len(self._order)
        # A loss that has diverged makes a direction of NaN, as it would on the device.
        with np.errstate(all="ignore"):
            weights, of_gradient = self._coefficients(with_gradient)
        gradient = seen.gradient.to(self._wide)
        of_rows = functions.tensor(weights.astype(self._wide.numpy), device=gradient.device)
        self.direction.copy_(
            of_rows @ self._rows.to(self._wide)
            + gradient * StepScalars()("gradient", of_gradient, gradient)
        )
        self.before.copy_(seen.gradient)
        return float(weights @ with_gradient + of_gradient * seen.products[2, 2])

    def _coefficients(self, with_gradient: np.ndarray) -> tuple[np.ndarray, float]:
        """The direction as a combination of the rows and of the gradient.

        Nocedal and Wright, algorithm 7.4, on coefficients instead of vectors.
        """
        products = self._products
        weights, of_gradient = np.zeros(len(products)), -1.0
        shares = {}
        for place in reversed(self._order):
            step, change = 2 * place, 2 * place + 1
            along = products[step] @ weights + of_gradient * with_gradient[step]
            shares[place] = along / self._curvature(place)
            weights[change] -= shares[place]
        weights *= self.scale
        of_gradient *= self.scale
        for place in self._order:
            step, change = 2 * place, 2 * place + 1
            along = products[change] @ weights + of_gradient * with_gradient[change]
            weights[step] += shares[place] - along / self._curvature(place)
        return weights, of_gradient

    def _curvature(self, place: int) -> float:
        return float(self._products[2 * place, 2 * place + 1])

    def _grow(self, seen: Seen) -> None:
        """Make place for twice as many pairs."""
        more = min(self.size + 1, 2 * self._capacity) - self._capacity
        self._capacity += more
        empty = state_like(self._rows.new_empty((2 * more, self._rows.shape[1])))
        self._rows = torch.cat([self._rows, empty])
        self._products = np.pad(self._products, (0, 2 * more))
        seen.with_rows = np.pad(seen.with_rows, ((0, 2 * more), (0, 0)))


def as_number(loss: Any, like: Tensor) -> Tensor:
    """A loss, tensor or number, as a 0-d tensor beside others."""
    if isinstance(loss, Tensor):
        return loss.detach().reshape(()).to(device=like.device, dtype=like.dtype)
    return StepScalars()("loss", float(loss), like)
