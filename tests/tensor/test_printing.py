"""The text of tensors, compared with PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch

NUMBERS = np.random.default_rng(0).standard_normal

VALUES: list[Any] = [
    [1e-5, 1.0], [1e10, 1.0], [float("nan"), 1.5], [1.0, 2e8], [float(i) for i in range(2000)],
    [], [[[]]], [True, False], 3, 3.5, -1, 1e-7, float("nan"), float("inf"), [1.0, 2.0],
    [[1, -200], [3, 4]], [float("inf"), 1], [0.0, float("nan")], [0.0, -0.0], [1e-3, 1.0],
    [123456.0, 1.0], [[0.1, 200.3], [3000.0, 4.0]], [1e-40], [99999999.0, 100000001.0],
    list(range(50)), list(range(5000)), NUMBERS((3, 4)).tolist(), NUMBERS((2, 3, 4, 30)).tolist(),
    NUMBERS(30).tolist(), NUMBERS((20, 60)).tolist(), np.zeros((1100, 3)).tolist(),
    np.zeros((2, 0, 3)).tolist(),
]  # fmt: skip
DTYPES = (None, "float64", "float16", "bfloat16", "int32", "int64", "bool")


def _fits(value: Any, dtype: str | None) -> bool:
    array = np.asarray(value, float)
    whole = bool(np.all(np.isfinite(array)) and np.all(array == np.trunc(array)))
    return dtype not in ("int32", "int64", "bool") or (whole and np.abs(array).sum() < 1e9)


@pytest.mark.parametrize("number", range(len(VALUES)))
def test_text_equals_pytorchs(number: int) -> None:
    torch = pytest.importorskip("torch")
    value = VALUES[number]
    for dtype in DTYPES:
        if not _fits(value, dtype):
            continue
        texts = []
        for library in (torch, lazytorch):
            kind = getattr(library, dtype) if dtype else None
            tensor = library.tensor(value, dtype=kind)
            shown = [repr(tensor)]
            if tensor.dtype.is_floating_point:
                leaf = tensor.clone().requires_grad_()
                shown += [repr(leaf), repr(leaf * 2), str(leaf.detach())]
            texts.append(shown)
        assert texts[0] == texts[1]


def test_text_without_pytorch() -> None:
    torch = lazytorch
    assert repr(torch.tensor([1.0, 2.5])) == "tensor([1.0000, 2.5000])"
    assert repr(torch.zeros(2, 0)) == "tensor([], size=(2, 0))"
    assert repr(torch.arange(3)) == "tensor([0, 1, 2])"
    leaf = torch.ones(1, requires_grad=True)
    assert repr(leaf) == "tensor([1.], requires_grad=True)"
    assert repr(leaf + 1) == "tensor([2.], grad_fn=<AddBackward0>)"
    assert f"{torch.tensor(2.5):.2f}" == "2.50"
    assert repr(1 / leaf) == "tensor([1.], grad_fn=<MulBackward0>)"
    parameter = torch.nn.Parameter(torch.tensor(2.0))
    text = "Parameter containing:\ntensor(2., requires_grad=True)"
    assert {repr(parameter), str(parameter), f"{parameter}"} == {text}


def test_print_options() -> None:
    torch = lazytorch
    try:
        torch.set_printoptions(precision=2, sci_mode=False)
        assert repr(torch.tensor([1e-3, 1.5])) == "tensor([0.00, 1.50])"
    finally:
        torch.set_printoptions(profile="default")


def _random_values(numbers: np.random.Generator) -> np.ndarray:
    """An array of any rank whose values call for one of the formats."""
    shape = tuple(numbers.choice([0, 1, 2, 3, 7, 40], p=[0.03, 0.17, 0.2, 0.2, 0.2, 0.2])
                  for _ in range(numbers.integers(0, 4)))  # fmt: skip
    values = numbers.standard_normal(shape)
    scales = (1.0, 10.0 ** numbers.integers(-12, 12), 10.0 ** numbers.integers(-6, 6, shape), 0.0)
    values = values * scales[numbers.integers(0, 4)]
    if numbers.random() < 0.3:
        values = np.round(values * 100)
    if numbers.random() < 0.3:
        values = np.where(
            numbers.random(shape) < 0.2, numbers.choice([np.nan, np.inf, -np.inf]), values
        )
    return np.asarray(values)


@pytest.mark.parametrize("seed", range(12))
def test_random_tensors_print_as_in_pytorch(seed: int) -> None:
    torch = pytest.importorskip("torch")
    numbers = np.random.default_rng(seed)
    for _ in range(25):
        values = _random_values(numbers)
        dtype = str(
            numbers.choice(["float32", "float64", "float16", "bfloat16", "complex64", "int64"])
        )
        if dtype == "int64":
            values = np.nan_to_num(values, posinf=9, neginf=-9).clip(-1e6, 1e6).astype(np.int64)
        elif dtype == "complex64":
            values = values + 1j * _random_values(numbers).reshape(-1)[:1].sum()
        options = {
            "precision": int(numbers.integers(0, 8)),
            "linewidth": int(numbers.choice([20, 80, 200])),
            "threshold": int(numbers.choice([5, 1000])),
            "edgeitems": int(numbers.choice([1, 3])),
            "sci_mode": numbers.choice([None, None, True, False]),
        }
        texts = []
        for library in (torch, lazytorch):
            library.set_printoptions(**options)
            try:
                with np.errstate(all="ignore"):
                    texts.append(repr(library.tensor(values, dtype=getattr(library, dtype))))
            finally:
                library.set_printoptions(profile="default")
        assert texts[0] == texts[1], (dtype, options)
