"""Names, signatures and texts of torch.nn are PyTorch's; what programs import from its files."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import nn

# Classes that are made with arguments; all others without.
ARGUMENTS = {
    "Linear": (2, 3), "Bilinear": (2, 3, 4), "Unflatten": (1, (2, 3)), "Embedding": (4, 3),
    "EmbeddingBag": (4, 3), "MultiheadAttention": (4, 2), "GroupNorm": (2, 4), "Fold": (4, 2),
    "AdaptiveLogSoftmaxWithLoss": (8, 10, [3, 6]), "LayerNorm": (3,), "RMSNorm": ((3, 2),),
    "Transformer": (8, 2, 1, 1, 16), "TransformerEncoderLayer": (8, 2), "Threshold": (1, 2),
    "TransformerDecoderLayer": (8, 2), "LinearCrossEntropyLoss": (3, 4), "LazyLinear": (3,),
    "LSTM": (3, 4, 2), "GRU": (3, 4), "RNN": (3, 4), "LSTMCell": (3, 4), "GRUCell": (3, 4),
    "RNNCell": (3, 4), "UpsamplingNearest2d": (None, 2), "UpsamplingBilinear2d": (None, 2),
    "Upsample": (None, 2), "CrossMapLRN2d": (2,), "LocalResponseNorm": (2,), "Unfold": (2,),
    "SyncBatchNorm": (3,), "ChannelShuffle": (2,), "PixelShuffle": (2,), "PixelUnshuffle": (2,),
}  # fmt: skip
PATTERNS = {
    "LazyConv": (3, 2), "Conv": (2, 3, 3), "BatchNorm": (3,), "InstanceNorm": (3,),
    "LPPool": (2, 3), "Adaptive": (2,), "ConstantPad": (1, 2.0), "Pad": (2,),
    "MaxUnpool": (2,), "Pool": (2,), "LazyBatchNorm": (), "LazyInstanceNorm": (),
}  # fmt: skip
# Base classes, and what wraps other modules.
NOT_MADE = ("RNNBase", "RNNCellBase", "TransformerEncoder", "TransformerDecoder", "DataParallel")


def made(library, name: str):
    given = ARGUMENTS.get(name)
    if given is None:
        fitting = [key for key in PATTERNS if name.startswith(key)] or [
            key for key in PATTERNS if key in name
        ]
        given = PATTERNS[max(fitting, key=len)] if fitting else ()
    options = {"output_size": 3} if name.startswith("Fractional") else {}
    return getattr(library.nn, name)(*given, **options)


def parameters_of(function) -> list[tuple[str, str, str]]:
    found = inspect.signature(function).parameters.values()
    # Classes of the libraries, such as the default of a dtype, print in two ways.
    return [(p.name, p.kind.name, str(p.default).split(" at 0x")[0]) for p in found][1:]


@pytest.mark.filterwarnings("ignore")
def test_classes_are_pytorchs() -> None:
    reference = pytest.importorskip("torch")
    layers = {
        name: kind
        for name, kind in vars(reference.nn).items()
        if inspect.isclass(kind) and issubclass(kind, reference.nn.Module)
    }
    assert not [name for name in layers if not hasattr(nn, name)]
    for name, theirs in layers.items():
        mine = getattr(nn, name)
        assert parameters_of(mine.__init__) == parameters_of(theirs.__init__), name
        if name in NOT_MADE:
            continue
        assert parameters_of(mine.forward) == parameters_of(theirs.forward) or name in (
            "Module", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "Container",
        ), name  # fmt: skip
        layer, other = made(torch, name), made(reference, name)
        assert repr(layer).replace("lazytorch", "torch") == repr(other)
        assert list(layer.state_dict()) == list(other.state_dict()), name


def test_files_of_layers_are_there() -> None:
    reference = pytest.importorskip("torch.nn.modules")
    for file in pkgutil.iter_modules(reference.__path__):
        if file.name == "_functions":
            continue
        theirs = importlib.import_module(f"torch.nn.modules.{file.name}")
        mine = importlib.import_module(f"lazytorch.nn.modules.{file.name}")
        for name in getattr(theirs, "__all__", ()):
            assert hasattr(mine, name), (file.name, name)


def test_base_classes_by_the_names_of_files() -> None:
    from lazytorch.nn.common_types import _size_2_t
    from lazytorch.nn.modules.batchnorm import _BatchNorm
    from lazytorch.nn.modules.conv import _ConvNd
    from lazytorch.nn.modules.dropout import _DropoutNd
    from lazytorch.nn.modules.utils import _list_with_default, _pair, _reverse_repeat_tuple

    assert _size_2_t == int | tuple[int, int]
    assert isinstance(nn.SyncBatchNorm(2), _BatchNorm) and issubclass(nn.Conv2d, _ConvNd)
    assert isinstance(nn.AlphaDropout(), _DropoutNd) and nn.modules.Linear is nn.Linear
    assert _pair(3) == (3, 3) and _pair([1, 2]) == (1, 2)
    assert _reverse_repeat_tuple((1, 2), 2) == (2, 2, 1, 1)
    assert _list_with_default([None, 2], [7, 8, 9]) == [8, 2]
    state = nn.DataParallel(nn.Linear(1, 1)).state_dict()
    nn.modules.utils.consume_prefix_in_state_dict_if_present(state, "module.")
    assert list(state) == ["weight", "bias"] and list(state._metadata) == [""]


def test_hooks_of_all_modules() -> None:
    seen: list[tuple] = []
    hooks = nn.modules.module
    handles = [
        hooks.register_module_forward_pre_hook(lambda m, args: (args[0] * 2,)),
        hooks.register_module_forward_hook(
            lambda m, args, kwargs, out: seen.append(("out", kwargs)), with_kwargs=True
        ),
        hooks.register_module_full_backward_pre_hook(lambda m, out: (out[0] * 3,)),
        hooks.register_module_full_backward_hook(
            lambda m, into, out: seen.append((into[0].tolist(), out[0].tolist()))
        ),
        hooks.register_module_parameter_registration_hook(
            lambda m, name, value: seen.append(("parameter", name))
        ),
        hooks.register_module_buffer_registration_hook(lambda m, name, value: value + 5),
        hooks.register_module_module_registration_hook(lambda m, name, value: nn.Identity()),
    ]
    try:
        layer = nn.Linear(1, 1, bias=False)
        nn.init.ones_(layer.weight)
        layer.child = nn.Tanh()
        layer.register_buffer("number", torch.zeros(1))
        x = torch.ones(1, requires_grad=True)
        out = layer(x)
        out.sum().backward()
    finally:
        for handle in handles:
            handle.remove()
    assert out.tolist() == [2.0] and isinstance(layer.child, nn.Identity)
    assert layer.number.tolist() == [5.0]
    assert seen == [("parameter", "weight"), ("parameter", "bias"), ("out", {}), ([3.0], [3.0])]
    assert x.grad.tolist() == [6.0] and layer(torch.ones(1)).tolist() == [1.0]


def test_gradients_of_convolutions_and_old_names() -> None:
    reference = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    x, w = (generator.standard_normal(s).astype("f") for s in ((2, 4, 7, 6), (6, 2, 3, 2)))
    g = generator.standard_normal((2, 6, 4, 4)).astype("f")
    options = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
    pairs = [
        (lib.nn.grad.conv2d_input(x.shape, lib.tensor(w), lib.tensor(g), **options),
         lib.nn.grad.conv2d_weight(lib.tensor(x), w.shape, lib.tensor(g), **options))
        for lib in (torch, reference)
    ]  # fmt: skip
    for mine, theirs in zip(*pairs):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-5)
    with pytest.warns(FutureWarning, match="in favor of `nn.init.constant_`"):
        assert nn.init.constant(torch.empty(2), 3.0).tolist() == [3.0, 3.0]


def test_compile_in_place_and_new_parameters() -> None:
    layer = nn.Linear(2, 2)
    expected = layer(torch.ones(1, 2)).tolist()
    layer.compile()
    assert [layer(torch.ones(1, 2)).tolist() for _ in range(3)] == [expected] * 3
    assert list(layer.state_dict()) == ["weight", "bias"]
    weight = layer.weight
    assert layer.to(torch.float64).weight is weight
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        assert layer.to(torch.float32).weight is not weight and weight.dtype == torch.float64
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)
