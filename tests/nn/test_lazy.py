"""Lazy modules, and the layers whose call takes more than an input, against PyTorch."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import lazytorch
from lazytorch import nn
from lazytorch.runtime import available_devices

DEVICES = [name for name in available_devices() if name != "opencl:1"]
LAZY = [
    ("LazyLinear(3)", (2, 5)),
    ("LazyLinear(3, bias=False)", (4,)),
    ("LazyConv1d(4, 3, groups=2)", (2, 6, 5)),
    ("LazyConv2d(4, 3, 2, 1, 1, 1, False, 'reflect')", (2, 3, 6, 6)),
    ("LazyConv3d(2, 2)", (3, 4, 4, 4)),
    ("LazyConvTranspose2d(4, 3, stride=2)", (2, 3, 4, 4)),
    ("LazyBatchNorm1d()", (4, 3)),
    ("LazyBatchNorm2d(affine=False)", (2, 3, 4, 4)),
    ("LazyInstanceNorm1d(track_running_stats=False)", (2, 3, 5)),
]

pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def taken(state: Any) -> dict[str, Any]:
    return {name: lazytorch.tensor(value.numpy()) for name, value in state.items()}


@pytest.mark.parametrize(("text", "shape"), LAZY)
def test_sizes_come_from_the_first_input(text: str, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch")
    theirs, ours = (eval(f"nn.{text}", {"nn": library.nn}) for library in (torch, lazytorch))
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    theirs(torch.from_numpy(values(*shape)))
    ours(lazytorch.from_numpy(values(*shape)))
    assert repr(ours) == repr(theirs) and type(ours).__name__ == type(theirs).__name__
    state = theirs.state_dict()
    loaded = eval(f"nn.{text}", {"nn": nn})
    for module in (ours, loaded):  # the second gets its shapes from what it loads
        module.load_state_dict(taken(state))
        x = values(*shape)
        found = module(lazytorch.from_numpy(x)).detach().numpy()
        expected = copy.deepcopy(theirs)(torch.from_numpy(x)).detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)
        assert repr(module) == repr(theirs)


def test_an_uninitialized_parameter_is_no_tensor_yet() -> None:
    layer = nn.LazyLinear(3)
    assert repr(layer.weight) == "<UninitializedParameter>" and layer.has_uninitialized_params()
    with pytest.raises(ValueError, match="uninitialized parameter"):
        layer.weight + 1
    with pytest.raises(ValueError, match="uninitialized parameter"):
        lazytorch.matmul(lazytorch.ones(2, 3), layer.weight)
    with pytest.raises(RuntimeError, match="Can't access the shape"):
        layer.weight.shape
    with pytest.raises(RuntimeError, match="Can't access the shape"):
        nn.Linear(2, 3).load_state_dict(layer.state_dict())
    twin = pickle.loads(pickle.dumps(copy.deepcopy(layer.double())))
    twin(lazytorch.ones(2, 5, dtype=lazytorch.float64))
    assert type(twin) is nn.Linear and twin.weight.dtype is lazytorch.float64
    assert twin.weight.is_leaf and twin.weight.requires_grad
    assert layer.has_uninitialized_params()
    with pytest.raises(RuntimeError, match=r"Expected 3D .* or 4D"):
        nn.LazyConv2d(2, 3)(lazytorch.ones(3))
    with pytest.raises(ValueError, match="divisible by groups"):
        nn.LazyConv2d(2, 3, groups=2)(lazytorch.ones(1, 3, 4, 4))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dims", [2, 3])
def test_unpooling_and_fractional_pooling(dims: int, device: str) -> None:
    torch = pytest.importorskip("torch")
    x, samples = values(2, 3, *(6,) * dims), np.random.default_rng(0).random((2, 3, dims))
    found = []
    for library, place in ((lazytorch, device), (torch, "cpu")):
        tensor = library.from_numpy(x).to(place)
        pool = getattr(library.nn, f"MaxPool{dims}d")(2, return_indices=True)
        back = getattr(library.nn, f"MaxUnpool{dims}d")(2)
        random = library.from_numpy(samples.astype(np.float32)).to(place)
        fraction = getattr(library.nn, f"FractionalMaxPool{dims}d")(
            2, output_ratio=0.5, _random_samples=random
        )
        found.append([repr(back), repr(fraction), list(fraction.state_dict())])
        found[-1] += [t.cpu().numpy().tolist() for t in (back(*pool(tensor)), fraction(tensor))]
    assert found[0] == found[1]


@pytest.mark.parametrize("device", DEVICES)
def test_adaptive_softmax(device: str) -> None:
    torch = pytest.importorskip("torch")
    arguments = (8, 20, [5, 10])
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(*arguments, div_value=2.0, head_bias=True)
    ours = nn.AdaptiveLogSoftmaxWithLoss(*arguments, div_value=2.0, head_bias=True)
    assert repr(ours) == repr(theirs)
    ours.load_state_dict(taken(theirs.state_dict()))
    ours.to(device)
    x, y = values(6, 8), np.array([1, 7, 19, 0, 4, 10])
    found = []
    for library, layer, place in ((lazytorch, ours, device), (torch, theirs, "cpu")):
        inputs = library.from_numpy(x).to(place).requires_grad_()
        targets = library.from_numpy(y).to(place)
        output, loss = layer(inputs, targets)
        loss.backward()
        tensors = [output, loss, inputs.grad, layer.tail[1][0].weight.grad, layer.log_prob(inputs)]
        tensors += [layer(inputs[0], targets[0]).output, layer.predict(inputs)]
        found.append([t.detach().cpu().numpy() for t in tensors])
        with pytest.raises(RuntimeError, match="in range"):
            layer(inputs, targets + 1)
        with pytest.raises(RuntimeError, match="same size in the batch"):
            layer(inputs, targets[:2])
    for a, b in zip(*found, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)
    with pytest.raises(ValueError, match="cutoffs"):
        nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 5])


def test_what_needs_several_devices_is_refused() -> None:
    layers = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm1d(2)))
    weight = layers[0].weight
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(layers)
    assert type(converted[0]) is type(converted[1][0]) is nn.SyncBatchNorm
    assert converted[0].weight is weight
    with pytest.raises(NotImplementedError, match="process_group"):
        nn.SyncBatchNorm(3, process_group=object())
    with pytest.raises(NotImplementedError, match="device_ids"):
        nn.DataParallel(nn.Linear(1, 1), device_ids=[0, 1])
