"""embedding, embedding_bag, one_hot and attention against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
import lazytorch.nn.functional as F
from tests.functional.checks import compare, random

torch = pytest.importorskip("torch")
TF = torch.nn.functional
ROWS = np.array([[1, 2, 0], [4, 2, 2]])


@pytest.mark.parametrize("arguments", [{}, {"padding_idx": 2}, {"padding_idx": -1},
                                       {"scale_grad_by_freq": True}])  # fmt: skip
def test_embedding(arguments: dict[str, Any]) -> None:
    compare(
        lambda i, w: F.embedding(i, w, **arguments), lambda i, w: TF.embedding(i, w, **arguments),
        ROWS, random(5, 4), second="scale_grad_by_freq" not in arguments,
    )  # fmt: skip


def test_index_shapes_and_types() -> None:
    for index in (np.array(3), np.zeros((0,), np.int64), ROWS.astype(np.int32), ROWS.T):
        compare(F.embedding, TF.embedding, index, random(5, 4), second=False)


@pytest.mark.parametrize("width", [16, 37, 160])
def test_wide_rows(width: int) -> None:
    # Wide enough for vectors and a tail; with rows that occur many times and never.
    index = np.random.default_rng(1).integers(0, 9, 50)
    compare(F.embedding, TF.embedding, index, random(11, width), second=False)


def test_max_norm_changes_the_table() -> None:
    table = random(5, 4)
    ours, theirs = lazytorch.tensor(table), torch.tensor(table)
    a = F.embedding(lazytorch.tensor(ROWS), ours, max_norm=1.0)
    b = TF.embedding(torch.tensor(ROWS), theirs, max_norm=1.0)
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags(mode: str) -> None:
    compare(
        lambda i, w: F.embedding_bag(i, w, mode=mode),
        lambda i, w: TF.embedding_bag(i, w, mode=mode), ROWS, random(5, 4), second=False,
    )  # fmt: skip
    flat, offsets = np.array([1, 2, 0, 4, 2]), np.array([0, 2, 2])
    compare(
        lambda i, w: F.embedding_bag(i, w, lazytorch.tensor(offsets), mode=mode),
        lambda i, w: TF.embedding_bag(i, w, torch.tensor(offsets), mode=mode),
        flat, random(5, 4), second=False,
    )  # fmt: skip


def test_weighted_bags() -> None:
    compare(
        lambda w, s: F.embedding_bag(lazytorch.tensor(ROWS), w, mode="sum", per_sample_weights=s),
        lambda w, s: TF.embedding_bag(torch.tensor(ROWS), w, mode="sum", per_sample_weights=s),
        random(5, 4), random(2, 3), second=False,
    )  # fmt: skip


@pytest.mark.parametrize("classes", [-1, 7])
def test_one_hot(classes: int) -> None:
    compare(lambda i: F.one_hot(i, classes), lambda i: TF.one_hot(i, classes), ROWS)


@pytest.mark.parametrize("arguments", [{}, {"is_causal": True}, {"scale": 0.3}])
def test_attention(arguments: dict[str, Any]) -> None:
    compare(
        lambda *t: F.scaled_dot_product_attention(*t, **arguments),
        lambda *t: TF.scaled_dot_product_attention(*t, **arguments),
        random(2, 3, 5, 4), random(2, 3, 6, 4, seed=1), random(2, 3, 6, 7, seed=2), second=False,
    )  # fmt: skip


def test_attention_masks() -> None:
    q, k, v = random(2, 5, 4), random(2, 6, 4, seed=1), random(2, 6, 4, seed=2)
    allowed = random(5, 6) > 0
    allowed[1] = False
    for mask in (allowed, random(2, 5, 6, seed=5)):
        compare(
            lambda *t, mask=mask: F.scaled_dot_product_attention(*t, lazytorch.tensor(mask)),
            lambda *t, mask=mask: TF.scaled_dot_product_attention(*t, torch.tensor(mask)),
            q, k, v, second=False, gradient=mask is not allowed,
        )  # fmt: skip


def test_attention_with_fewer_key_heads() -> None:
    compare(
        lambda *t: F.scaled_dot_product_attention(*t, enable_gqa=True),
        lambda *t: TF.scaled_dot_product_attention(*t, enable_gqa=True),
        random(2, 6, 5, 4), random(2, 2, 5, 4, seed=1), random(2, 2, 5, 4, seed=2), second=False,
    )  # fmt: skip


def test_similarity_of_vectors_that_broadcast(each_device: str) -> None:
    one, several = random(3, 1), random(3, 4)
    found = F.cosine_similarity(lazytorch.tensor(one), lazytorch.tensor(several))
    wanted = TF.cosine_similarity(torch.tensor(one), torch.tensor(several))
    np.testing.assert_allclose(found.cpu().numpy(), wanted.numpy(), rtol=1e-6)


def test_similarities() -> None:
    a, b = random(3, 4), random(3, 4, seed=1)
    for dim in (0, 1, -1):
        compare(
            lambda *t, dim=dim: F.cosine_similarity(*t, dim=dim),
            lambda *t, dim=dim: TF.cosine_similarity(*t, dim=dim), a, b, second=False,
        )  # fmt: skip
    for p in (1.0, 2.0, 3.0):
        compare(
            lambda *t, p=p: F.pairwise_distance(*t, p, keepdim=True),
            lambda *t, p=p: TF.pairwise_distance(*t, p, keepdim=True), a, b, second=False,
        )  # fmt: skip
    # A component of one that stands beside several of the other counts as often.
    arrays = random(1, 2, 3), random(2, 1, 3)
    compare(
        lambda *t: F.cosine_similarity(*t, dim=1), lambda *t: TF.cosine_similarity(*t, dim=1),
        *arrays, second=False,
    )  # fmt: skip
    compare(F.cosine_similarity, TF.cosine_similarity, random(2, 3, 4), random(2, 3, 4, seed=1))
