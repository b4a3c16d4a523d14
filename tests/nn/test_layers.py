"""Every layer against PyTorch: text, state, outputs and gradients in both modes."""

from __future__ import annotations

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import nn
from tests.programs import compute

# constructor, input shapes (i: integers below 5, p: probabilities in (0, 1))
LAYERS = [
    ("Identity(3)", [(2, 3)]),
    ("Linear(3, 4)", [(2, 5, 3)]),
    ("Linear(3, 4, bias=False)", [(3,)]),
    ("Bilinear(3, 4, 2)", [(5, 3), (5, 4)]),
    ("Conv1d(4, 6, 3, 2, 1, 1, 2)", [(2, 4, 9)]),
    ("Conv1d(2, 3, 3, padding='same', dilation=2)", [(2, 2, 9)]),
    ("Conv2d(3, 4, 3, padding=1)", [(2, 3, 6, 5)]),
    ("Conv2d(3, 4, (3, 2), stride=(2, 1), dilation=2, bias=False)", [(3, 8, 7)]),
    ("Conv2d(2, 2, 3, padding=1, padding_mode='reflect')", [(1, 2, 5, 5)]),
    ("Conv2d(2, 2, 3, padding=1, padding_mode='circular')", [(1, 2, 5, 5)]),
    ("Conv3d(2, 3, 2)", [(1, 2, 4, 4, 3)]),
    ("ConvTranspose1d(4, 2, 3, 2, 1, 1, 2)", [(2, 4, 5)]),
    ("ConvTranspose2d(3, 2, 3, stride=2)", [(2, 3, 4, 4)]),
    ("ConvTranspose3d(2, 1, 2)", [(1, 2, 3, 3, 2)]),
    ("BatchNorm1d(3)", [(4, 3)]),
    ("BatchNorm1d(3, momentum=None)", [(4, 3, 2)]),
    ("BatchNorm2d(3, affine=False)", [(2, 3, 4, 4)]),
    ("BatchNorm2d(3, track_running_stats=False)", [(2, 3, 4, 4)]),
    ("BatchNorm3d(2)", [(2, 2, 3, 2, 2)]),
    ("InstanceNorm1d(3)", [(2, 3, 5)]),
    ("InstanceNorm2d(3, affine=True, track_running_stats=True)", [(2, 3, 4, 4)]),
    ("LayerNorm(4)", [(2, 3, 4)]),
    ("LayerNorm((3, 4), bias=False)", [(2, 3, 4)]),
    ("LayerNorm(4, elementwise_affine=False)", [(2, 3, 4)]),
    ("GroupNorm(2, 4)", [(3, 4, 5)]),
    ("RMSNorm(4)", [(2, 3, 4)]),
    ("LocalResponseNorm(2)", [(2, 4, 3, 3)]),
    ("Embedding(5, 3)", [("i", 2, 4)]),
    ("Embedding(5, 3, padding_idx=1)", [("i", 2, 4)]),
    ("Embedding(5, 3, max_norm=1.0)", [("i", 2, 4)]),
    ("EmbeddingBag(5, 3, mode='sum')", [("i", 2, 4)]),
    ("ZeroPad2d(1)", [(1, 2, 3, 3)]),
    ("ConstantPad1d((1, 2), 3.5)", [(2, 3)]),
    ("ConstantPad3d(1, -1.0)", [(1, 2, 2, 2, 2)]),
    ("ReflectionPad1d(2)", [(2, 2, 4)]),
    ("ReflectionPad2d((1, 2, 0, 1))", [(1, 2, 3, 4)]),
    ("ReplicationPad3d(1)", [(1, 1, 2, 2, 2)]),
    ("CircularPad2d(1)", [(1, 2, 3, 3)]),
    ("Upsample(scale_factor=2)", [(1, 2, 3, 3)]),
    ("Upsample(size=(4, 5), mode='bilinear')", [(1, 2, 3, 3)]),
    ("UpsamplingBilinear2d(scale_factor=2)", [(1, 2, 3, 3)]),
    ("PixelShuffle(2)", [(1, 8, 2, 3)]),
    ("PixelUnshuffle(2)", [(1, 2, 4, 4)]),
    ("ChannelShuffle(2)", [(1, 4, 2, 2)]),
    ("Unfold(2, stride=2)", [(1, 2, 4, 4)]),
    ("Fold((4, 4), 2, stride=2)", [(1, 8, 4)]),
    ("CosineSimilarity()", [(3, 4), (3, 4)]),
    ("PairwiseDistance(keepdim=True)", [(3, 4), (3, 4)]),
    ("Flatten()", [(2, 3, 4)]),
    ("Unflatten(1, (2, -1))", [(2, 6)]),
    ("MaxPool1d(2)", [(2, 3, 7)]),
    ("MaxPool2d(3, stride=2, padding=1, ceil_mode=True)", [(2, 3, 7, 6)]),
    ("MaxPool3d((1, 2, 2))", [(1, 2, 3, 4, 4)]),
    ("AvgPool1d(3, 2, 1)", [(2, 3, 7)]),
    ("AvgPool2d(2, count_include_pad=False, padding=1)", [(2, 3, 6, 6)]),
    ("AvgPool3d(2)", [(1, 2, 4, 4, 4)]),
    ("AdaptiveAvgPool1d(3)", [(2, 3, 7)]),
    ("AdaptiveAvgPool2d((3, None))", [(2, 3, 7, 5)]),
    ("AdaptiveMaxPool2d(2)", [(2, 3, 5, 5)]),
    ("LPPool2d(2, 2)", [("p", 2, 3, 4, 4)]),
    ("Dropout(0.0)", [(3, 3)]),
    ("Dropout2d(0.0)", [(2, 3, 2, 2)]),
    ("AlphaDropout(0.0)", [(3, 3)]),
    *(
        (f"{name}()", [(3, 4)])
        for name in (
            "ReLU", "ReLU6", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Hardtanh",
            "Hardswish", "Hardsigmoid", "LeakyReLU", "Softplus", "Softshrink", "Hardshrink",
            "GLU", "PReLU", "Tanhshrink", "Softsign", "LogSigmoid", "Sigmoid", "Tanh",
        )
    ),
    ("GELU('tanh')", [(3, 4)]),
    ("Threshold(0.1, 20)", [(3, 4)]),
    ("Softmax(1)", [(3, 4)]),
    ("Softmin(0)", [(3, 4)]),
    ("LogSoftmax(-1)", [(3, 4)]),
    ("Softmax2d()", [(2, 3, 2, 2)]),
    ("CrossEntropyLoss()", [(4, 5), ("i", 4)]),
    ("CrossEntropyLoss(label_smoothing=0.1, reduction='sum')", [(4, 5), ("i", 4)]),
    ("NLLLoss()", [(4, 5), ("i", 4)]),
    ("MSELoss()", [(4, 5), (4, 5)]),
    ("L1Loss(reduction='none')", [(4, 5), (4, 5)]),
    ("SmoothL1Loss(beta=0.5)", [(4, 5), (4, 5)]),
    ("HuberLoss(delta=0.5)", [(4, 5), (4, 5)]),
    ("BCELoss()", [("p", 4, 5), ("p", 4, 5)]),
    ("BCEWithLogitsLoss()", [(4, 5), ("p", 4, 5)]),
    ("KLDivLoss(reduction='batchmean')", [(4, 5), ("p", 4, 5)]),
    ("BatchNorm2d(3)", [(0, 3, 2, 2)]),
    ("SyncBatchNorm(3)", [(4, 3)]),
    ("CrossMapLRN2d(5)", [(2, 3, 3, 3)]),
    ("DataParallel(nn.Linear(3, 2))", [(4, 3)]),
    ("TransformerEncoderLayer(4, 2, 8, 0.0)", [(5, 3, 4)]),
    ("TransformerEncoderLayer(4, 2, 8, 0.0, 'gelu', 1e-3, True, True, False)", [(3, 5, 4)]),
    ("TransformerEncoderLayer(4, 2, 8, 0.0, nn.GELU())", [(5, 4)]),
    ("TransformerDecoderLayer(4, 2, 8, 0.0, norm_first=True)", [(6, 3, 4), (5, 3, 4)]),
    (
        "TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, 0.0), 2, nn.LayerNorm(4))",
        [(5, 3, 4)],
    ),
    ("TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 8, 0.0), 2)", [(6, 3, 4), (5, 3, 4)]),
    ("Transformer(4, 2, 1, 1, 8, 0.0, batch_first=True)", [(3, 5, 4), (3, 6, 4)]),
]  # fmt: skip


