"""randint over more numbers than 32 bits tell apart."""

from __future__ import annotations

import pytest

import lazytorch as torch

_HALF = 2**63


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 2**40), (0, _HALF - 1), (-(2**62), 2**62), (-_HALF, 0), (-_HALF, _HALF - 1)],
)
def test_every_bit_is_drawn_evenly(each_device: str, low: int, high: int) -> None:
    torch.manual_seed(0)
    drawn = [value - low for value in torch.randint(low, high, (4000,)).tolist()]
    span = high - low
    assert min(drawn) >= 0 and max(drawn) < span
    assert abs(sum(drawn) / len(drawn) / span - 0.5) < 0.02
    for bit in (0, 30, 31, 32, 38):
        assert abs(sum(value >> bit & 1 for value in drawn) / len(drawn) - 0.5) < 0.04, bit
