"""Misuse of the tape: PyTorch's class of exception, its facts, and what it lets pass.

Each program runs in PyTorch and here. Both must end alike: with the same exception, whose text
begins alike except where ours says more, or with the same values seen on the way.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import lazytorch

peer = pytest.importorskip("torch")

# Names in programs: torch, see (notes a value), leaf (ones that require a gradient), made (the
# same, as a result), function (a Function from forward and backward), inferred (ones made in
# inference mode), once (once_differentiable), graph (torch.autograd.graph).
TAPE = [
    "y = leaf(3).exp().sum(); y.backward(); y.backward()",
    "y = leaf(3).exp(); a = y.sum(); b = (y * y).sum(); a.backward(); b.backward()",
    "leaf(3).add_(1)",
    "leaf(3)[:2].add_(1)",
    "leaf(3)[0] = 5",
    "a, b = made(4).split(2); a.mul_(2)",
    "made(4).unbind()[0].mul_(2)",
    "x = made(4); a, b = x.split(2); x.mul_(2); see(a.grad_fn)",
    "y = made(3); z = y * y; y.add_(1); z.sum().backward()",
    "z = leaf(3).exp(); z.add_(1); z.sum().backward()",
    "(leaf(3) * 2).backward()",
    "torch.ones(1).backward()",
    "torch.autograd.backward([leaf(1) * 2, torch.ones(1)])",
    "torch.autograd.grad((leaf(1) * 2).sum(), leaf(1))",
    "torch.autograd.grad((leaf(1) * 2).sum(), torch.ones(1))",
    "torch.autograd.grad(torch.ones(2), leaf(2))",
    "x = leaf(2); torch.autograd.grad(x.sum(), x, allow_unused=False, materialize_grads=True)",
    "torch.ones(2, dtype=torch.int64, requires_grad=True)",
    "torch.ones(2, dtype=torch.int64).requires_grad_()",
    "torch.tensor([1, 2], requires_grad=True)",
    "x = torch.ones(2, dtype=torch.bool); x.requires_grad = True",
    "made(2).requires_grad = False",
    "made(2).requires_grad_(False)",
    "(leaf(3) * 2).backward(torch.ones(2))",
    "(leaf(3) * 2).backward(1.0)",
    "leaf(3).to(torch.complex64).sum().backward()",
    "(leaf(3) * 2).backward(torch.ones(3, dtype=torch.complex64))",
    "(leaf(1) * 2).backward(inputs=[])",
    "x = leaf(1); torch.autograd.grad(x * 2, [])",
    "(leaf(1) * 2).backward(inputs=[torch.ones(1)])",
    "x = leaf(2); torch.autograd.grad(x * 2, x, torch.ones(()), is_grads_batched=True)",
    "x = leaf(2); torch.autograd.grad(x * 2, x, torch.ones(3, 5), is_grads_batched=True)",
    "leaf(1).numpy()",
    "copy.deepcopy(made(1))",
    "torch.ones(2).retain_grad()",
    "made(3)[:2].detach_()",
    "torch.exp(leaf(2), out=torch.empty(2))",
    "torch.exp(torch.ones(2), out=leaf(2))",
    "leaf(2).grad = 3",
    "leaf(2).grad = torch.ones(3)",
    "leaf(2).grad = torch.ones(2, dtype=torch.float64)",
    "x = leaf(2); x.grad = x",
    "torch.set_grad_enabled('a')",
    "with torch.no_grad(): v = leaf(3).view(3)\nv.add_(1)",
    "with torch.no_grad(): v = made(3).view(3)\nv.mul_(2)",
    "with torch.autograd.detect_anomaly():\n  (torch.zeros(1, requires_grad=True).sqrt() * 0)"
    ".backward()",
    "graph.get_gradient_edge(torch.ones(2))",
    "y = leaf(3) * 2; torch.autograd.backward(graph.get_gradient_edge(y))",
]  # fmt: skip

INFERENCE = [
    "inferred(2).add_(1)",
    "inferred(2) * leaf(2)",
    "inferred(2).requires_grad_()",
    "inferred(2)._version",
    "inferred(2).view(2).add_(1)",
    "x = inferred(2); see((x + leaf(2)).requires_grad, x.is_inference(), x[:1].is_inference())",
    "x = inferred(2); see((x * 2).is_inference(), x.clone().is_inference())",
    "y = inferred(2).clone().requires_grad_(); (y * 2).sum().backward(); see(y.grad.tolist())",
    "with torch.inference_mode(): x = leaf(2)\nsee(x.requires_grad); (x * 2).sum().backward()",
    "with torch.inference_mode(): v = made(2).view(2)\nv.mul_(2)",
    "x = made(2)\nwith torch.inference_mode(): x.mul_(2)\nx.sum().backward()",
    "x = leaf(2); y = (x * 2).sum()\nwith torch.inference_mode(): y.backward()\n"
    "see(x.grad.is_inference())",
]  # fmt: skip

HOOKS = [
    "torch.ones(1).register_hook(print)",
    "y = made(2); y.register_hook(lambda g: 3); y.sum().backward()",
    "y = made(2); y.register_hook(lambda g: torch.ones(5)); y.sum().backward()",
    "x = leaf(2); x.register_hook(lambda g: torch.ones(5)); x.sum().backward()",
    "y = made(2); y.register_hook(lambda g: g.double()); y.sum().backward()",
    "x = leaf(2); x.register_hook(3); x.sum().backward()",
    "y = made(2); y.grad_fn.register_hook(lambda a, b: (torch.ones(2),) * 5); y.sum().backward()",
    "y = made(2); y.grad_fn.register_prehook(lambda a: (torch.ones(2),) * 5); y.sum().backward()",
    "made(2).register_post_accumulate_grad_hook(print)",
    "torch.ones(2).register_post_accumulate_grad_hook(print)",
    "y = made(2); y.register_hook(lambda g: 1 / 0); y.sum().backward()",
    "graph.register_multi_grad_hook((leaf(1),), print, mode='some')",
    "with graph.saved_tensors_hooks(lambda t: t.add_(1), lambda t: t): leaf(2).exp()",
    "with graph.saved_tensors_hooks(lambda t: t, lambda t: 3): y = leaf(2).exp()\n"
    "y.sum().backward()",
    "with graph.disable_saved_tensors_hooks('not here'):\n"
    "  with graph.save_on_cpu(): pass",
    "with graph.allow_mutation_on_saved_tensors():\n"
    "  with graph.allow_mutation_on_saved_tensors(): pass",
]  # fmt: skip

FUNCTIONS = [
    "function().apply(leaf(2))",
    "function(lambda ctx, x: x * 2).apply(leaf(2)).sum().backward()",
    "function(lambda ctx, x: x * 2)()(torch.ones(2))",
    "function(lambda ctx, x, y: x * y, lambda ctx, g: g).apply(leaf(2), leaf(2)).sum().backward()",
    "function(lambda ctx, x: x * 2, lambda ctx, g: (g, g)).apply(leaf(2)).sum().backward()",
    "function(lambda ctx, x: x * 2, lambda ctx, g: torch.ones(5)).apply(leaf(2)).sum().backward()",
    "function(lambda ctx, x: x * 2, lambda ctx, g: 3.0).apply(leaf(2)).sum().backward()",
    "x = leaf(2); function(lambda ctx, x: x * 2, lambda ctx, g: None).apply(x).sum().backward(); "
    "see(x.grad)",
    "function(lambda ctx, x, n: x * n, lambda ctx, g: (g, g)).apply(leaf(2), 3).sum().backward()",
    "see(function(lambda ctx, x: None, lambda ctx, g: g).apply(leaf(2)))",
    "y = function(lambda c, x: [x * 2], lambda c, g: g).apply(leaf(2)); see(y[0].requires_grad)",
    "see(function(lambda ctx, x: 3, lambda ctx, g: g).apply(leaf(2)))",
    "function(lambda ctx, x: ctx.save_for_backward(3) or x * 2, lambda ctx, g: g).apply(leaf(2))",
    "function(lambda ctx, x: ctx.mark_dirty(3) or x * 1, lambda ctx, g: g).apply(made(2))",
    "function(lambda ctx, x: ctx.mark_dirty(x) or x.mul_(2), lambda ctx, g: g).apply(leaf(2))",
    "x = leaf(2); y = x * 1; "
    "z = function(lambda ctx, x: ctx.mark_dirty(x) or x.mul_(2), lambda ctx, g: g * 2).apply(y); "
    "z.sum().backward(); see(z is y, x.grad.tolist(), type(y.grad_fn).__name__, y._version)",
    "function(lambda ctx, x: ctx.mark_dirty(x) or x.mul_(2) * 1, lambda ctx, g: g).apply(made(2))",
    "x = leaf(4); y = x * 1; v = y[:2]; "
    "z = function(lambda ctx, x: ctx.mark_dirty(x) or x.mul_(2), lambda ctx, g: g * 2).apply(v); "
    "y.sum().backward(); see(z is v, x.grad.tolist())",
    "function(lambda c, x: c.mark_non_differentiable(3) or x * 1, lambda c, g: g).apply(leaf(2))",
    "x = leaf(2); y = function(lambda ctx, x: x, lambda ctx, g: g * 2).apply(x); "
    "see(y is x, y._is_view(), type(y.grad_fn).__name__); y.sum().backward(); see(x.grad.tolist())",
    "function(lambda ctx, x: x, lambda ctx, g: g * 2).apply(made(2)).mul_(2)",
    "x = made(2); y = function(lambda c, x: x.view(2, 1), lambda c, g: g.view(2)).apply(x); "
    "see(y._is_view(), y._base is x); y.mul_(2)",
    "x = leaf(2); y = function(lambda c, x: x * x, lambda c, g: g * 2).apply(x); "
    "y.sum().backward(); y.sum().backward(); see(x.grad.tolist())",
    "F = function(lambda c, x: c.save_for_backward(x) or x * x, "
    "lambda c, g: g * c.saved_tensors[0]); y = F.apply(leaf(2)).sum(); y.backward(); y.backward()",
    "F = function(lambda c, x: c.save_for_backward(x) or x * x, "
    "lambda c, g: g * c.saved_tensors[0]); x = made(2); y = F.apply(x).sum(); x.add_(1); "
    "y.backward()",
    "function(lambda ctx, x: x * 3, lambda ctx, g: {}['mine']).apply(leaf(2)).sum().backward()",
    "x = leaf(2); F = function(lambda c, x, y, z: see(c.needs_input_grad) or x * y, "
    "lambda c, g: see(c.needs_input_grad) or (g, None, None)); "
    "F.apply(x, torch.ones(2), 3).sum().backward()",
    "F = function(lambda c, x: (x * 1, x * 2), lambda c, g, h: see(g.tolist()) or h); "
    "F.apply(leaf(2))[1].sum().backward()",
    "F = function(lambda c, x: c.set_materialize_grads(False) or (x * 1, x * 2), "
    "lambda c, g, h: see(g) or h); F.apply(leaf(2))[1].sum().backward()",
    "F = function(lambda c, x: (x * 1, (x * 2).long()), lambda c, g, h: see(h.tolist()) or g); "
    "a, b = F.apply(leaf(2)); see(a.requires_grad, b.requires_grad); a.sum().backward()",
    "F = function(lambda c, x: x * x, once(lambda c, g: g * 2)); x = leaf(2); "
    "g, = torch.autograd.grad((F.apply(x) * x).sum(), x, create_graph=True); g.sum().backward()",
    "F = function(lambda c, x, n: x * n, lambda c, g: (g * 2, None)); F.apply(leaf(2), n=3)",
    "F = function(lambda c, x: x * 2, vjp=lambda c, g: g * 2); x = leaf(2); "
    "F.apply(x).sum().backward(); see(x.grad.tolist())",
    "F = function(lambda c, x: x * 2, lambda c, g: g, vjp=lambda c, g: g); "
    "F.apply(leaf(2)).sum().backward()",
    "y = function(lambda c, x: x * 2, lambda c, g: g).apply(leaf(2)); see(y.grad_fn.name(), "
    "y.grad_fn.next_functions[0][0].name(), y.grad_fn.needs_input_grad, y.grad_fn.saved_tensors)",
]  # fmt: skip

# Ours begin otherwise: they say what to do, name the user's line, or are Python's own.
_OWN_WORDS = (
    "detect_anomaly", "out=", "inputs=[torch", "torch.ones(())", "leaf(2).grad = torch",
    "_version or", "retain_grad",
)  # fmt: skip


def _namespace(module: Any, seen: list[Any]) -> dict[str, Any]:
    def leaf(*shape: int) -> Any:
        return module.ones(*shape, requires_grad=True)

    def function(forward: Any = None, backward: Any = None, vjp: Any = None) -> Any:
        methods = {"forward": forward, "backward": backward, "vjp": vjp}
        body = {name: staticmethod(f) for name, f in methods.items() if f is not None}
        return type("F", (module.autograd.Function,), body)

    def inferred(*shape: int) -> Any:
        with module.inference_mode():
            return module.ones(*shape)

    name = module.__name__
    return {
        "torch": module, "see": lambda *values: seen.append(values), "leaf": leaf,
        "made": lambda *shape: leaf(*shape) * 1, "function": function, "inferred": inferred,
        "once": importlib.import_module(f"{name}.autograd.function").once_differentiable,
        "copy": importlib.import_module("copy"),
        "graph": importlib.import_module(f"{name}.autograd.graph"),
    }  # fmt: skip


def _outcome(module: Any, program: str) -> tuple[str, str, list[Any]]:
    seen: list[Any] = []
    try:
        exec(program, _namespace(module, seen))
    except Exception as error:
        return type(error).__name__, str(error), seen
    return "", "", seen


@pytest.mark.parametrize("program", TAPE + INFERENCE + HOOKS + FUNCTIONS)
@pytest.mark.filterwarnings("ignore")
def test_ends_as_in_pytorch(program: str, each_device: str) -> None:
    expected, text, values = _outcome(peer, program)
    found, own, seen = _outcome(lazytorch, program)
    assert (found, seen) == (expected, values), own
    if not any(words in program for words in _OWN_WORDS):
        assert own[:25].lower() == text[:25].lower()
