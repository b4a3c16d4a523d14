"""Cutting loop nests alike."""

from __future__ import annotations

from lazytorch.ir.index import Axis
from lazytorch.schedule import align


def test_sizes_of_the_common_nest() -> None:
    assert align._common_sizes((Axis(64),), (Axis(4), Axis(16))) == [4, 16]
    assert align._common_sizes((Axis(4), Axis(6)), (Axis(12), Axis(2))) == [4, 3, 2]
    assert align._common_sizes((Axis(6),), (Axis(2),)) is None
    assert align._common_sizes((Axis(4), Axis(6)), (Axis(6), Axis(4))) is None


def test_nests_of_one_point_or_none_are_left_alone() -> None:
    assert align._common_sizes((Axis(1), Axis(1)), (Axis(1),)) is None
    assert align._common_sizes((Axis(0), Axis(3)), (Axis(0),)) is None
