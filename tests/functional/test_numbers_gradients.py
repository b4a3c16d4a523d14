"""Quantiles, integrals and differences with their gradients, as in PyTorch."""

from __future__ import annotations

import numpy as np

import lazytorch
from tests.functional.checks import compare, random, strided, torch

NAN = float("nan")


def test_quantiles_as_in_pytorch():
    x, holes = strided(4, 5), np.where(random(4, 5) > 1, NAN, random(4, 5))

    def quantiles(t):
        points = t.tensor([0.25, 0.6], dtype=t.float64)

        def compute(a, b):
            return t.cat([
                t.quantile(a, points, 1).reshape(-1), t.quantile(a, 0.3).reshape(-1),
                t.nanquantile(b, points, 0, True).nan_to_num(5.0).reshape(-1),
                t.nanmedian(b, 0).values.reshape(-1), t.median(a).reshape(-1),
                t.nanmedian(b).reshape(-1), t.median(a, 1, True).values.reshape(-1),
            ])  # fmt: skip

        return compute

    compare(quantiles(lazytorch), quantiles(torch), x, holes, second=False)


def test_integrals_as_in_pytorch():
    def all_of(t):
        def compute(y, x):
            parts = [
                t.trapezoid(y, x), t.trapezoid(y, dx=2, dim=0), t.cumulative_trapezoid(y, x),
                t.cumulative_trapezoid(y, dim=0), *t.gradient(y, edge_order=2),
                *t.gradient(y, spacing=(1.0, 3.0)), *t.gradient(y, spacing=[x], dim=1),
            ]  # fmt: skip
            return t.cat([part.reshape(-1) for part in parts])

        return compute

    compare(all_of(lazytorch), all_of(torch), random(4, 5), np.cumsum(np.abs(random(5)) + 0.1))