def arrays(shapes: list[tuple]) -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    made = []
    for shape in shapes:
        if shape[0] == "i":
            made.append(generator.integers(0, 5, shape[1:]))
        elif shape[0] == "p":
            made.append(generator.uniform(0.1, 0.9, shape[1:]).astype(np.float32))
        else:
            made.append(generator.standard_normal(shape).astype(np.float32))
    return made


def close(mine, theirs, what: str) -> None:
    np.testing.assert_allclose(
        mine.detach().numpy(), theirs.detach().numpy(), rtol=2e-4, atol=2e-5, err_msg=what
    )


@pytest.mark.parametrize(("text", "shapes"), LAYERS, ids=[text for text, _ in LAYERS])
def test_layer_is_pytorchs(text: str, shapes: list[tuple]) -> None:
    reference = pytest.importorskip("torch")
    theirs = eval(f"nn.{text}", {"nn": reference.nn})
    mine = eval(f"nn.{text}", {"nn": nn})
    assert repr(mine) == repr(theirs)
    state = theirs.state_dict()
    assert [(k, tuple(v.shape)) for k, v in mine.state_dict().items()] == [
        (k, tuple(v.shape)) for k, v in state.items()
    ]
    mine.load_state_dict({k: torch.tensor(v.numpy()) for k, v in state.items()})
    for training in (True, False):
        mine.train(training)
        theirs.train(training)
        inputs = arrays(shapes)
        my_inputs = [torch.tensor(array) for array in inputs]
        their_inputs = [reference.tensor(array) for array in inputs]
        if my_inputs[0].is_floating_point():
            my_inputs[0].requires_grad_()
            their_inputs[0].requires_grad_()
        my_output, their_output = mine(*my_inputs), theirs(*their_inputs)
        if not their_output.requires_grad:
            close(my_output, their_output, f"output, training={training}")
            continue
        weights = np.linspace(0.5, 1.5, their_output.numel(), dtype=np.float32)
        weights = weights.reshape(tuple(their_output.shape))
        (my_output * torch.tensor(weights)).sum().backward()
        (their_output * reference.tensor(weights)).sum().backward()
        parameters = [parameter.grad for parameter in mine.parameters()]
        compute(my_output, my_inputs[0].grad, *parameters, *mine.buffers())
        close(my_output, their_output, f"output, training={training}")
        if their_inputs[0].requires_grad:
            close(my_inputs[0].grad, their_inputs[0].grad, "gradient of the input")
        for name, parameter in theirs.named_parameters():
            close(mine.get_parameter(name).grad, parameter.grad, f"gradient of {name}")
        for name, buffer in theirs.named_buffers():
            close(mine.get_buffer(name), buffer, name)


