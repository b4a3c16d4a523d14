"""autocast: dtypes, function by function, and values as PyTorch has them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import lazytorch
import lazytorch as torch
from lazytorch import nn
from lazytorch.runtime import available_devices
from lazytorch.tensor.autocast import regions
from lazytorch.utils.checkpoint import checkpoint

# a, v, b3, x4, .. are float32 of one to five dimensions; a name with h is bfloat16, d float64.
EXPRESSIONS = """
a @ a
h @ a
torch.matmul(a, h)
torch.mm(a, a)
torch.bmm(b3, b3)
torch.mv(a, v)
torch.dot(v, v)
torch.vdot(v, v)
torch.addmm(a, a, a)
torch.baddbmm(b3, b3, b3)
torch.addbmm(a, b3, b3)
torch.addmv(v, a, v)
torch.addr(a, v, v)
torch.outer(v, v)
torch.inner(a, a)
torch.einsum("ij,jk->ik", a, a)
torch.einsum("bij,bjk->bik", b3, b3)
torch.einsum("ij->ji", a)
torch.tensordot(a, a, 1)
torch.chain_matmul(a, a, a)
torch.linalg.multi_dot([a, a, a])
torch.linalg.vecdot(a, a)
torch.linalg.matmul(a, a)
torch.linalg.matrix_power(a, 2)
F.linear(a, a)
F.linear(h, a, v)
F.bilinear(a, a, b3, v)
F.conv1d(b3, b3)
F.conv2d(x4, w4)
F.conv3d(x5, w5)
F.conv_transpose1d(b3, b3)
F.conv_transpose2d(x4, w4t)
F.conv_transpose3d(x5, w5)
F.prelu(a, v[:1])
F.scaled_dot_product_attention(b3, b3, b3)
F.scaled_dot_product_attention(b3, b3, b3, attn_mask=a)
torch.exp(h)
h.exp()
torch.expm1(h)
torch.log(h)
torch.log2(h)
torch.log10(h)
torch.log1p(h)
torch.reciprocal(h)
torch.rsqrt(h)
torch.sqrt(h)
torch.sinh(h)
torch.cosh(h)
torch.tan(h)
torch.tanh(h)
torch.acos(h)
torch.asin(h)
torch.erfinv(h)
torch.erf(h)
torch.sigmoid(h)
torch.sin(h)
torch.abs(h)
h ** 2
2 ** h
h ** h
h ** a
torch.pow(h, 3)
torch.square(h)
F.softplus(h)
F.softmax(h, 0)
F.softmax(a, 0)
F.softmax(h, 0, dtype=torch.bfloat16)
torch.softmax(h, 0)
h.softmax(-1)
F.log_softmax(h, 0)
h.log_softmax(0)
F.softmin(h, 0)
torch.sum(h)
h.sum(0)
h.sum(0, keepdim=True)
torch.sum(h, dtype=torch.bfloat16)
h.mean()
h.var()
h.std()
torch.prod(h)
h.prod(0)
torch.cumsum(h, 0)
torch.cumprod(h, 0)
torch.norm(h)
h.norm()
h.norm(2, 0)
h.norm(p="fro")
torch.linalg.norm(h)
torch.linalg.vector_norm(h)
torch.linalg.matrix_norm(h)
torch.logsumexp(h, 0)
torch.dist(h, h)
torch.cdist(h, h)
torch.renorm(h, 2, 0, 1.0)
F.normalize(h)
F.cosine_similarity(h, h)
F.pairwise_distance(h, h)
F.layer_norm(h, (3,))
F.layer_norm(h, (3,), v, v)
F.group_norm(x4h, 2)
F.rms_norm(h, (3,))
F.batch_norm(x4h, v2, v2)
F.batch_norm(x4h, v2, v2, training=True)
F.instance_norm(x4h)
F.local_response_norm(x4h, 2)
F.mse_loss(h, a)
F.mse_loss(h, h)
F.l1_loss(h, h)
F.smooth_l1_loss(h, h)
F.huber_loss(h, h)
F.cross_entropy(h, i)
F.cross_entropy(h, h)
F.nll_loss(h, i)
F.kl_div(h, h, reduction="sum")
F.poisson_nll_loss(h, h)
F.gaussian_nll_loss(h, h, h)
F.binary_cross_entropy_with_logits(h, h)
F.hinge_embedding_loss(h, h)
F.margin_ranking_loss(v, v, v)
F.margin_ranking_loss(vh, vh, vh)
F.cosine_embedding_loss(h, h, one)
F.soft_margin_loss(h, h)
F.multi_margin_loss(h, i)
F.multilabel_margin_loss(h, ii)
F.multilabel_soft_margin_loss(h, h)
F.triplet_margin_loss(h, h, h)
F.avg_pool1d(b3h, 2)
F.avg_pool2d(x4h, 2)
F.avg_pool3d(x5h, 1)
F.max_pool2d(x4h, 2)
F.max_pool3d(x5h, 1)
F.adaptive_avg_pool1d(b3h, 2)
F.adaptive_avg_pool2d(x4h, 2)
F.adaptive_avg_pool3d(x5h, 1)
F.adaptive_max_pool2d(x4h, 2)
F.adaptive_max_pool3d(x5h, 1)
F.lp_pool2d(x4h, 2., 2)
F.pad(x4h, (1, 1), "constant")
F.pad(x4h, (1, 1, 1, 1), "reflect")
F.pad(x4h, (1, 1, 1, 1), "replicate")
F.pad(x4h, (1, 1, 1, 1), mode="circular")
F.pad(b3h, (1, 1), "reflect")
F.interpolate(x4h, scale_factor=2)
F.interpolate(x4h, scale_factor=2, mode="bilinear")
F.interpolate(x4h, scale_factor=2, mode="bicubic")
F.grid_sample(x4h, grid)
F.grid_sample(x4, grid.bfloat16())
F.gelu(h)
F.gelu(h, approximate="tanh")
F.silu(h)
F.mish(h)
F.elu(h)
F.selu(h)
F.celu(h)
F.hardswish(h)
F.hardtanh(h)
F.leaky_relu(h)
F.relu(h)
F.relu6(h)
F.glu(e4)
F.logsigmoid(h)
F.softsign(h)
F.tanhshrink(h)
F.softshrink(h)
F.hardsigmoid(h)
F.threshold(h, 0., 1.)
F.dropout(h, 0.5, False)
F.embedding(i, h)
F.embedding(i, a)
F.pixel_shuffle(x44h, 2)
F.unfold(x4h, 2)
F.gumbel_softmax(h)
torch.cat([a, h])
torch.cat([h, h])
torch.stack([a, h])
torch.stack([h, h])
torch.hstack([h, h])
torch.vstack([a, h])
a + h
h + h
h * 2.0
torch.addcmul(h, h, a)
torch.addcdiv(h, h, h)
torch.atan2(h, a)
torch.linalg.cross(h, h)
torch.where(h > 0, h, a)
h.index_put((i,), h)
torch.index_copy(h, 0, i, a)
torch.scatter_add(h, 0, ii, a)
torch.lerp(h, h, 0.5)
torch.clamp(h, 0, 1)
torch.maximum(h, h)
torch.trace(h)
torch.quantile(a, 0.5)
torch.quantile(h, 0.5)
torch.topk(h, 1)
torch.linalg.inv(spd)
torch.linalg.solve(spd, spd)
torch.linalg.cholesky(spd)
torch.linalg.qr(spd)
torch.linalg.det(spd.float())
torch.inverse(spd)
torch.fft.fft(h)
torch.fft.rfft(h)
torch.polar(h, h)
torch.view_as_complex(torch.stack([h, h], -1))
torch.stft(vl, 4, return_complex=True)
torch.special.expm1(h)
torch.special.logsumexp(h, 0)
torch.special.softmax(h, 0)
torch.special.entr(h)
torch.special.logit(h)
torch.logit(h)
torch.logaddexp(h, h)
torch.logcumsumexp(h, 0)
torch.trapezoid(h)
torch.cumulative_trapezoid(h)
torch.bernoulli(h)
torch.float_power(h, 2)
torch.xlogy(h, h)
torch.nn.Linear(3, 3)(a)
torch.nn.LSTM(3, 3)(a)
torch.nn.GRU(3, 3)(a)
torch.nn.RNN(3, 3)(a)
torch.nn.LSTMCell(3, 3)(a)
torch.nn.GRUCell(3, 3)(a)
torch.nn.MultiheadAttention(3, 1)(a, a, a)
torch.nn.MultiheadAttention(3, 1)(a, a, a, need_weights=False)
torch.nn.TransformerEncoderLayer(3, 1, 8, dropout=0.)(a)
F.max_unpool2d(x4h, (x4h * 0).long(), 1)
F.fractional_max_pool2d(x4h, 2, (2, 2))
F.cosine_similarity(h, a)
F.triplet_margin_with_distance_loss(h, h, h)
torch.nn.functional.binary_cross_entropy(h.abs() / 10, h.abs() / 10)
""".strip().splitlines()
# PyTorch's functions of a card are asked without a card, and some of them need one.
NEEDS_A_CARD = ("torch.nn.", "F.grid_sample", "F.prelu", "F.unfold", "training=True")
# PyTorch has low-precision decompositions for cards only, and a trace of differing dtypes.
CARDS_DIFFER = ("torch.linalg.", "torch.polar", "torch.index_copy(h, 0, i, a)", "gaussian_nll")


@pytest.fixture(autouse=True)
def no_region_is_left() -> Iterator[None]:
    yield
    assert regions.open == 0


def operands(torch: Any, device: str) -> dict[str, Any]:
    draw = np.random.RandomState(0)

    def filled(*shape: int) -> Any:
        if device == "cuda":  # No card is there: PyTorch only says dtypes.
            return torch.empty(shape, device=device)
        return torch.tensor(draw.uniform(0.1, 0.9, shape).astype(np.float32)).to(device)

    shapes = {
        "a": (3, 3), "v": (3,), "b3": (3, 3, 3), "x4": (1, 2, 4, 4), "w4": (3, 2, 2, 2),
        "w4t": (2, 3, 2, 2), "x5": (1, 2, 3, 3, 3), "w5": (2, 2, 2, 2, 2), "v2": (2,),
        "e4": (3, 4), "vl": (16,), "grid": (1, 3, 3, 2), "x44": (1, 4, 2, 2),
    }  # fmt: skip
    space = {name: filled(*shape) for name, shape in shapes.items()}
    for name in ("b3", "x4", "x5", "x44", "v"):
        space[name + "h"] = space[name].bfloat16()
    space["h"], space["d"] = space["a"].bfloat16(), space["a"].double()
    space["e4"] = space["e4"].bfloat16()
    space["spd"] = (2 * torch.eye(3, device=device) + 0.1).bfloat16()
    space["one"] = torch.ones(3, device=device)
    space["i"] = torch.ones(3, device=device).long()
    space["ii"] = torch.ones(3, 3, device=device).long()
    return {**space, "torch": torch, "F": torch.nn.functional}


def dtypes_of(value: Any) -> Any:
    if hasattr(value, "dtype"):
        return str(value.dtype)
    return [dtypes_of(item) for item in value] if isinstance(value, (tuple, list)) else type(value)


def outcomes(torch: Any, device: str, kind: str, expressions: list[str]) -> dict[str, Any]:
    """The dtypes of each expression's value in a region; an error counts as one outcome."""
    space, found = operands(torch, device), {}
    torch.set_autocast_dtype(kind, torch.bfloat16)
    torch.set_autocast_enabled(kind, True)
    try:
        with torch.device(device), torch.no_grad():
            for expression in expressions:
                try:
                    found[expression] = dtypes_of(eval(expression, space))
                except Exception:
                    found[expression] = "error"
    finally:
        torch.set_autocast_enabled(kind, False)
    return found


