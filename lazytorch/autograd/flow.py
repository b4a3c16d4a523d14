"""``backward`` and ``autograd.grad``: what is differentiated, by what, and where it goes.

Arguments are checked here, with PyTorch's errors; the pass itself is ``backward_pass``'s. What is
differentiated, and by what, may be a tensor or a :class:`GradientEdge`, which names a place on
the tape without keeping the tensor that was made there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

from lazytorch import engine
from lazytorch.autograd.backward_pass import Wanted, differentiating, run_backward
from lazytorch.autograd.entries import AccumulateGrad, Edge, GradientFunction
from lazytorch.autograd.grad_mode import mode, no_grad
from lazytorch.autograd.tape import edge_of
from lazytorch.tensor.attach import functions, public
from lazytorch.tensor.batching.levels import opened
from lazytorch.tensor.size import Size
from lazytorch.tensor.storage import dtype_of, shape_of, storage_of
from lazytorch.tensor.tensor import Tensor


class GradientEdge(NamedTuple):
    """A place on the tape: the entry ``node`` and the number of its result.

    ``backward`` and ``autograd.grad`` take it in the place of a tensor.
    """

    node: GradientFunction
    output_nr: int
    ownership_token: Any = None


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The place on the tape to which the gradient of ``tensor`` goes.

    >>> get_gradient_edge(torch.ones(2, requires_grad=True) * 2).node.name()
    'MulBackward0'
    """
    if not tensor.requires_grad:
        raise RuntimeError(
            "It is not possible to get the gradient edge for a Tensor that does not require "
            "gradients"
        )
    return GradientEdge(*edge_of(tensor))


Place = Any  # A Tensor or a GradientEdge.


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, (Tensor, GradientEdge)) else list(value)


def _edge(place: Place) -> Edge:
    if isinstance(place, GradientEdge):
        return place.node, place.output_nr
    return edge_of(place)


def _form(place: Place) -> tuple[tuple[int, ...], Any, Any]:
    """Shape, dtype and device of what lies at a place."""
    if isinstance(place, GradientEdge):
        node, number = place.node, place.output_nr
        return node.shapes_out[number], node.dtypes_out[number], node._device
    return shape_of(place), dtype_of(place), place._device


# Seeds ----------------------------------------------------------------------------------------


def _seeds(outputs: Sequence[Place], given: list[Any]) -> list[Tensor]:
    """The gradients to begin with: ones where none is given and the output is one number."""
    if not given:
        given = [None] * len(outputs)
    if len(given) != len(outputs):
        raise RuntimeError(f"got {len(outputs)} tensors and {len(given)} gradients")
    return [_seed(number, out, seed) for number, (out, seed) in enumerate(zip(outputs, given))]


def _seed(number: int, out: Place, seed: Any) -> Tensor:
    shape, dtype, place = _form(out)
    if seed is not None and not isinstance(seed, Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(seed).__name__}")
    if seed is not None:
        _check_seed(number, seed, shape, dtype)
    if isinstance(out, Tensor) and not out.requires_grad:
        raise RuntimeError(
            f"element {number} of tensors does not require grad and does not have a grad_fn. Was "
            "it computed inside torch.no_grad(), or from tensors without requires_grad?"
        )
    if seed is not None:
        return seed
    if shape and any(extent != 1 for extent in shape):
        raise RuntimeError(
            "grad can be implicitly created only for scalar outputs: this one has shape "
            f"{list(shape)}; reduce it or pass a gradient of that shape"
        )
    if dtype.kind != "f":
        raise RuntimeError(
            f"grad can be implicitly created only for real scalar outputs but got {dtype!r}"
        )
    return functions.ones(shape, dtype=dtype, device=place)  # type: ignore[no-any-return]


def _check_seed(number: int, seed: Tensor, shape: tuple[int, ...], dtype: Any) -> None:
    if shape_of(seed) != shape:
        raise RuntimeError(
            f"Mismatch in shape: grad_output[{number}] has a shape of {seed.shape} and "
            f"output[{number}] has a shape of {Size(shape)}."
        )
    if (dtype_of(seed).kind == "c") != (dtype.kind == "c"):
        raise RuntimeError(
            "For complex Tensors, both grad_output and output are required to have the same "
            f"dtype. Mismatch in dtype: grad_output[{number}] has a dtype of {seed.dtype!r} and "
            f"output[{number}] has a dtype of {dtype!r}."
        )


