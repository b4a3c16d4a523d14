"""torch.testing.assert_close: the same verdicts and the same messages as PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch

CALLS = """
torch.ones(2), torch.ones(2)
torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])
torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[1.0, 4.0], [3.0, 4.0]]), rtol=0.0, atol=0.0
torch.tensor([1, 2]), torch.tensor([1, 4])
torch.ones(2), torch.ones(3)
torch.ones(2), torch.ones(2).double()
torch.ones(2), torch.ones(2).double(), check_dtype=False
torch.ones(2, 3), torch.ones(3, 2).t(), check_stride=True
torch.tensor(1.0), torch.tensor(2.0)
1.0, 2.0
1, 2
1, 1.0
[torch.ones(1), torch.zeros(1)], [torch.ones(1), torch.ones(1)]
[1, 2], [1]
{"a": 1, "c": 1}, {"a": 1, "b": 2}
{"a": [1.0, 2.0]}, {"a": [1.0, 3.0]}
torch.tensor([float("nan")]), torch.tensor([float("nan")])
torch.tensor([float("nan")]), torch.tensor([float("nan")]), equal_nan=True
torch.tensor([float("inf"), 1.0]), torch.tensor([float("inf"), 2.0])
torch.ones(2).half(), torch.ones(2).half() * 1.1
torch.ones(1), torch.zeros(1), rtol=1e-3
torch.ones(1), torch.zeros(1), msg="no"
torch.ones(1), torch.zeros(1), msg=lambda text: "Header: " + text
None, 1
torch.ones(1), 1.0
np.ones(2), np.zeros(2)
torch.tensor([True]), torch.tensor([False])
torch.tensor([1 + 1j]), torch.tensor([1 + 2j])
torch.ones(2, requires_grad=True), torch.ones(2)
torch.ones(0), torch.ones(0)
""".strip().splitlines()


def _verdict(library: Any, call: str) -> str:
    try:
        eval(f"torch.testing.assert_close({call})", {"torch": library, "np": np})
    except (AssertionError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}".replace("lazytorch", "torch")
    return "close"


@pytest.mark.parametrize("call", CALLS)
def test_verdict_and_message_are_pytorchs(call: str) -> None:
    torch = pytest.importorskip("torch")
    assert _verdict(lazytorch, call) == _verdict(torch, call)


DRAWS: tuple[dict[str, Any], ...] = (
    {}, {"low": 0}, {"low": -3, "high": 3.5}, {"noncontiguous": True}, {"low": 5, "high": 2},
    {"exclude_zero": True, "low": 0, "high": 2}, {"low": float("nan")}, {"low": 400, "high": 1e39},
    {"requires_grad": True}, {"low": -1e300, "high": 1e300},
)  # fmt: skip


@pytest.mark.parametrize("options", DRAWS, ids=str)
def test_make_tensor(options: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")

    def facts(module: Any, name: str) -> Any:
        dtype = getattr(module, name)
        try:
            x = module.testing.make_tensor(4, 5, dtype=dtype, device="cpu", **options)
        except ValueError as error:
            return str(error).split(",")[0]
        values = x.detach().to(module.complex128).abs()
        zeros = bool((values == 0).any()) if options.get("exclude_zero") else None
        return tuple(x.shape), x.stride(), x.requires_grad, str(x.dtype), zeros

    for name in ("bool", "uint8", "int16", "int64", "float16", "bfloat16", "float32", "complex64"):
        assert facts(lazytorch, name) == facts(torch, name), name


def test_make_tensor_keeps_to_its_bounds() -> None:
    for name in ("int8", "int64", "float32", "float64", "complex64"):
        dtype = getattr(lazytorch, name)
        x = lazytorch.testing.make_tensor((500,), dtype=dtype, device="cpu", low=-2, high=3)
        parts = lazytorch.view_as_real(x) if dtype.is_complex else x
        low, high = float(parts.min()), float(parts.max())
        assert -2 <= low < -1.5 and 1.5 < high <= 3, name
        assert dtype.is_floating_point or dtype.is_complex or high == 2