@pytest.mark.filterwarnings("ignore")
def test_dtypes_on_a_processor() -> None:
    pytorch = pytest.importorskip("torch")
    expected = outcomes(pytorch, "cpu", "cpu", EXPRESSIONS)
    assert outcomes(lazytorch, "cpu", "cpu", EXPRESSIONS) == expected
    assert len(expected) > 200 and list(expected.values()).count("error") < 8


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif("opencl:0" not in available_devices(), reason="no OpenCL device")
def test_dtypes_on_a_card() -> None:
    """PyTorch's are those of tensors without memory: there is no card."""
    pytorch = pytest.importorskip("torch")
    from torch._subclasses.fake_tensor import FakeTensorMode

    skipped = (*NEEDS_A_CARD, *CARDS_DIFFER)
    expressions = [e for e in EXPRESSIONS if not any(part in e for part in skipped)]
    with FakeTensorMode():
        expected = outcomes(pytorch, "cuda", "cuda", expressions)
    assert outcomes(lazytorch, "opencl:0", "opencl", expressions) == expected
    assert len(expected) > 180 and list(expected.values()).count("error") < 8


@pytest.mark.parametrize("device", ["cpu", "numpy"])
def test_a_network_has_pytorchs_values_and_gradients(device: str) -> None:
    pytorch = pytest.importorskip("torch")
    draw = np.random.RandomState(1)
    values = [
        draw.standard_normal(shape).astype(np.float32)
        for shape in ((4, 1, 6, 6), (3, 1, 3, 3), (5, 48), (4, 5))
    ]
    results = []
    for library, place in ((pytorch, "cpu"), (lazytorch, device)):
        x, kernel, weight, target = [library.tensor(v).to(place) for v in values]
        functional = library.nn.functional
        kernel.requires_grad_()
        weight.requires_grad_()
        with library.autocast(place, library.bfloat16):
            hidden = functional.relu(functional.conv2d(x, kernel)).flatten(1)
            # The weight twice: its cast is made once, and its gradients are added in bfloat16.
            out = functional.linear(hidden, weight) + hidden @ weight.t()
            loss = functional.mse_loss(out, target)
            # In a region too, backward has the dtypes of forward.
            loss.backward()
        assert str(out.dtype) == "torch.bfloat16" and str(loss.dtype) == "torch.float32"
        assert weight.grad.dtype is library.float32 and kernel.grad.dtype is library.float32
        results.append(
            [t.detach().float().cpu().numpy() for t in (out, loss, *grads(kernel, weight))]
        )
    for ours, theirs in zip(results[1], results[0]):
        np.testing.assert_allclose(ours, theirs, rtol=2e-2, atol=2e-2 * np.abs(theirs).max())


