"""``grad_fn`` has PyTorch's names, for functions that are one primitive here and for composites."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import lazytorch

peer = pytest.importorskip("torch")

# x, y: 4 x 6; m: 3 x 4 x 6; i: 1 x 2 x 4 x 6; v: 6; mask: bool 4 x 6; k: int64 places.
EXPRESSIONS = [
    "x + y", "x - 1", "1 - x", "torch.rsub(x, y)", "x * 2", "x / y", "x ** 2", "x ** y",
    "torch.pow(2, x)",
    "-x", "x @ y.T", "m @ y.T", "x.addmm(x, x.T @ x)", "torch.addmv(v[:4], x, v)",
    "torch.baddbmm(m, m, m.mT @ m)", "torch.addr(x, v[:4], v)", "x.exp()", "x.log1p()", "x.abs()",
    "x.sgn()", "torch.deg2rad(x)", "x.round(decimals=2)", "torch.div(x, y, rounding_mode='floor')",
    "x.fmod(2)", "x.fmod(y)", "x.remainder(y)", "x.copysign(y)", "x.clamp(0)", "x.clamp_min(0)",
    "x.clamp_min(y)", "torch.maximum(x, y)", "x.lerp(y, 0.5)", "torch.where(mask, x, y)",
    "x.sum()", "x.sum(0)", "x.mean()", "x.mean(1)", "x.var()", "x.std(0)", "x.prod()", "x.norm()",
    "torch.var_mean(x)[0]", "torch.std_mean(x)[1]", "x.max()", "x.max(0)[0]", "x.amax(1)",
    "x.aminmax()[0]", "x.logsumexp(0)", "x.cumsum(0)", "x.cummax(0)[0]", "x.dist(y)",
    "x.sort()[0]", "x.sort(stable=True)[0]", "x.topk(2)[0]", "x.kthvalue(2)[0]", "x.median()",
    "x.mode()[0]", "x.quantile(0.5)", "x.reshape(6, 4)", "x.view(-1)", "x.t()", "x.T",
    "m.permute(2, 0, 1)",
    "m.transpose(0, 1)", "x[0]", "x[:, 1:3]", "x[k]", "x[mask]", "x.unsqueeze(0)",
    "x[:1].squeeze(0)", "x.expand(2, 4, 6)", "x.repeat(2, 1)", "x.flatten()", "x.diagonal()",
    "x.unfold(0, 2, 1)", "x.split(2)[0]", "x.chunk(2)[0]", "x.unbind()[0]", "x.tensor_split(2)[0]",
    "torch.cat([x, y])", "torch.stack([x, y])", "x.flip(0)", "x.roll(1)", "x.rot90()", "x.tril()",
    "torch.block_diag(x, y)", "x.gather(0, k[None])", "x.index_select(0, k)", "x.take(k)",
    "x.scatter_add(0, k[None], y)", "x.index_fill(0, k, 0)", "x.masked_fill(mask, 0)",
    "x.masked_select(mask)", "x.index_put((k,), y[:2])", "torch.select_scatter(x, v, 0, 1)",
    "torch.atleast_3d(x)", "x.clone()", "x.double()", "x.contiguous().clone()", "torch.t_copy(x)",
    "torch.view_copy(x, (6, 4))", "F.relu(x)", "F.gelu(x)", "F.silu(x)", "F.celu(x)", "F.elu(x)",
    "F.leaky_relu(x)", "F.softplus(x)", "F.softmax(x, 1)", "F.log_softmax(x, 1)", "torch.tanh(x)",
    "F.linear(x, y)", "F.linear(x, y, v[:4])", "F.linear(m, y)", "F.linear(m, y, v[:4])",
    "F.layer_norm(x, (6,))", "F.batch_norm(x, None, None, training=True)", "F.group_norm(i, 2)",
    "F.conv2d(i, i)", "F.conv2d(i[0], i)", "F.max_pool2d(i, 2)", "F.avg_pool2d(i, 2)",
    "F.adaptive_avg_pool2d(i, (1, 2))", "F.adaptive_max_pool2d(i, (1, 4))", "F.max_pool1d(m, 2)",
    "F.pad(x, (1, 1))", "F.pad(i, (1, 1, 1, 1), 'reflect')", "F.pad(m, (1, 1), 'replicate')",
    "F.interpolate(i, scale_factor=2)",
    "F.interpolate(i, scale_factor=2, mode='bilinear')", "F.pixel_shuffle(i.repeat(1, 2, 1, 1), 2)",
    "F.unfold(i, 2)", "F.grid_sample(i, i.mT[..., :2], align_corners=False)", "F.embedding(k, x)",
    "F.mse_loss(x, y)",
    "F.l1_loss(x, y)", "F.smooth_l1_loss(x, y)", "F.nll_loss(x, k[[0, 0, 0, 0]])",
    "F.binary_cross_entropy_with_logits(x, y.detach())", "F.margin_ranking_loss(v, v, v.sign())",
    "F.kl_div(x, y, reduction='sum')", "F.hinge_embedding_loss(v, v.sign())", "F.pdist(x)",
    "F.cosine_similarity(x, y)", "F.pairwise_distance(x, y)", "torch.linalg.det(x @ x.T)",
    "torch.linalg.qr(x)[0]", "torch.linalg.inv(x @ x.T)", "torch.linalg.svdvals(x)",
    "torch.kron(x, y)", "torch.tensordot(x, y.T, 1)", "torch.outer(v, v)", "v.dot(v)", "x.mv(v)",
]  # fmt: skip


def _names(module: Any, expression: str) -> tuple[str, list[Any]]:
    """The name of the last entry, and which of its sources have a gradient."""
    rng = np.random.default_rng(0)

    def leaf(*shape: int) -> Any:
        made = module.tensor(rng.uniform(0.2, 0.8, shape).astype(np.float32))
        return made.requires_grad_()

    names = {
        "torch": module, "F": importlib.import_module(f"{module.__name__}.nn.functional"),
        "x": leaf(4, 6), "y": leaf(4, 6), "m": leaf(3, 4, 6), "i": leaf(1, 2, 4, 6), "v": leaf(6),
        "mask": module.tensor(rng.uniform(size=(4, 6)) > 0.5), "k": module.tensor([0, 2]),
    }  # fmt: skip
    entry = eval(expression, names).grad_fn
    return type(entry).__name__, [source is not None for source, _ in entry.next_functions]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_names(expression: str) -> None:
    assert _names(lazytorch, expression)[0] == _names(peer, expression)[0]


@pytest.mark.parametrize("expression", ["x + y", "x * 2", "x.sum()", "x @ y.T", "x.exp()", "x[0]"])
def test_links(expression: str) -> None:
    ours, theirs = _names(lazytorch, expression)[1], _names(peer, expression)[1]
    assert [found for found in ours if found] == [found for found in theirs if found]


def test_next_functions_of_an_ordinary_program() -> None:
    def chain(module: Any) -> list[Any]:
        functional = importlib.import_module(f"{module.__name__}.nn.functional")
        w = module.ones(3, 2, requires_grad=True)
        b = module.ones(3, requires_grad=True)
        loss = functional.linear(module.ones(5, 2), w, b).relu().mean()
        found, entry = [], loss.grad_fn
        while True:
            found.append(entry.name())
            following = [edge[0] for edge in entry.next_functions if edge[0] is not None]
            if not following:
                return found
            entry = following[0]

    assert chain(lazytorch)[:3] == chain(peer)[:3]
    assert chain(lazytorch)[-1] == chain(peer)[-1] == "torch::autograd::AccumulateGrad"
