"""Remembered tilings: equal forms share one choice, whatever their axes and arrays are."""

from __future__ import annotations

import pytest

from lazytorch import dtypes
from lazytorch.codegen import contract_memory
from lazytorch.codegen.contract_form import Form
from lazytorch.codegen.contract_memory import remembered_tiling
from lazytorch.codegen.contract_schedule import choose_tiling
from lazytorch.codegen.target import Target
from lazytorch.ir import expression as ex
from lazytorch.ir.index import Axis, of_atom
from lazytorch.ir.kernel import Store

TARGET = Target(local_memory=256 << 10)


def product(first: int, m: int, n: int, k: int, transposed: bool = False) -> Form:
    """A matrix product of arrays ``first`` and ``first + 1``."""
    row, column, summed = Axis(m, "m"), Axis(n, "n"), Axis(k, "k")
    i, j, s = of_atom(row), of_atom(column), of_atom(summed)
    scalar = ex.load(first, i * k + s, (), dtypes.float32)
    vector = ex.load(first + 1, j * k + s if transposed else s * n + j, (), dtypes.float32)
    store = Store(first + 2, i * n + j, ex.result(50, dtypes.float32))
    return Form((), (row,), (column,), (summed,), scalar, vector, 50, dtypes.float32, (store,))


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract_memory, "_chosen", {})


def test_equal_forms_share_a_choice_on_their_own_axes() -> None:
    remembered_tiling(product(1, 100, 70, 90), TARGET)
    form = product(7, 100, 70, 90)
    found = remembered_tiling(form, TARGET)
    assert len(contract_memory._chosen) == 1
    assert found == choose_tiling(form, TARGET)


@pytest.mark.parametrize(
    "form", [product(1, 100, 70, 91), product(1, 100, 70, 90, transposed=True)], ids=["k", "layout"]
)
def test_different_forms_are_chosen_apart(form: Form) -> None:
    remembered_tiling(product(1, 100, 70, 90), TARGET)
    assert remembered_tiling(form, TARGET) == choose_tiling(form, TARGET)
    assert len(contract_memory._chosen) == 2


def test_targets_are_kept_apart() -> None:
    form = product(1, 100, 70, 90)
    for target in (TARGET, Target(local_memory=256 << 10, vector_width=8)):
        assert remembered_tiling(form, target) == choose_tiling(form, target)
    assert len(contract_memory._chosen) == 2
