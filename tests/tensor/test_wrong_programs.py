"""Wrong programs: PyTorch's class of exception, raised at the line that is wrong."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

import lazytorch as torch

A = torch.ones(2, 3)
B = torch.ones(4, 5)
LEAF = torch.ones(3, requires_grad=True)

PROGRAMS: list[tuple[str, type[Exception], str]] = [
    ("A + B", RuntimeError, "must match the size"),
    ("A @ B", RuntimeError, r"mat1 and mat2 shapes cannot be multiplied \(2x3 and 4x5\)"),
    ("A[2]", IndexError, "index 2 is out of bounds for dimension 0 with size 2"),
    ("A[0, 0, 0]", IndexError, "too many indices"),
    ("A[::-1]", ValueError, "step must be greater than zero"),
    ("A['x']", TypeError, "only integers, slices"),
    ("A[1.5]", TypeError, "only integers, slices"),
    ("A[torch.tensor([0, 5])]", IndexError, "index 5 is out of bounds"),
    ("A[torch.tensor([0.5])]", IndexError, "must be long, int, byte or bool"),
    ("A[torch.tensor([True, False, True])]", IndexError, "shape of the mask"),
    ("A.view(4, 2)", RuntimeError, "shape '.4, 2.' is invalid for input of size 6"),
    ("A.t().view(-1)", RuntimeError, "view size is not compatible"),
    ("A.reshape(-1, -1)", RuntimeError, "only one dimension can be inferred"),
    ("A.sum(5)", IndexError, "Dimension out of range"),
    ("A.permute(0, 0)", RuntimeError, "duplicate dims"),
    ("A.expand(3, 3)", RuntimeError, "must match the existing size"),
    ("torch.cat([A, B])", RuntimeError, "Sizes of tensors must match"),
    ("torch.stack([A, B])", RuntimeError, "equal size"),
    ("A.add_(torch.ones(5, 2, 3))", RuntimeError, "doesn't match the broadcast shape"),
    ("torch.arange(3).add_(1.5)", RuntimeError, "can't be cast to the desired output type Long"),
    ("LEAF.add_(1)", RuntimeError, "a leaf Variable that requires grad"),
    ("LEAF[0].mul_(2)", RuntimeError, "view of a leaf Variable"),
    ("LEAF.numpy()", RuntimeError, "requires grad"),
    ("(LEAF * 2).backward()", RuntimeError, "grad can be implicitly created only for scalar"),
    ("A.sum().backward()", RuntimeError, "does not require grad"),
    ("torch.arange(3).requires_grad_()", RuntimeError, "floating point"),
    ("A.item()", RuntimeError, "cannot be converted to Scalar"),
    ("bool(A)", RuntimeError, "Boolean value of Tensor with more than one value is ambiguous"),
    ("torch.arange(3) // torch.tensor([1, 0, 2])", RuntimeError, "ZeroDivisionError"),
    ("torch.tensor([True]) - torch.tensor([True])", RuntimeError, "bool tensor is not supported"),
    ("-torch.tensor([True])", RuntimeError, "bool tensor is not supported"),
    ("torch.arange(3) ** -1", RuntimeError, "negative integer powers"),
    ("A & A", NotImplementedError, "not implemented for 'Float'"),
    ("~A", TypeError, "integer and Boolean"),
    ("torch.arange(3).mean()", RuntimeError, "could not infer output dtype"),
    ("A + 'x'", TypeError, "str"),
    ("len(torch.tensor(1))", TypeError, "0-d tensor"),
    ("iter(torch.tensor(1))", TypeError, "0-d tensor"),
    ("torch.zeros(-1)", RuntimeError, "negative dimension"),
    ("torch.tensor([[1], [2, 3]])", ValueError, "different lengths"),
    ("torch.tensor('x')", TypeError, "can't make a tensor"),
    ("torch.device('nowhere')", RuntimeError, "device type at start of device string"),
    ("torch.set_default_dtype(torch.int64)", TypeError, "floating-point"),
    ("A.gather(1, torch.tensor([[7]]))", RuntimeError, "out of bounds"),
    ("torch.einsum('ij,jk', A, A)", RuntimeError, "does not broadcast"),
    ("torch.arange(0, 5, -1)", RuntimeError, "inconsistent with step sign"),
    ("A.squeeze(4)", IndexError, "Dimension out of range"),
    ("A.split([1, 5])", RuntimeError, "sum exactly to 2"),
    ("A.matmul(torch.ones(3, 2, dtype=torch.float64))", RuntimeError, "same dtype"),
    ("torch.ones(2).topk(3)", RuntimeError, "out of range"),
    ("torch.where(A, A, A)", RuntimeError, "boolean tensor"),
    ("A.masked_fill(A, 1)", RuntimeError, "boolean masks"),
    ("torch.zeros(0).max()", (RuntimeError, IndexError), "reduction dim"),  # type: ignore[list-item]
    ("torch.zeros(1, dtype=torch.uint8) + 300", RuntimeError, "without overflow"),
]  # fmt: skip


@pytest.mark.parametrize(("program", "error", "message"), PROGRAMS, ids=[p[0] for p in PROGRAMS])
def test_wrong_program(program: str, error: Any, message: str) -> None:
    source = f"right = torch.ones(2)\n\n{program}\n"
    with pytest.raises(error, match=message) as caught:
        exec(compile(source, "<user>", "exec"), {"torch": torch, "A": A, "B": B, "LEAF": LEAF})
    lines = [
        frame.lineno for frame in traceback.extract_tb(caught.tb) if frame.filename == "<user>"
    ]
    assert lines == [3]


def test_nodes_know_the_line_that_made_them() -> None:
    from lazytorch.tensor.site import format_site
    from lazytorch.tensor.storage import node_of

    code = compile("x = torch.ones(3)\n\ny = (x * 2.5).sigmoid()\n", "user_script.py", "exec")
    scope: dict[str, Any] = {"torch": torch}
    exec(code, scope)
    assert format_site(node_of(scope["y"]).site) == "user_script.py:3"


def test_second_backward_explains_itself() -> None:
    x = torch.ones(3, requires_grad=True)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()


def test_modified_by_an_inplace_operation() -> None:
    x = torch.ones(3, requires_grad=True)
    y = x.exp()
    z = y.sum()
    y.add_(1)
    with pytest.raises(
        RuntimeError, match=r"modified by an inplace operation: \[torch.FloatTensor"
    ):
        z.backward()


def test_views_made_together_refuse_writes() -> None:
    x = (torch.ones(4, requires_grad=True)) * 1
    first, _ = x.split(2)
    with pytest.raises(RuntimeError, match="function that returns multiple views"):
        first.add_(1)