# Front doors ----------------------------------------------------------------------------------


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradients of ``tensors`` to ``.grad`` of the leaves they came from.

    ``inputs`` limits which tensors receive them. The tape is freed unless ``retain_graph``;
    ``create_graph`` makes gradients that can be differentiated again. Raises ``RuntimeError`` for
    outputs without a history, for outputs of several elements without a gradient to begin with,
    for gradients of another shape, and where the tape was freed by a pass before.
    """
    if opened.levels:
        raise RuntimeError(
            "backward() called inside a functorch transform. This is not supported: use "
            "torch.func.grad or torch.func.vjp inside of vmap, or call backward() outside."
        )
    outputs = _as_list(tensors)
    if inputs is not None and not _as_list(inputs):
        raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    gradients = _seeds(outputs, _as_list(grad_tensors))
    roots = [_edge(out) for out in outputs]
    keep = create_graph if retain_graph is None else retain_graph
    made = [out for out in outputs if isinstance(out, Tensor)]
    with differentiating(made):
        if inputs is not None:
            _backward_to(_as_list(inputs), roots, gradients, keep, create_graph)
        else:
            run_backward(roots, gradients, keep, create_graph)
    for out in made:
        # What the loss was must be computed with the gradients, not by a second pass.
        engine.note_state(storage_of(out))


def _check_inputs(targets: Sequence[Place]) -> None:
    for place in targets:
        if isinstance(place, Tensor) and not place.requires_grad:
            raise RuntimeError("One of the differentiated Tensors does not require grad")


def _backward_to(
    targets: list[Place], roots: list[Edge], seeds: list[Tensor], keep: bool, create_graph: bool
) -> None:
    _check_inputs(targets)
    edges = [_edge(place) for place in targets]
    wanted = Wanted(edges, [entry for entry, _ in roots])
    run_backward(roots, seeds, keep, create_graph, wanted, accumulate=False)
    before = mode.enabled
    mode.enabled = create_graph
    try:
        for place, (entry, _), gradient in zip(targets, edges, wanted.results()):
            if gradient is not None:
                target = entry.variable if isinstance(entry, AccumulateGrad) else place
                accumulate_into(target, gradient)
    finally:
        mode.enabled = before


def accumulate_into(tensor: Tensor, gradient: Tensor) -> None:
    """Add a gradient to ``tensor.grad``."""
    holder = AccumulateGrad(tensor)
    holder.run([gradient], ())


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Any, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``, without touching ``.grad``.

    ``None`` stands for inputs that were not used where ``allow_unused``; otherwise they are an
    error. ``materialize_grads`` gives zeros instead. With ``is_grads_batched`` each of
    ``grad_outputs`` has another dimension in front, and so has each result.
    """
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: "
            "allow_unused=False."
        )
    made, sought = _as_list(outputs), _as_list(inputs)
    if not sought:
        raise RuntimeError("`inputs` argument to `grad()` cannot be empty.")
    if is_grads_batched:
        return _batched(made, sought, grad_outputs, create_graph, allow_unused, materialize_grads)
    _check_inputs(sought)
    gradients = _seeds(made, _as_list(grad_outputs))
    roots = [_edge(out) for out in made]
    wanted = Wanted([_edge(place) for place in sought], [entry for entry, _ in roots])
    # Tangents of gradients come from their tape.
    create_graph = create_graph or mode.forward
    keep = create_graph if retain_graph is None else retain_graph
    run_backward(roots, gradients, keep, create_graph, wanted, accumulate=False)
    results = wanted.results()
    for number, found in enumerate(results):
        if found is not None:
            continue
        if materialize_grads:
            shape, dtype, place = _form(sought[number])
            results[number] = functions.zeros(shape, dtype=dtype, device=place)
        elif not allow_unused:
            raise RuntimeError(
                f"The differentiated Tensor at index {number} appears to not have been used in the "
                "graph. Set allow_unused=True if this is the desired behavior."
            )
    return tuple(results)


def _batched(
    outputs: list[Place], inputs: list[Place], grad_outputs: Any, create_graph: bool,
    unused: bool | None, zeros: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """The gradients for each of a batch of seeds; all are one graph, computed together."""
    seeds = _as_list(grad_outputs)
    for number, (out, seed) in enumerate(zip(outputs, seeds)):
        if seed is None:
            continue
        if not shape_of(seed):
            raise IndexError(
                "is_grads_batched: grad_outputs need a batch dimension in front, but grad_output"
                f"[{number}] has none"
            )
        if shape_of(seed)[1:] != _form(out)[0]:
            raise RuntimeError(
                "If `is_grads_batched=True`, we interpret the first dimension of each grad_output "
                "as the batch dimension. The sizes of the remaining dimensions are expected to "
                "match the shape of corresponding output, but a mismatch was detected: "
                f"grad_output[{number}] has a shape of {seed.shape} and output[{number}] has a "
                f"shape of {Size(_form(out)[0])}."
            )
    sizes = {shape_of(seed)[0] for seed in seeds if seed is not None}
    if len(sizes) != 1:
        raise RuntimeError(
            "is_grads_batched: expected the batch dimensions of grad_outputs to be of one size, "
            f"but got sizes {sorted(sizes)}"
        )
    arrived: list[bool] = []

    def pulled(chosen: list[Any]) -> list[Tensor]:
        found = grad(outputs, inputs, chosen, True, create_graph, unused, False, zeros)
        arrived.extend(one is not None for one in found)
        return [one for one in found if one is not None]

    with nullcontext() if create_graph else no_grad():
        batches = iter(functions.for_examples(pulled, seeds, sizes.pop()))
    return tuple(next(batches) if one else None for one in arrived)


@public("backward", function=False)
def _backward_method(
    self: Tensor,
    gradient: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    inputs: Any = None,
) -> None:
    """Add the gradients of this tensor to ``.grad`` of the leaves it came from."""
    backward(self, gradient, retain_graph, create_graph, inputs)
