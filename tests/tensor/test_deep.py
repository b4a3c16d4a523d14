"""Chains of a hundred thousand operations at Python's default recursion limit."""

from __future__ import annotations

import sys

import lazytorch as torch

DEPTH = 100_000


def test_a_deep_chain_builds_runs_differentiates_and_is_deleted() -> None:
    assert sys.getrecursionlimit() <= 10_000
    x = torch.ones(2, requires_grad=True)
    y = x
    for _ in range(DEPTH):
        y = y + 1
    y.sum().backward()
    assert x.grad.tolist() == [1, 1]
    assert y.tolist() == [DEPTH + 1] * 2
    del y


def test_a_deep_chain_without_gradients_is_dropped_unlooked_at() -> None:
    y = torch.ones(2)
    for _ in range(DEPTH):
        y = y * 1.0000001
    del y


def test_deep_in_place_chain() -> None:
    total = torch.zeros(())
    for _ in range(20_000):
        total += 1
    assert total.item() == 20_000
