"""Random programs that make views of views and write through any of them.

A program is a list of lines, each with its text for PyTorch's interface and its text for NumPy,
whose views alias as PyTorch's do. While a program is made its NumPy side is carried out, so that
each line fits what is there. Texts mention tensors by name; a line that fails is no part of it.
"""

from __future__ import annotations

from hypothesis.strategies import DrawFn, composite, integers

from tests.tensor.aliasing.mirror import NUMPY
from tests.tensor.aliasing.program import Choices, Line, Program
from tests.tensor.aliasing.reads import READS
from tests.tensor.aliasing.views import VIEWS
from tests.tensor.aliasing.writes import WRITES

__all__ = ["NUMPY", "Line", "Program", "programs"]

MOST_STEPS = 12


def add_step(program: Program) -> None:
    kind = program.random.random()
    program.attempt(VIEWS if kind < 0.42 else WRITES if kind < 0.84 else READS)


@composite
def one_step(draw: DrawFn, program: Program) -> bool:
    """Add a step, if there is another: each is drawn by itself, so that any can be left out."""
    more: bool = draw(integers(0, 9)) > 0
    if more:
        add_step(program)
    return more


@composite
def programs(draw: DrawFn, shares: bool) -> Program:
    """Random programs; ``shares`` lets them hand memory to NumPy and take it from there."""
    program = Program(Choices(draw), shares)
    for _ in range(MOST_STEPS):
        if not draw(one_step(program)):
            break
    program.finish()
    return program
