"""SparseAdam is refused: there are no sparse gradients."""

from __future__ import annotations

from typing import Any

from lazytorch.optim.optimizer import Optimizer


class SparseAdam(Optimizer):
    """Adam for sparse gradients, which do not exist here; making one raises.

    Raises ``NotImplementedError``. :class:`Adam` computes what it would for elements with a
    gradient; elements without one keep moving by their running mean.
    """

    def __init__(
        self,
        params: Any,
        lr: Any = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        raise NotImplementedError(
            "SparseAdam needs sparse gradients, and all gradients of lazytorch are dense: use "
            "torch.optim.Adam with the same lr, betas and eps, and nn.Embedding(sparse=False)"
        )