def grads(*leaves: Any) -> list[Any]:
    return [leaf.grad for leaf in leaves]


def product() -> Any:
    return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def test_regions_nest_and_decorate() -> None:
    bf16, half, single = torch.bfloat16, torch.float16, torch.float32
    with torch.autocast("cpu"):
        assert product() is bf16 and torch.is_autocast_enabled("cpu")
        with torch.autocast("cpu", enabled=False):
            assert product() is single
            with torch.amp.autocast("cpu", half, cache_enabled=False):
                assert product() is half and torch.get_autocast_dtype("cpu") is half
                assert not torch.is_autocast_cache_enabled()
        assert product() is bf16 and torch.is_autocast_cache_enabled()
        with pytest.raises(ValueError, match="inside"), torch.autocast("cpu", half):
            raise ValueError("inside")
        assert product() is bf16
        # What writes into a given tensor is not cast, and other devices are not concerned.
        out = torch.empty(2, 2)
        assert torch.matmul(torch.ones(2, 2), torch.ones(2, 2), out=out).dtype is single
        assert torch.ones(2, 2).addmm_(torch.ones(2, 2), torch.ones(2, 2)).dtype is single
        with torch.device("numpy"):
            assert product() is single
    assert product() is single and not torch.is_autocast_enabled("cpu")
    region = torch.autocast("cpu")
    assert region(product)() is bf16 and region(region(product))() is bf16 and product() is single
    for older in (torch.cpu.amp.autocast, torch.cuda.amp.autocast):
        with pytest.warns(FutureWarning, match="deprecated"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "User provided")
            older(dtype=bf16)


