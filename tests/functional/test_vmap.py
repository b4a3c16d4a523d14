"""torch.vmap beside PyTorch's: one expression, both libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import lazytorch
from lazytorch.ir.definition import KINDS
from lazytorch.ops.examples import EXAMPLE
from lazytorch.tensor.batching.rules import _MOVES
from lazytorch.tensor.batching.transform import RULES

torch = pytest.importorskip("torch")
_DRAW = np.random.default_rng(3)
X = _DRAW.standard_normal((3, 4)).astype(np.float32)
Y = _DRAW.standard_normal((3, 4)).astype(np.float32)
# Positive definite with room, so that each decomposition of them is well conditioned.
M = np.einsum("bij,bkj->bik", *[_DRAW.standard_normal((3, 4, 4))] * 2).astype(np.float32)
M += 4 * np.eye(4, dtype=np.float32)
IMAGE = _DRAW.standard_normal((3, 2, 6, 6)).astype(np.float32)
PLACES = np.array([[0, 3], [2, 2], [1, 0]])

CASES: dict[str, Callable[[Any], Any]] = {
    # Kinds of operations.
    "map": lambda t: t.vmap(lambda x, y: t.sin(x) * y + x[0])(X_(t), Y_(t)),
    "ranks": lambda t: t.vmap(lambda x, m: x * m + x[1])(X_(t), M_(t)),
    "reshape": lambda t: t.vmap(lambda m: m.reshape(2, 8).t()[:, 1].flip(0))(M_(t)),
    "expand": lambda t: t.vmap(lambda x: x[0].expand(2, 3) + t.cat([x, x]).sum())(X_(t)),
    "pad": lambda t: t.vmap(lambda x: t.nn.functional.pad(x, (1, 2), value=7.0))(X_(t)),
    "windows": lambda t: t.vmap(lambda x: x.unfold(0, 2, 1).sum(1))(X_(t)),
    "strided": lambda t: t.vmap(lambda m: t.as_strided(m.clone(), (2, 2), (4, 1), 5))(M_(t)),
    "reduce": lambda t: t.vmap(lambda m: (m.sum(0), m.amax(1), m.prod(), m.argmax(-1)))(M_(t)),
    "softmax": lambda t: t.vmap(lambda m: t.softmax(m, 0) @ m)(M_(t)),
    "norms": lambda t: t.vmap(lambda m: t.nn.functional.layer_norm(m, (4,)).std(0))(M_(t)),
    "scan": lambda t: t.vmap(lambda m: (m.cumsum(0), m.cummax(1)))(M_(t)),
    "sort": lambda t: t.vmap(lambda m: (m.sort(0)[0], *m.topk(2, 1)))(M_(t)),
    "gather": lambda t: t.vmap(lambda x, i: (x[i], x.gather(0, i), x[i[0]]))(X_(t), P_(t)),
    "table": lambda t: t.vmap(lambda i: M_(t)[0][i])(P_(t)),
    "scatter": lambda t: t.vmap(lambda x, i: x.scatter_add(0, i, x[:2]))(X_(t), P_(t)),
    "matrices": lambda t: t.vmap(lambda a, b, x: (a @ b, a @ x, x @ a, t.outer(x, x)))(
        M_(t), M_(t).flip(0), X_(t)
    ),
    "shared": lambda t: t.vmap(lambda a, b: a @ b, (0, None))(M_(t), M_(t)[0]),
    "einsum": lambda t: t.vmap(lambda a, x: t.einsum("ij,j,i->i", a, x, x))(M_(t), X_(t)),
    "convolution": lambda t: t.vmap(
        lambda image, w: t.nn.functional.conv2d(image, w, padding=1), (0, None)
    )(I_(t), I_(t)[:2, :, :3, :3]),
    "convolutions": lambda t: t.vmap(lambda image, w: t.nn.functional.conv2d(image[None], w[None]))(
        I_(t), I_(t)[:, :, :3, :3]
    ),
    "pooling": lambda t: t.vmap(lambda image: t.nn.functional.max_pool2d(image, 2))(I_(t)),
    "attention": lambda t: t.vmap(t.nn.functional.scaled_dot_product_attention, (0, 0, None))(
        M_(t), M_(t).flip(0), M_(t)[0]
    ),
    "heads": lambda t: t.vmap(
        lambda q, k, bias: t.nn.functional.scaled_dot_product_attention(q, k, k, bias)
    )(I_(t), I_(t) * 0.5, I_(t)[:, 0]),
    "factors": lambda t: t.vmap(lambda m, x: (t.linalg.solve(m, x), t.linalg.cholesky(m)))(
        M_(t), X_(t)
    ),
    "one side": lambda t: t.vmap(t.linalg.solve, (None, 0))(M_(t)[0], X_(t)),
    "spectrum": lambda t: t.vmap(lambda x: t.fft.rfft(x).abs())(X_(t)),
    "determinant": lambda t: t.vmap(t.linalg.det)(M_(t)),
    "most frequent": lambda t: t.vmap(lambda i: t.mode(i)[0])(P_(t)),
    # Where the examples are.
    "last": lambda t: t.vmap(lambda x, y: x + y, in_dims=(-1, 1), out_dims=-1)(X_(t), Y_(t)),
    "middle": lambda t: t.vmap(lambda m: m.t(), in_dims=1, out_dims=1)(M_(t)),
    "structures": lambda t: t.vmap(
        lambda d, pair: {"sum": d["a"] + pair[0], "rest": (pair[1], d["b"])},
        in_dims=({"a": 0, "b": None}, (1, 0)), out_dims={"sum": 1, "rest": (0, None)},
    )({"a": X_(t), "b": Y_(t)}, (M_(t)[0][:, :3], M_(t))),
    "keywords": lambda t: t.vmap(lambda x, other: x + other)(X_(t), other=Y_(t)),
    "not mapped": lambda t: t.vmap(lambda x: (Y_(t), x * 0 + 1))(X_(t)),
    "chunks": lambda t: t.vmap(lambda x, y: x * y.sum(), (0, 1), 1, chunk_size=2)(
        X_(t), Y_(t)[:, :3]
    ),
    "of nothing": lambda t: t.vmap(lambda x: t.sin(x) + 1)(X_(t)[:0]),
    "nested": lambda t: t.vmap(t.vmap(t.dot, (0, None)), (0, 0))(M_(t), X_(t)),
    "outer product": lambda t: t.vmap(lambda x: t.vmap(lambda y: x[0] * y - x)(Y_(t)))(X_(t)),
    # With the other transforms.
    "of grad": lambda t: t.vmap(t.func.grad(lambda x, m: (x @ m @ x).sin()), (0, None))(
        X_(t), M_(t)[0]
    ),
    "of vjp": lambda t: t.vmap(lambda x, y: t.func.vjp(t.tanh, x)[1](y)[0])(X_(t), Y_(t)),
    "of jvp": lambda t: t.vmap(lambda x, y: t.func.jvp(lambda a: a**3, (x,), (y,)))(X_(t), Y_(t)),
    "of jacrev": lambda t: t.vmap(t.func.jacrev(lambda x: x**2 * x.sum()))(X_(t)),
    "of jacfwd": lambda t: t.vmap(t.func.jacfwd(lambda x: x.cumsum(0) * x[0]))(X_(t)),
    "of hessian": lambda t: t.vmap(t.func.hessian(lambda x: x.prod()))(X_(t)),
    "in grad": lambda t: t.func.grad(lambda w: t.vmap(lambda x: (x * w).sin().sum())(X_(t)).sum())(
        Y_(t)[0]
    ),
    "in jacrev": lambda t: t.func.jacrev(t.vmap(t.dot))(X_(t)[:2], Y_(t)[:2]),
    "in jacrev in chunks": lambda t: t.func.jacrev(t.vmap(t.sin), chunk_size=5)(X_(t)),
}  # fmt: skip


def X_(t: Any) -> Any:
    return t.tensor(X)


def Y_(t: Any) -> Any:
    return t.tensor(Y)


def M_(t: Any) -> Any:
    return t.tensor(M)


def I_(t: Any) -> Any:
    return t.tensor(IMAGE)


def P_(t: Any) -> Any:
    return t.tensor(PLACES)


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [leaf for part in value for leaf in _leaves(part)]
    return [value]


def _same(ours: Any, theirs: Any) -> None:
    found, wanted = _leaves(ours), _leaves(theirs)
    assert len(found) == len(wanted)
    for mine, other in zip(found, wanted):
        mine, other = mine.detach().cpu().numpy(), other.detach().numpy()
        assert mine.shape == other.shape and mine.dtype == other.dtype
        np.testing.assert_allclose(mine, other, rtol=2e-4, atol=2e-4)


def _on_numpy(call: Callable[[], Any]) -> Any:
    before = lazytorch.get_default_device()
    lazytorch.set_default_device("numpy")
    try:
        return call()
    finally:
        lazytorch.set_default_device(before)


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.filterwarnings("ignore")
def test_as_pytorch(name: str) -> None:
    _same(_on_numpy(lambda: CASES[name](lazytorch)), CASES[name](torch))


# One of each kind of operation: what a device could do wrong is a kernel, not a rule.
ON_DEVICES = (
    "map", "pad", "strided", "reduce", "sort", "gather", "table", "scatter", "shared",
    "convolutions", "heads", "of jacrev",
)  # fmt: skip


def test_on_every_device(each_device: str) -> None:
    made = {name: CASES[name](lazytorch) for name in ON_DEVICES}
    for name, found in made.items():
        _same(found, CASES[name](torch))


def test_every_kind_has_a_rule() -> None:
    # Values and random bits have no sources that could be an example's.
    assert set(RULES) == set(KINDS) - {"leaf", "random"}
    moves = {op for op in lazytorch.ir.registry.all_records() if op.kind == "move"}
    assert set(_MOVES) == moves and EXAMPLE.kind in RULES


# Gradients --------------------------------------------------------------------------------------


def _loss(t: Any) -> tuple[Any, list[Any]]:
    x, w, b = (t.tensor(a, requires_grad=True) for a in (X, M[0], Y))

    def model(x: Any, b: Any) -> Any:
        hidden = t.relu(x @ w + b)
        return (hidden * x).sum() / hidden.std()

    return t.vmap(model, in_dims=(0, 0))(x, b), [x, w, b]


@pytest.mark.parametrize("library", [lazytorch, torch], ids=["lazytorch", "torch"])
def test_gradients_flow_through(library: Any) -> None:
    loss, leaves = _loss(library)
    loss.sum().backward()
    wanted, others = _loss(torch)
    wanted.sum().backward()
    _same([loss, *(leaf.grad for leaf in leaves)], [wanted, *(leaf.grad for leaf in others)])
    with pytest.raises(RuntimeError, match="second time"):
        loss.sum().backward()


def test_gradients_of_gradients() -> None:
    def second(t: Any) -> list[Any]:
        loss, leaves = _loss(t)
        first = t.autograd.grad((loss**2).sum(), leaves, create_graph=True)
        return [*first, *t.autograd.grad(sum((g * g).sum() for g in first), leaves)]

    _same(second(lazytorch), second(torch))


def test_gradients_for_each_example_of_a_network() -> None:
    def gradients(t: Any) -> Any:
        net = t.nn.Sequential(t.nn.Linear(4, 5), t.nn.Tanh(), t.nn.Linear(5, 3))
        weights = {
            name: t.tensor(np.linspace(-1, 1, p.numel(), dtype=np.float32).reshape(tuple(p.shape)))
            for name, p in net.named_parameters()
        }

        def loss(weights: Any, x: Any, label: Any) -> Any:
            logits = t.func.functional_call(net, weights, (x[None],))
            return t.nn.functional.cross_entropy(logits, label[None])

        labels = t.tensor([0, 2, 1])
        return t.vmap(t.func.grad(loss), in_dims=(None, 0, 0))(weights, X_(t), labels)

    _same(gradients(lazytorch), gradients(torch))


def test_an_ensemble_of_modules() -> None:
    models = [lazytorch.nn.Linear(4, 2) for _ in range(3)]
    parameters, buffers = lazytorch.func.stack_module_state(models)

    def call(parameters: Any, buffers: Any, x: Any) -> Any:
        return lazytorch.func.functional_call(models[0], (parameters, buffers), (x,))

    x = X_(lazytorch)
    found = lazytorch.vmap(call, in_dims=(0, 0, None))(parameters, buffers, x)
    _same(found, lazytorch.stack([model(x) for model in models]))
    (found**2).sum().backward()
    sum((model(x) ** 2).sum() for model in models).backward()
    _same(parameters["weight"].grad, lazytorch.stack([model.weight.grad for model in models]))


def test_a_recurrent_layer() -> None:
    with lazytorch.no_grad():
        layer = lazytorch.nn.LSTM(4, 3)
    steps = lazytorch.tensor(_DRAW.standard_normal((2, 5, 4)).astype(np.float32))

    def last(weights: Any, x: Any) -> Any:
        return lazytorch.func.functional_call(layer, weights, (x,))[0][-1].sum()

    weights = dict(layer.named_parameters())
    both = lazytorch.func.grad_and_value(last, argnums=(0, 1))
    found = lazytorch.vmap(both, in_dims=(None, 0))(weights, steps)
    one_by_one = [both(weights, x) for x in steps]
    for mine, *others in zip(_leaves(found), *map(_leaves, one_by_one)):
        _same(mine, lazytorch.stack(others))
    # Each example with weights of its own.
    stacked = {name: lazytorch.stack([p, 2 * p]) for name, p in weights.items()}
    found = lazytorch.vmap(last)(stacked, steps)
    doubled = {name: 2 * p for name, p in weights.items()}
    _same(found, lazytorch.stack([last(weights, steps[0]), last(doubled, steps[1])]))


def test_gradients_are_those_of_differences() -> None:
    t = lazytorch
    x, w = t.tensor(X.astype(np.float64)[:, :2]), t.tensor(Y.astype(np.float64)[0, :2])
    leaves = (x.requires_grad_(), w.requires_grad_())

    def mapped(x: Any, w: Any) -> Any:
        return t.vmap(lambda a: (a * w).sin().cumsum(0) / (a * a + 1).prod())(x)

    assert t.autograd.gradcheck(mapped, leaves) and t.autograd.gradgradcheck(mapped, leaves)


@pytest.mark.parametrize("library", [lazytorch, torch], ids=["lazytorch", "torch"])
@pytest.mark.filterwarnings("ignore:Anomaly Detection", "ignore:Error detected in")
def test_a_wrong_number_is_found_inside(library: Any) -> None:
    x = library.ones(3, 2, requires_grad=True)
    with library.autograd.detect_anomaly():
        library.vmap(lambda a: (a * 2).sqrt().sum())(x).sum().backward()
        wrong = library.vmap(lambda a: (a * 0).sqrt().sum())(x).sum()
        with pytest.raises(RuntimeError, match="returned nan values"):
            wrong.backward()


def test_hooks_inside_see_one_example() -> None:
    x = lazytorch.ones(3, 2, requires_grad=True)
    seen: list[Any] = []

    def hooked(a: Any) -> Any:
        a.register_hook(lambda g: (seen.append(tuple(g.shape)), g * 2)[1])
        return (a * a).sum()

    lazytorch.vmap(hooked)(x).sum().backward()
    assert seen == [(2,)] and x.grad.tolist() == [[4, 4]] * 3
