"""Regions in which operations choose their dtype: the state of ``torch.autocast``, and the casts.

A function with a policy (``autocast_lists``) is wrapped where it becomes public: outside of
regions the wrapper asks one flag. Methods, whose names are looked up when they are called, are
wrapped by the first region of the process. Functions of this package that call each other directly
do not pass through wrappers, and what a wrapped function calls is left as it is, so that an
operation is cast once, at the call the user wrote. A backward pass computes in the dtypes of the
forward pass, whatever region it is started in.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any, TypeVar

from lazytorch import dtypes, engine
from lazytorch.autograd.grad_mode import mode
from lazytorch.dtypes import DType
from lazytorch.tensor.autocast_lists import CARDS, PROCESSORS, Policy, policies
from lazytorch.tensor.storage import dtype_of
from lazytorch.tensor.tensor import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])
KINDS = (*PROCESSORS, *CARDS)


class Regions:
    """How many regions are open in the process: while there are none, no call asks further."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open = 0


regions = Regions()
_counting = threading.Lock()


class _State(threading.local):
    """What the current thread has set."""

    def __init__(self) -> None:
        self.enabled: dict[str, bool] = {}
        self.dtypes: dict[str, DType] = {}
        self.caching = True
        self.nesting = 0
        # A parameter, its version and its cast, by the parameter's id.
        self.casts: dict[int, tuple[Tensor, Any, Tensor]] = {}


state = _State()


def is_enabled(kind: str) -> bool:
    """Whether operations on devices of a kind choose their dtype."""
    return state.enabled.get(kind, False)


def set_enabled(kind: str, enabled: bool) -> None:
    """Let operations on devices of a kind choose their dtype, or not."""
    change = bool(enabled) - is_enabled(kind)
    state.enabled[kind] = bool(enabled)
    with _counting:
        regions.open += change
        while _methods:
            name, function = _methods.popitem()
            setattr(Tensor, name, casting(function, getattr(Tensor, name)))


def short_dtype(kind: str) -> DType:
    """The short dtype of a kind of device: bfloat16 on processors, float16 on cards at first."""
    chosen = state.dtypes.get(kind)
    if chosen is None:
        chosen = dtypes.bfloat16 if kind in PROCESSORS else dtypes.float16
    return chosen


def snapshot() -> dict[str, Any]:
    """The state as plain values: what a region that runs again later needs, and a plan's key."""
    return {
        "enabled": dict(state.enabled),
        "dtypes": {kind: short_dtype(kind) for kind in KINDS},
        "caching": state.caching,
    }


def settings() -> tuple[Any, ...]:
    """The state as a key; empty outside of regions."""
    if not regions.open:
        return ()
    return tuple((kind, short_dtype(kind)) for kind in KINDS if is_enabled(kind))


@contextmanager
def restored(taken: dict[str, Any]) -> Iterator[None]:
    """The state as it was when a snapshot was taken, for a ``with`` block."""
    before = snapshot()
    _put(taken)
    state.nesting += 1
    try:
        yield
    finally:
        state.nesting -= 1
        if not state.nesting:
            state.casts.clear()
        _put(before)


def _put(taken: dict[str, Any]) -> None:
    for kind in KINDS:
        set_enabled(kind, taken["enabled"].get(kind, False))
        state.dtypes[kind] = taken["dtypes"][kind]
    state.caching = taken["caching"]


@contextmanager
def suspended() -> Iterator[None]:
    """No operation chooses its dtype inside: for what computes in dtypes that are settled."""
    before = [kind for kind in KINDS if is_enabled(kind)]
    for kind in before:
        set_enabled(kind, False)
    try:
        yield
    finally:
        for kind in before:
            set_enabled(kind, True)


# Methods that no region has wrapped yet, and the functions they are.
_methods: dict[str, str] = {}


def cast_method(name: str, function: str) -> None:
    """Let a method cast as ``function`` does, from the first region on."""
    if policies(function):
        _methods[name] = function


# Casting --------------------------------------------------------------------------------------