def test_what_cannot_be_a_region() -> None:
    with pytest.raises(RuntimeError, match="unsupported autocast device_type 'meta'"):
        torch.autocast("meta")
    with pytest.raises(ValueError, match="Expected `device_type` of type `str`"):
        torch.autocast(torch.bfloat16)
    with pytest.warns(UserWarning, match="only supports dtypes of torch.bfloat16, torch.float16"):
        region = torch.autocast("cpu", torch.float64)
    with region:
        assert product() is torch.float32
    with pytest.raises(TypeError, match="requires a callable"):
        torch.autocast("cpu")(3)


def test_a_parameter_is_cast_once_and_never_stale() -> None:
    weight = torch.ones(2, 2, requires_grad=True)
    x = torch.ones(2, 2)
    with torch.autocast("cpu"):
        with torch.no_grad():
            x @ weight
        first = x @ weight
        entries = {first.grad_fn.next_functions[1][0], (x @ weight).grad_fn.next_functions[1][0]}
        assert len(entries) == 1  # One cast, and on the tape although the first was not.
        with torch.no_grad():
            weight.mul_(3)
        assert (x @ weight).sum().item() == 24


def test_a_region_runs_again_as_it_was() -> None:
    layer = nn.Linear(3, 3)
    seen: list[Any] = []

    def step(x: Any) -> Any:
        seen.append(layer(x).dtype)
        return layer(x).sum()

    for reentrant in (False, True):
        with torch.autocast("cpu"):
            loss = checkpoint(step, torch.ones(2, 3, requires_grad=True), use_reentrant=reentrant)
        loss.float().backward()
    assert seen == [torch.bfloat16] * 4


