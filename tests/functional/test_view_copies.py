"""Views as values, and inputs with a view written over, against the views themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch as torch

COPIES: list[tuple[str, tuple[Any, ...]]] = [
    ("as_strided", ((2, 2), (1, 3))), ("diagonal", (1,)), ("expand", (2, 3, 4)),
    ("narrow", (1, 1, 2)), ("permute", ((1, 0),)), ("select", (0, 1)),
    ("split", (2, 1)), ("squeeze", ()), ("t", ()),
    ("transpose", (0, 1)), ("unbind", (1,)), ("unfold", (1, 2, 1)), ("unsqueeze", (1,)),
    ("view", ((4, 3),)), ("split_with_sizes", ([1, 3], 1)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), COPIES, ids=[name for name, _ in COPIES])
def test_copies(name: str, arguments: tuple[Any, ...]) -> None:
    x = torch.arange(12.0).reshape(3, 4)
    wanted = getattr(x, name)(*arguments)
    found = getattr(torch, f"{name}_copy")(x, *arguments)
    if not isinstance(wanted, tuple):
        wanted, found = (wanted,), (found,)
    assert [part.tolist() for part in found] == [part.tolist() for part in wanted]
    for part in found:
        part.zero_()
    assert x.tolist() == np.arange(12.0).reshape(3, 4).tolist()


def test_scatters_and_their_gradients() -> None:
    x = torch.zeros(3, 4, requires_grad=True)
    row, column = torch.ones(4, requires_grad=True), torch.ones(3, requires_grad=True)
    out = x.select_scatter(row, 0, 1).diagonal_scatter(2 * column)
    assert out.tolist() == [[2, 0, 0, 0], [1, 2, 1, 1], [0, 0, 2, 0]]
    out.sum().backward()
    assert row.grad.tolist() == [1, 0, 1, 1] and column.grad.tolist() == [2, 2, 2]
    assert x.grad.tolist() == [[0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1]]
    assert torch.zeros(5).slice_scatter(torch.ones(2), 0, 1, 4, 2).tolist() == [0, 1, 0, 1, 0]
    written = torch.as_strided_scatter(torch.zeros(4), torch.ones(2), (2,), (2,), 1)
    assert written.tolist() == [0, 1, 0, 1]
    with pytest.raises(RuntimeError, match="expected src to have a size equal to the slice"):
        torch.zeros(3, 4).select_scatter(torch.ones(3), 0, 1)


def test_put() -> None:
    x = torch.zeros(2, 3)
    assert x.put(torch.tensor([0, -1]), torch.tensor([4.0, 5.0])).tolist() == [[4, 0, 0], [0, 0, 5]]
    x.put_(torch.tensor([1, 1]), torch.ones(2), accumulate=True)
    assert x.tolist() == [[0, 2, 0], [0, 0, 0]]
    with pytest.raises(RuntimeError, match="same number of elements"):
        x.put(torch.tensor([0]), torch.ones(2))


def test_weighted_covariance() -> None:
    rows = np.random.default_rng(0).standard_normal((3, 6))
    often, heavy = np.array([1, 2, 1, 3, 1, 2]), np.array([0.5, 1, 2, 1, 0.3, 1])
    for options in ({}, {"fweights": often}, {"aweights": heavy},
                    {"fweights": often, "aweights": heavy}):  # fmt: skip
        given = {name: torch.tensor(value) for name, value in options.items()}
        found = torch.cov(torch.tensor(rows), **given).numpy()
        np.testing.assert_allclose(found, np.cov(rows, **options))
    assert torch.cov(torch.arange(4)).item() == pytest.approx(np.cov(np.arange(4)))
    with pytest.raises(RuntimeError, match="integral dtype"):
        torch.cov(torch.ones(2, 3), fweights=torch.ones(3))
