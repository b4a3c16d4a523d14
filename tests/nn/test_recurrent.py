"""Recurrent layers against PyTorch: values, gradients, packed sequences, errors, launches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
from lazytorch import engine, nn
from lazytorch.ir.node import postorder
from lazytorch.nn.utils import rnn
from lazytorch.ops.recurrence import RECURRENT
from lazytorch.runtime import available_devices
from lazytorch.tensor.storage import node_of
from tests.programs import compute

DEVICES = available_devices()
LAYERS = [
    "RNN(3, 5)",
    "RNN(3, 17, nonlinearity='relu', bias=False, batch_first=True)",
    "LSTM(3, 7, bias=False)",
    "LSTM(3, 19, batch_first=True, bidirectional=True)",
    "GRU(3, 16)",
    "GRU(3, 6, 2, bias=False)",
]
# The second driver compiles slowly and has the same kernels: one layer of each kind of step.
CASES = [
    (text, number % 2 == 1, device)
    for device in DEVICES
    for number, text in enumerate(LAYERS)
    if device != "opencl:1" or number in (2, 4)
]


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def pair(text: str, device: str = "cpu", dtype: str = "float32") -> tuple[Any, Any, Any]:
    """(PyTorch, its layer, ours with the same weights)."""
    torch = pytest.importorskip("torch")
    theirs = eval(f"nn.{text}", {"nn": torch.nn}).to(getattr(torch, dtype))
    ours = eval(f"nn.{text}", {"nn": nn}).to(getattr(lazytorch, dtype))
    state = {name: lazytorch.tensor(v.numpy()) for name, v in theirs.state_dict().items()}
    ours.load_state_dict(state)
    return torch, theirs, ours.to(device)


def flat(result: Any) -> list[Any]:
    """The tensors of a layer's results in order."""
    if isinstance(result, tuple) and not hasattr(result, "batch_sizes"):
        return [tensor for part in result for tensor in flat(part)]
    return [result.data] if hasattr(result, "batch_sizes") else [result]


def states_of(layer: Any, batch: int, module: Any, **options: Any) -> Any:
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    width = layer.proj_size or layer.hidden_size
    hidden = module.tensor(values(count, batch, width), requires_grad=True, **options)
    if layer.mode != "LSTM":
        return hidden
    cell = values(count, batch, layer.hidden_size, seed=1)
    return hidden, module.tensor(cell, requires_grad=True, **options)


def close(ours: Any, theirs: Any, what: str, tolerance: float = 2e-5) -> None:
    a, b = ours.detach().cpu().numpy(), theirs.detach().numpy()
    assert a.shape == b.shape, what
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=what)


def compare(ours: Any, theirs: Any, mine: Any, their: Any, inputs: Any, torch: Any) -> None:
    """Results, and the gradients of a sum of squares of all of them."""
    total = reference = None
    compute(*flat(mine))
    for a, b in zip(flat(mine), flat(their)):
        close(a, b, "result")
        total = (a * a).sum() if total is None else total + (a * a).sum()
        reference = (b * b).sum() if reference is None else reference + (b * b).sum()
    total.backward()
    reference.backward()
    compute(*(a.grad for a in ours.parameters()), *(a.grad for a, _ in inputs))
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters()):
        close(a.grad, b.grad, name, 2e-4)
    for a, b in inputs:
        close(a.grad, b.grad, "input", 2e-4)


@pytest.mark.parametrize(("text", "given", "device"), CASES)
def test_values_and_gradients(text: str, given: bool, device: str) -> None:
    torch, theirs, ours = pair(text, device)
    data = values(4, 4, 3)
    a = lazytorch.tensor(data, requires_grad=True, device=device)
    b = torch.tensor(data, requires_grad=True)
    inputs = [(a, b)]
    if given:
        x, y = states_of(ours, 4, lazytorch, device=device), states_of(theirs, 4, torch)
        inputs += zip(flat(x), flat(y))
        compare(ours, theirs, ours(a, x), theirs(b, y), inputs, torch)
    else:
        compare(ours, theirs, ours(a), theirs(b), inputs, torch)