def test_compiled_functions_know_their_region() -> None:
    @torch.compile
    def scaled(x: Any) -> Any:
        return x @ x

    x = torch.ones(2, 2)
    for _ in range(3):
        assert scaled(x).dtype is torch.float32
        with torch.autocast("cpu"):
            assert scaled(x).dtype is torch.bfloat16
        with torch.autocast("cpu", torch.float16):
            assert scaled(x).dtype is torch.float16


def test_functions_of_ones_own() -> None:
    class Product(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cpu")
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            ctx.save_for_backward(a, b)
            return a @ b

        @staticmethod
        @torch.amp.custom_bwd(device_type="cpu")
        def backward(ctx: Any, gradient: Any) -> Any:
            a, b = ctx.saved_tensors
            made.append((gradient @ b.t()).dtype)
            return gradient @ b.t(), a.t() @ gradient

    class Single(torch.autograd.Function):
        @staticmethod
        @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)
        def forward(ctx: Any, a: Any) -> Any:
            made.append((a @ a).dtype)
            return a * 2

        @staticmethod
        @torch.amp.custom_bwd(device_type="cpu")
        def backward(ctx: Any, gradient: Any) -> Any:
            made.append((gradient @ torch.ones(2, 2)).dtype)
            return gradient * 2

    made: list[Any] = []
    a = torch.ones(2, 2, requires_grad=True)
    with torch.autocast("cpu"):
        value = Product.apply(a, a)
        single = Single.apply(a.bfloat16())
    (value.sum().float() + single.sum()).backward()
    assert value.dtype is torch.bfloat16 and single.dtype is torch.float32
    assert sorted(map(str, made)) == ["torch.bfloat16", "torch.float32", "torch.float32"]
    assert a.grad.tolist() == [[6.0, 6.0], [6.0, 6.0]]