def test_dropout_scales_what_it_keeps() -> None:
    torch.manual_seed(0)
    dropped = nn.Dropout(0.25)(torch.ones(4000)).numpy()
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs((dropped == 0).mean() - 0.25) < 0.03
    planes = nn.Dropout2d(0.5)(torch.ones(64, 8, 3, 3)).numpy()
    assert all(len(np.unique(planes[i, j])) == 1 for i in range(64) for j in range(8))


def test_transposed_output_size() -> None:
    layer = nn.ConvTranspose2d(4, 3, 3, stride=2)
    x = torch.ones(1, 4, 5, 5)
    assert tuple(layer(x, output_size=(12, 11)).shape) == (1, 3, 12, 11)
    with pytest.raises(ValueError, match="valid sizes range from"):
        layer(x, output_size=(20, 20))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError),
        (lambda: nn.Conv2d(4, 3, 3, padding="x"), ValueError),
        (lambda: nn.Conv2d(4, 3, 3, padding="same", stride=2), ValueError),
        (lambda: nn.Conv2d(4, 3, 3, padding_mode="x"), ValueError),
        (lambda: nn.ConvTranspose2d(4, 3, 3, padding_mode="reflect"), ValueError),
        (lambda: nn.BatchNorm2d(3)(torch.ones(2, 3)), ValueError),
        (lambda: nn.GroupNorm(2, 3), ValueError),
        (lambda: nn.Dropout(1.5), ValueError),
        (lambda: nn.Embedding(3, 4, 5), AssertionError),
        (lambda: nn.Embedding(3, 4, sparse=True), NotImplementedError),
        (lambda: nn.Unflatten(1, "a"), TypeError),
        (lambda: nn.Bilinear(0, 1, 1), ValueError),
        (lambda: nn.TripletMarginLoss(margin=0), ValueError),
        (lambda: nn.MultiMarginLoss(p=3), ValueError),
    ],
)
def test_bad_arguments(wrong, error) -> None:
    with pytest.raises(error):
        wrong()


def test_legacy_reduction_arguments() -> None:
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert nn.MSELoss(size_average=False).reduction == "sum"
