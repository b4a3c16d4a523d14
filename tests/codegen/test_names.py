"""Names in generated C come from several writers; none may hide another's."""

from __future__ import annotations

import numpy as np
import pytest

from lazytorch.ops import elementwise as op
from tests.graphs import DEVICES, Builder, assert_close, expected


@pytest.mark.parametrize("device", DEVICES)
def test_a_scalar_in_an_operand_of_a_contraction(device: str) -> None:
    """The scalar argument was called s0, and so was the loop that packs the operand."""
    build = Builder(device)
    rng = np.random.default_rng(0)
    x, w = (build.leaf(rng.standard_normal(s).astype("f4")) for s in ((40, 8), (8, 1)))
    x = build.apply(op.SUB, build.apply(op.MINIMUM, x, build.scalar(0.2)), build.scalar(0.7))
    turned = build.permute(build.reshape(x, (5, 8, 8)), (1, 0, 2))
    y = build.matmul(build.reshape(turned, (40, 8)), w)
    (wanted,) = expected(y)
    assert_close(build.compute(y)[0], wanted, rtol=1e-4, atol=1e-5)