@pytest.mark.parametrize("device", [name for name in DEVICES if name != "opencl:1"])
@pytest.mark.parametrize("text", ["RNN(3, 5)", "LSTM(3, 17, bidirectional=True)", "GRU(3, 16)"])
def test_packed_sequences(text: str, device: str) -> None:
    torch, theirs, ours = pair(text, device)
    data, lengths = values(5, 6, 3), [2, 5, 1, 5, 3, 2]
    a = lazytorch.tensor(data, requires_grad=True, device=device)
    b = torch.tensor(data, requires_grad=True)
    mine = rnn.pack_padded_sequence(a, lengths, enforce_sorted=False)
    their = torch.nn.utils.rnn.pack_padded_sequence(b, lengths, enforce_sorted=False)
    compare(ours, theirs, ours(mine), theirs(their), [(a, b)], torch)


def test_packed_projection_and_states() -> None:
    torch, theirs, ours = pair("LSTM(3, 9, 2, proj_size=4)")
    data, lengths = values(4, 3, 3), [4, 3, 1]
    a, b = lazytorch.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    x, y = states_of(ours, 3, lazytorch), states_of(theirs, 3, torch)
    mine = ours(rnn.pack_padded_sequence(a, lengths), x)
    their = theirs(torch.nn.utils.rnn.pack_padded_sequence(b, lengths), y)
    compare(ours, theirs, mine, their, [(a, b), *zip(flat(x), flat(y))], torch)


@pytest.mark.parametrize("batch", [7, 33])
def test_every_batch_of_the_register_tiles(batch: int) -> None:
    torch, theirs, ours = pair("LSTM(3, 40)")
    data = values(3, batch, 3)
    a, b = lazytorch.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    compare(ours, theirs, ours(a), theirs(b), [(a, b)], torch)


@pytest.mark.parametrize("text", ["RNN(3, 5, batch_first=True)", "LSTM(3, 4)"])
def test_unbatched_float64_and_one_step(text: str) -> None:
    torch, theirs, ours = pair(text, dtype="float64")
    data = values(1, 3).astype(np.float64)
    a, b = lazytorch.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    compare(ours, theirs, ours(a), theirs(b), [(a, b)], torch)


def test_strided_and_bfloat16_input() -> None:
    torch, theirs, ours = pair("LSTM(3, 8)")
    data = np.asfortranarray(values(4, 3, 3))
    close(ours(lazytorch.from_numpy(data))[0], theirs(torch.from_numpy(data))[0], "strided")
    half = ours.bfloat16()(lazytorch.tensor(data).bfloat16())[0]
    assert half.dtype is lazytorch.bfloat16
    close(half.float(), theirs(torch.from_numpy(data))[0], "bfloat16", 0.05)


def test_empty_batch() -> None:
    out, (h, c) = nn.LSTM(3, 4)(lazytorch.ones(2, 0, 3))
    assert out.shape == (2, 0, 4) and h.shape == c.shape == (1, 0, 4)
    assert out.detach().numpy().shape == (2, 0, 4)


@pytest.mark.parametrize("text", ["RNN(2, 3)", "LSTM(2, 3, proj_size=2)", "GRU(2, 3)"])
def test_gradient_of_the_gradient(text: str) -> None:
    """The layer step by step is ordinary operations: a device that builds nothing will do."""
    torch, theirs, ours = pair(text, "numpy", "float64")
    data = values(3, 2, 2).astype(np.float64)
    found = []
    for module, layer, tools, device in (
        (lazytorch, ours, rnn, "numpy"), (torch, theirs, torch.nn.utils.rnn, "cpu"),
    ):  # fmt: skip
        x = module.tensor(data, requires_grad=True, device=device)
        entering = tools.pack_padded_sequence(x, [3, 2])
        total = sum((part * part).sum() for part in flat(layer(entering)))
        (first,) = module.autograd.grad(total, x, create_graph=True)
        (first * first).sum().backward()
        found.append([first, x.grad, *(weight.grad for weight in layer.parameters())])
    for number, (a, b) in enumerate(zip(*found)):
        close(a, b, f"gradient {number}", 1e-9)


def test_dropout_between_layers() -> None:
    layer = nn.GRU(4, 8, 2, dropout=1.0)
    x = lazytorch.ones(3, 2, 4)
    without = nn.GRU(8, 8)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    without.load_state_dict({f"{n}_l0": layer.state_dict()[f"{n}_l1"] for n in names})
    np.testing.assert_allclose(
        layer(x)[0].detach().numpy(), without(lazytorch.zeros(3, 2, 8))[0].detach().numpy(),
        rtol=1e-6, atol=1e-6,
    )  # fmt: skip
    assert not np.allclose(layer(x)[0].detach().numpy(), layer.eval()(x)[0].detach().numpy())