def casting(name: str, function: Function) -> Function:
    """The function, with its arguments cast inside regions; itself when it has no policy."""
    table = policies(name)
    if not table or hasattr(function, _MARK):
        return function

    @functools.wraps(function)
    def cast_first(*args: Any, **kwargs: Any) -> Any:
        if not regions.open or kwargs.get("out") is not None:
            return function(*args, **kwargs)
        kind = _kind(args) or _kind(kwargs.values())
        policy = table.get(kind) if kind is not None else None
        if kind is None or policy is None or _exempt(name, policy, kind, args, kwargs):
            return function(*args, **kwargs)
        if policy is Policy.REFUSED:
            raise RuntimeError(_REFUSAL)
        if policy is not Policy.AS_GIVEN:
            dtype = _wanted(policy, kind, (*args, *kwargs.values()))
            args = tuple(_cast(value, kind, dtype) for value in args)
            kwargs = {key: _cast(value, kind, dtype) for key, value in kwargs.items()}
        with suspended():
            return function(*args, **kwargs)

    setattr(cast_first, _MARK, True)
    return cast_first  # type: ignore[return-value]


_MARK = "_casts_in_regions"


def cast_in_regions(function: Function) -> Function:
    """Decorate a function that others of this package call too, each time as the user would."""
    return casting(function.__name__, function)


def casting_all(namespace: dict[str, Any], prefix: str = "") -> None:
    """Let the public functions of a module that have a policy cast; ``prefix`` is the module's."""
    for name, function in list(namespace.items()):
        if not name.startswith("_") and isinstance(function, FunctionType):
            namespace[name] = casting(prefix + name, function)


_REFUSAL = (
    "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast: "
    "the logarithm of a sigmoid in a short dtype is infinite too soon. Leave the sigmoid out and "
    "use binary_cross_entropy_with_logits or BCEWithLogitsLoss, which are safe, or compute the "
    "loss in a region with autocast(..., enabled=False)."
)


def _kind(values: Any) -> str | None:
    """The kind of device of the first tensor on one where autocast is on."""
    for value in values:
        if isinstance(value, Tensor):
            if is_enabled(value._device.type):
                return value._device.type
        elif isinstance(value, (tuple, list)):
            found = _kind(value)
            if found is not None:
                return found
    return None


def _eligible(value: Tensor, kind: str) -> bool:
    dtype = dtype_of(value)
    return value._device.type == kind and dtype.kind == "f" and dtype is not dtypes.float64


def _exempt(name: str, policy: Policy, kind: str, args: Any, kwargs: dict[str, Any]) -> bool:
    if policy is Policy.FLOAT32_UNLESS_TOLD:
        return any(isinstance(value, DType) for value in (*args, *kwargs.values()))
    if name == "einsum":  # A permutation, a diagonal or a sum is no product to a processor.
        return kind in PROCESSORS and sum(1 for _ in _tensors(args)) < 2
    if name == "pad":  # Of the paddings, processors' lists name those that read the input twice.
        sides, how = (*args[1:3], "constant", "constant")[:2]
        how = kwargs.get("mode", how if len(args) > 2 else "constant")
        sides = kwargs.get("pad", sides)
        return not (how == "replicate" or (how == "reflect" and len(sides) < 6))
    return False


def _wanted(policy: Policy, kind: str, values: tuple[Any, ...]) -> DType:
    if policy is Policy.LOWER:
        return short_dtype(kind)
    if policy is Policy.WIDEST:
        short = short_dtype(kind)
        found = {dtype_of(value) for value in _tensors(values) if _eligible(value, kind)}
        return short if found <= {short} else dtypes.float32
    return dtypes.float32


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from _tensors(value)


def _cast(value: Any, kind: str, dtype: DType) -> Any:
    if isinstance(value, Tensor):
        if dtype_of(value) is dtype or not _eligible(value, kind):
            return value
        return _cast_once(value, dtype) if dtype is short_dtype(kind) else value.to(dtype)
    if type(value) in (tuple, list):
        return type(value)(_cast(item, kind, dtype) for item in value)
    return value


def _cast_once(tensor: Tensor, dtype: DType) -> Tensor:
    """The cast of a parameter is made once a region, so that its gradients are added before they
    are cast back. Not while a plan is captured: a cast made in one call is stale in the next."""
    cacheable = (
        state.caching
        and state.nesting
        and mode.enabled
        and tensor._requires_grad
        and tensor._grad_fn is None
        and tensor._view is None
        and dtype_of(tensor) is dtypes.float32
        and engine.current.capture is None
    )
    if not cacheable:
        return tensor.to(dtype)
    version = tensor._version
    known = state.casts.get(id(tensor))
    if known is not None and known[1] == version and dtype_of(known[2]) is dtype:
        return known[2]
    made = tensor.to(dtype)
    state.casts[id(tensor)] = (tensor, version, made)
    return made
