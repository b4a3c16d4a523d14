"""What PyTorch's operator database says must be refused: the same class of exception here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.functional.checks import same_refusal

pytest.importorskip("torch")


def _integers(m: Any) -> Any:
    return m.tensor([1, 2, 3])


_BOTH_TENSORS = (
    "atan2", "gcd", "lcm", "fmax", "fmin", "maximum", "minimum", "hypot", "isclose", "logical_and",
    "logical_or", "logical_xor", "heaviside", "polar", "complex",
)  # fmt: skip
_FIRST_TENSOR = (
    "eq", "ne", "ge", "gt", "le", "lt", "fmod", "copysign", "rsub", "clamp_max", "clamp_min",
)  # fmt: skip


@pytest.mark.parametrize("name", _BOTH_TENSORS)
def test_two_tensors_are_needed(name: str) -> None:
    for call in (
        lambda m: getattr(m, name)(_integers(m), 2),
        lambda m: getattr(m, name)(2, _integers(m)),
        lambda m: getattr(m, name)(2, 3),
    ):
        same_refusal(call, call)


@pytest.mark.parametrize("name", _FIRST_TENSOR)
def test_a_tensor_comes_first(name: str) -> None:
    for call in (
        lambda m: getattr(m, name)(2, _integers(m)),
        lambda m: getattr(m, name)(2, 3),
    ):
        same_refusal(call, call)


def _aliased(m: Any) -> Any:
    source = m.rand(6)
    return m.gather(source, 0, m.tensor([0, 1, 2]), out=source[:3])


_REFUSED: tuple[Callable[[Any], Any], ...] = (
    lambda m: m.Tensor.__radd__(2, _integers(m)),
    lambda m: m.Tensor.__rxor__(2, 3),
    lambda m: m.cov(m.ones(3), fweights=m.tensor([1, -1, 2])),
    lambda m: m.cov(m.ones(3), aweights=m.tensor([1.0, -1.0, 2.0])),
    lambda m: m.linspace(0, 3, 1.0),
    lambda m: m.logspace(0, 3, 1.0),
    lambda m: m.normal(m.zeros(2), m.tensor([1.0, -1.0])),
    lambda m: m.multinomial(m.ones(1, 2, 3), 2),
    lambda m: m.multinomial(m.ones(2, dtype=m.int64), 2),
    lambda m: m.narrow(m.ones(4, 5), 0, m.tensor(True), 2),
    lambda m: m.rot90(m.ones(5, 5), dims=[0]),
    lambda m: m.rot90(m.ones(5)),
    lambda m: m.hsplit(m.ones(5, 5), 0),
    lambda m: m.vsplit(m.ones(5, 5), 0),
    lambda m: m.dsplit(m.ones(5, 5, 5), 0),
    lambda m: m.cat([]),
    lambda m: m.unbind(m.tensor(1)),
    lambda m: m.amax(m.ones(5, 0)),
    lambda m: m.amin(m.ones(5, 0), 1),
    lambda m: m.aminmax(m.ones(5, 0)),
    lambda m: m.float_power(2, 3),
    lambda m: m.nn.functional.multi_margin_loss(m.ones(5, 0), m.zeros(5, dtype=m.int64)),
    lambda m: m.nn.functional.multi_margin_loss(m.ones(5, 4), m.zeros(5)),
    lambda m: m.nn.functional.multi_margin_loss(
        m.ones(5, 4), m.zeros(5, dtype=m.int64), weight=m.ones(5)
    ),
    lambda m: m.nn.functional.multilabel_margin_loss(m.ones(0), m.ones(0, dtype=m.int64)),
    _aliased,
    lambda m: m.take(m.ones(6), m.tensor([1, 2]), out=m.ones(1).expand(2)),
    lambda m: m.gather(m.ones(3), 0, m.tensor([1]), out=m.ones(1, dtype=m.float64)),
    lambda m: m.aminmax(m.ones(2, 3), dim=0, out=(m.ones(3), m.ones(3, dtype=m.float64))),
)  # fmt: skip


@pytest.mark.parametrize("number", range(len(_REFUSED)))
def test_refusals(number: int) -> None:
    same_refusal(_REFUSED[number], _REFUSED[number])


def test_a_refused_target_is_left_as_it_was() -> None:
    import lazytorch

    source = lazytorch.arange(6)
    with pytest.raises(RuntimeError, match="single memory location"):
        lazytorch.gather(source, 0, lazytorch.tensor([5, 4, 3]), out=source[:3])
    assert source.tolist() == [0, 1, 2, 3, 4, 5]