@pytest.mark.parametrize(
    ("text", "device"),
    [
        (text, device)
        for text in ("RNN(8, 16)", "LSTM(8, 16)", "GRU(8, 16)")
        for device in ("opencl:0", "numpy")
        if device in DEVICES and (device == "numpy" or text.startswith("LSTM"))
    ],
)
def test_launches_do_not_grow_with_time(text: str, device: str) -> None:
    counts = []
    for steps in (32, 128):
        layer = eval(f"nn.{text}", {"nn": nn}).to(device)
        x = lazytorch.tensor(values(steps, 4, 8), device=device)
        layer(x)[0].sum().backward()
        before = lazytorch.stats()["kernels_launched"]
        engine.realize([node_of(weight.grad) for weight in layer.parameters()])
        counts.append(lazytorch.stats()["kernels_launched"] - before)
    # Sums over time are split over work-items when they become long, and then never again.
    assert counts[1] <= counts[0] + 2 <= 20


# Modules --------------------------------------------------------------------------------------

TEXTS = [
    *LAYERS, "LSTM(3, 9, 2, proj_size=4, bidirectional=True)", "RNN(3, 4, 2, 'relu')",
    "LSTM(3, 4, 2, False, True, 0.5, True, 2)",
    "RNNCell(3, 4)", "RNNCell(3, 4, False, 'relu')", "LSTMCell(3, 4)", "GRUCell(3, 4, bias=False)",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_names_shapes_and_text(text: str) -> None:
    _, theirs, ours = pair(text)
    assert repr(ours) == repr(theirs)
    shapes = {name: tuple(v.shape) for name, v in theirs.state_dict().items()}
    assert {name: tuple(v.shape) for name, v in ours.state_dict().items()} == shapes
    if "Cell" not in text:
        lists = [[tuple(w.shape) for w in part] for part in theirs.all_weights]
        assert [[tuple(w.shape) for w in part] for part in ours.all_weights] == lists
    bound = 1 / np.sqrt(ours.hidden_size)
    fresh = np.concatenate([w.detach().numpy().ravel() for w in type(ours)(9, 16).parameters()])
    assert np.abs(fresh).max() <= 0.25 and np.abs(fresh).max() > 0.24 and bound > 0


@pytest.mark.parametrize(("given", "single"), [(False, True), (True, False)], ids=str)
@pytest.mark.parametrize(
    "text", ["RNNCell(3, 4)", "RNNCell(3, 4, False, 'relu')", "LSTMCell(3, 4)", "GRUCell(3, 4)"]
)
def test_cells(text: str, given: bool, single: bool) -> None:
    torch, theirs, ours = pair(text)
    lead = () if single else (2,)
    results = []
    for module, cell in ((lazytorch, ours), (torch, theirs)):
        x = module.tensor(values(*lead, 3), requires_grad=True)
        state = module.tensor(values(*lead, 4)) if given else None
        if given and text.startswith("LSTM"):
            state = (state, module.tensor(values(*lead, 4, seed=2)))
        results.append((x, cell(x, state)))
    (a, mine), (b, their) = results
    compare(ours, theirs, mine, their, [(a, b)], torch)


ERRORS = [
    ("RNN(3, 4, nonlinearity='x')", None), ("RNN(3, 4, proj_size=2)", None),
    ("LSTM(3, 4, proj_size=4)", None), ("LSTM(3, 0)", None), ("LSTM(3, 4, 0)", None),
    ("LSTM(3, 4, dropout=2)", None), ("LSTM(3, 2.5)", None), ("GRU(3, 4, bias=1)", None),
    ("LSTM(3, 4)", lambda m, l: l(m.ones(0, 2, 3))),
    ("LSTM(3, 4)", lambda m, l: l(m.ones(2, 2, 5))),
    ("LSTM(3, 4)", lambda m, l: l(m.ones(2, 2, 3, 1))),
    ("RNN(3, 4)", lambda m, l: l(m.ones(3))),
    ("GRU(3, 4)", lambda m, l: l(m.ones(2, 2, 3).double())),
    ("GRU(3, 4)", lambda m, l: l(m.ones(2, 2, 3), m.ones(2, 4))),
    ("GRU(3, 4)", lambda m, l: l(m.ones(2, 2, 3), m.ones(1, 3, 4))),
    ("LSTM(3, 4)", lambda m, l: l(m.ones(2, 3), (m.ones(1, 1, 4), m.ones(1, 1, 4)))),
    ("LSTM(3, 4)", lambda m, l: l(m.ones(2, 2, 3), (m.ones(1, 2, 4), m.ones(1, 2, 5)))),
    ("LSTMCell(3, 4)", lambda m, l: l(m.ones(2, 5))),
    ("LSTMCell(3, 4)", lambda m, l: l(m.ones(2, 3), (m.ones(2, 5), m.ones(2, 4)))),
    ("GRUCell(3, 4)", lambda m, l: l(m.ones(2, 3), m.ones(3, 4))),
    ("RNNCell(3, 4)", lambda m, l: l(m.ones(2, 3, 1))),
    ("RNNCell(3, 4, nonlinearity='x')", lambda m, l: l(m.ones(2, 3))),
]  # fmt: skip


@pytest.mark.parametrize("text, call", ERRORS, ids=range(len(ERRORS)))
def test_errors_are_pytorch_s(text: str, call: Any) -> None:
    torch = pytest.importorskip("torch")
    raised = []
    for module in (torch, lazytorch):
        with pytest.raises(Exception) as caught:
            layer = eval(f"nn.{text}", {"nn": module.nn})
            if call is not None:
                call(module, layer)
        raised.append((type(caught.value), str(caught.value)))
    assert raised[0] == raised[1]


# Packing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
def test_packing_and_padding(batch_first: bool) -> None:
    torch = pytest.importorskip("torch")
    data, lengths = values(3, 3, 2), [1, 3, 2]
    made = []
    for module, tools in ((lazytorch, rnn), (torch, torch.nn.utils.rnn)):
        x = module.tensor(data, requires_grad=True)
        packed = tools.pack_padded_sequence(
            x, module.tensor(lengths), batch_first=batch_first, enforce_sorted=False
        )
        padded, back = tools.pad_packed_sequence(packed, batch_first, -1.0, total_length=4)
        (padded * padded).sum().backward()
        parts = tools.unpack_sequence(packed)
        made.append([*packed, padded, back, x.grad, *parts, tools.pad_sequence(parts)])
    for a, b in zip(*made):
        close(a, b, "packing", 1e-6)


def test_pack_sequence_and_padding_side() -> None:
    parts = [lazytorch.tensor([1.0, 2.0, 3.0]), lazytorch.tensor([4.0])]
    assert rnn.pack_sequence(parts).data.tolist() == [1, 4, 2, 3]
    left = rnn.pad_sequence(parts, True, 9.0, padding_side="left")
    assert left.tolist() == [[1, 2, 3], [9, 9, 4]]
    assert [p.tolist() for p in rnn.unpad_sequence(left, [2, 1], True)] == [[1, 2], [9]]
    moved = rnn.pack_sequence(parts).double()
    assert moved.data.dtype is lazytorch.float64 and moved.batch_sizes.tolist() == [2, 1, 1]


@pytest.mark.parametrize("lengths", [[1, 2], [2, 0], [2]])
def test_packing_errors(lengths: list[int]) -> None:
    torch = pytest.importorskip("torch")
    texts = []
    for module, tools in ((torch, torch.nn.utils.rnn), (lazytorch, rnn)):
        with pytest.raises(RuntimeError) as caught:
            tools.pack_padded_sequence(module.ones(3, 2, 4), lengths)
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    with pytest.raises(RuntimeError, match="only 3 steps"):
        rnn.pack_padded_sequence(lazytorch.ones(3, 2, 4), [4, 2])


@pytest.mark.parametrize("text", ["LSTM(16, 16)", "LSTM(16, 16, proj_size=8)", "GRU(16, 16)"])
def test_without_a_gradient_no_gates_are_kept(text: str) -> None:
    layer = eval(f"nn.{text}")
    x = lazytorch.tensor(np.random.default_rng(0).standard_normal((40, 32, 16), np.float32))
    expected = layer(x)[0].detach().numpy()
    with lazytorch.no_grad():
        output = layer(x)[0]
    (made,) = [n for n in postorder([node_of(output)]) if n.op is RECURRENT]
    # The output, an LSTM's cells, and one step's gates.
    assert made.size < 2.5 * 40 * 32 * 16
    np.testing.assert_array_equal(output.numpy(), expected)
