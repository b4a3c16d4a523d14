"""Gradients of one call, and gradients of gradients, made in PyTorch and here, in float64.

Every result is weighted at random and summed; first order are the gradients of that by the
inputs, second order those of the first ones, again weighted and summed, by the inputs and by the
weights of the results. What PyTorch cannot differentiate is left out.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import numpy as np
import torch as peer

import lazytorch
from tests.conformance.compare import Disagreement, translated
from tests.conformance.database import Entry, resolve

ORDERS = {"gradient": 1, "second": 2}
_TOLERANCE = 1e-6
# Zeros to PyTorch as well, or nothing at all: what one of the two need not say.
_NOTHING = 1e-12


def check_gradients(entry: Entry, sample: Any, device: str, order: int) -> bool:
    """Differentiate one call in both libraries; ``False`` where PyTorch has no such gradient.

    Raises :class:`Disagreement`, or whatever lazytorch raises.
    """
    info = entry.info
    if not (info.supports_gradgrad if order == 2 else info.supports_autograd):
        return False
    arguments = [sample.input, *sample.args]
    if entry.path == "nn.functional.embedding_bag":
        arguments[:2] = arguments[1], arguments[0]
    try:
        wanted = _Side(peer, "cpu", entry, sample, arguments).gradients(order)
    except Exception:
        return False
    if not any(one is not None for one in wanted):
        return False
    options = translated(sample.kwargs, device)
    if "device" in options:
        options["device"] = device
    ours = _Side(lazytorch, device, entry, sample, translated(arguments, device), options)
    for number, (found, expected) in enumerate(zip(ours.gradients(order), wanted)):
        _agree(number, found, expected)
    return True


def _agree(number: int, found: Any, expected: Any) -> None:
    if expected is None or found is None:
        other = expected if found is None else found
        if other is not None and np.abs(np.nan_to_num(other)).max(initial=0) > _NOTHING:
            raise Disagreement(f"gradient {number} is {'missing' if found is None else 'made up'}")
        return
    if not np.allclose(found, expected, _TOLERANCE, _TOLERANCE, equal_nan=True):
        apart = np.nanmax(np.abs(found - expected), initial=0)
        raise Disagreement(f"gradient {number} is {apart:.2g} apart")


class _Side:
    """One library's call, with its inputs as leaves."""

    def __init__(
        self, module: Any, device: str, entry: Entry, sample: Any, arguments: list[Any],
        options: Any = None,
    ) -> None:  # fmt: skip
        self.module = module
        self.device = device
        self.leaves: list[Any] = []
        self.call = resolve(module, entry.path)
        # What the database does to make a gradient well defined: symmetric inputs, say.
        wrapper = entry.info.gradcheck_wrapper
        if wrapper.__name__.startswith("gradcheck_wrapper_") and "masked" not in wrapper.__name__:
            self.call = functools.partial(_in_terms_of(module, wrapper), self.call)
        self.process = sample.output_process_fn_grad
        if isinstance(self.process, types.FunctionType):
            self.process = _in_terms_of(module, self.process)
        self.arguments = self._as_leaves(arguments)
        self.options = self._as_leaves(dict(sample.kwargs if options is None else options))

    def _as_leaves(self, value: Any) -> Any:
        if isinstance(value, self.module.Tensor):
            made = value.detach().clone()
            if value.dtype == self.module.float64:
                made.requires_grad_()
                self.leaves.append(made)
            return made
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            items = [self._as_leaves(item) for item in value]
            return items if isinstance(value, list) else tuple(items)
        if isinstance(value, dict):
            return {key: self._as_leaves(item) for key, item in value.items()}
        return value

    def _weights(self, like: Any, seed: int) -> Any:
        rng = np.random.default_rng(seed)
        array = rng.standard_normal(tuple(like.shape))
        if like.is_complex():
            array = array + 1j * rng.standard_normal(tuple(like.shape))
        return self.module.tensor(array, dtype=like.dtype, device=self.device).requires_grad_()

    def _weighted(self, tensors: list[Any], weights: list[Any]) -> Any:
        total: Any = 0
        for tensor, weight in zip(tensors, weights):
            product = tensor * weight
            total = total + (product.real if product.is_complex() else product).sum()
        return total

    def gradients(self, order: int) -> list[Any]:
        """The gradients by all inputs as arrays, at second order by the weights as well."""
        result = self.call(*self.arguments, **self.options)
        if self.process is not None:
            result = self.process(result)
        results = [one for one in _flat(result, self.module) if one.requires_grad]
        weights = [self._weights(one, number) for number, one in enumerate(results)]
        loss = self._weighted(results, weights)
        inputs = self.leaves + (weights if order == 2 else [])
        grad = self.module.autograd.grad
        first = grad(loss, self.leaves, create_graph=order == 2, allow_unused=True)
        if order == 2:
            # The same gradients in both libraries, whether or not they can be differentiated.
            present = [one for one in first if one is not None]
            total = self._weighted(
                present, [self._weights(one, 50 + n).detach() for n, one in enumerate(first)
                          if one is not None]
            )  # fmt: skip
            first = grad(total, inputs, allow_unused=True)
        return [
            None if one is None else np.asarray(one.detach().resolve_conj().cpu().numpy())
            for one in first
        ]


def _in_terms_of(module: Any, function: Any) -> Any:
    """A function of the database that names ``torch``, meaning another module by it."""
    return types.FunctionType(
        function.__code__, {**function.__globals__, "torch": module}, function.__name__,
        function.__defaults__, function.__closure__,
    )  # fmt: skip


def _flat(value: Any, module: Any) -> list[Any]:
    if isinstance(value, module.Tensor):
        return [value]
    if isinstance(value, (list, tuple)):
        return [one for item in value for one in _flat(item, module)]
    return []
