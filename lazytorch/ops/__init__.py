"""What each primitive means: one record each, nothing about how it is computed or by whom."""

from lazytorch.ops import (
    attention,
    contraction,
    elementwise,
    examples,
    indexing,
    leaves,
    movement,
    ordering,
    philox,
    recurrence,
    reduction,
    shapes,
)

__all__ = [
    "attention", "contraction", "elementwise", "examples", "indexing", "leaves", "movement",
    "ordering", "philox", "recurrence", "reduction", "shapes",
]  # fmt: skip
