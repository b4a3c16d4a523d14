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
