"""Functions whose graph is recorded once: the same graph again, and never another one's."""

from __future__ import annotations

import numpy as np

import lazytorch as torch
from lazytorch.tensor import recorder
from lazytorch.tensor.storage import node_of
from lazytorch.tensor.templates import repeated, repeated_gradient


def counting(function):
    """The function repeated, and a list that grows with every call of the function itself."""
    calls: list[int] = []

    def counted(*arguments):
        calls.append(1)
        return function(*arguments)

    return repeated(counted), calls


def graph_of(tensor) -> list:
    """Operations, attributes and numbers of a pending graph, users first."""
    found, waiting = [], [node_of(tensor)]
    for node in waiting:
        number = node.buffer if node.op.name == "scalar" else None
        found.append((node.op.name, node.attrs, node.shape, node.dtype, number))
        waiting += node.src
    return found


def values(*shape: int) -> torch.Tensor:
    array = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    return torch.tensor(array, device="numpy")


def test_a_third_call_repeats_the_graph_of_the_first() -> None:
    again, calls = counting(lambda x, y, n: (x * 0.3 + y.sum(0) * n, None, x.reshape(-1)))
    for number, shape in enumerate([(3, 4), (3, 4), (3, 4), (5, 4), (3, 4)]):
        x, y = values(*shape), values(2, *shape) + number
        first, nothing, flat = again(x, y, 3)
        assert nothing is None and first.grad_fn is None
        assert graph_of(first) == graph_of(x * 0.3 + y.sum(0) * 3)
        np.testing.assert_array_equal(first, x * 0.3 + y.sum(0) * 3)
        np.testing.assert_array_equal(flat, x.flatten())
    assert len(calls) == 3  # Twice for the first shape, once for the one that comes once.


def test_what_differs_is_recorded_anew() -> None:
    again, calls = counting(lambda x, y, n: x * n + y)
    x, y = values(3), values(3) + 1
    arguments = [
        (x, y, 2), (x, y, 3), (x, x, 3), (x.double(), y, 3), (x, y.reshape(3, 1), 3),
        (x, torch.tensor(7.0, device="numpy"), 3), (x, torch.full((3,), 7.0, device="numpy"), 3),
        (x, torch.full((3,), 5.0, device="numpy"), 3),
    ]  # fmt: skip
    for _ in range(3):
        for a, b, n in arguments:
            np.testing.assert_array_equal(again(a, b, n), a * n + b)
    # Two of them differ from the second in their values alone.
    assert len(calls) >= 2 * (len(arguments) - 2)


def test_numbers_are_arguments_of_their_own() -> None:
    """Two uses of one function in a graph give the same plan whether recorded or repeated."""
    again, _ = counting(lambda x: x * 0.3)
    x = values(4)
    missed = []
    for _ in range(4):
        before = torch.stats()["plans_missed"]
        (again(x).reshape(4, 1) + again(x + 1)).numpy()
        missed.append(torch.stats()["plans_missed"] - before)
    assert missed[1:] == [0, 0, 0]


def test_draws_and_constants_are_not_repeated() -> None:
    torch.manual_seed(0)
    random, calls = counting(lambda x: x + torch.rand(1000, device="numpy"))
    x = torch.zeros(1000, device="numpy")
    assert len({float(random(x).sum()) for _ in range(5)}) == 5 and len(calls) == 5
    constant, calls = counting(lambda x: (x.new_zeros(()), x))
    for _ in range(4):
        zero, _ = constant(values(2))
        zero += 1
        assert zero.item() == 1


def test_a_taped_gradient_is_differentiable() -> None:
    scaled = repeated_gradient(lambda x, y: x * y * 3)
    x, y = values(3).requires_grad_(), values(3) + 1
    for _ in range(3):
        with torch.no_grad():
            assert not scaled(x, y).requires_grad
        (gradient,) = torch.autograd.grad(scaled(x, y).sum(), x)
        np.testing.assert_array_equal(gradient, y * 3)


def test_eager_operations_are_computed_one_by_one() -> None:
    again, calls = counting(lambda x: (x + 1) * 2)
    recorder.set_eager(True)
    try:
        for _ in range(3):
            np.testing.assert_array_equal(again(values(3)), (values(3) + 1) * 2)
    finally:
        recorder.set_eager(False)
    assert len(calls) == 3


def test_composites_repeat_with_every_kind_of_argument() -> None:
    """Calls that repeat what the second one left, against the values of the first."""
    F = torch.nn.functional
    x = values(2, 4, 6, 6).sin()
    w = values(6, 2, 3, 3).cos()
    ones = torch.ones(4, device="numpy")
    programs = [
        lambda: F.conv2d(x, w, None, 2, 1, 1, 2),
        lambda: F.conv2d(x, w, values(6), 1, 2, 2, 2),
        lambda: F.conv_transpose2d(x, w.reshape(4, 3, 3, 3), values(3), 2, 1, 1),
        lambda: F.max_pool2d(x, 3, 2, 1),
        lambda: F.avg_pool2d(x, 3, 2, 1, False, False),
        lambda: F.batch_norm(x, None, None, ones, None, True),
        lambda: F.layer_norm(x, (6,), values(6), values(6)),
        lambda: F.group_norm(x, 2, None, values(4)),
        lambda: F.rms_norm(x, (6,), values(6)),
    ]
    x.requires_grad_(), w.requires_grad_()
    for program in programs:
        found = []
        for _ in range(4):
            x.grad = w.grad = None
            out = program()
            (out * out).sum().backward()
            found.append([np.array(v.detach()) for v in (out, x.grad, w.grad) if v is not None])
        for repetition in found[1:]:
            for a, b in zip(found[0], repetition, strict=True):
                np.testing.assert_array_equal(a, b)
