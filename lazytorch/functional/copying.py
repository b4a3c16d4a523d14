"""copy.copy, copy.deepcopy and pickle: tensors that share memory share it afterwards too.

A tensor that nobody aliases is its values; one with a storage is a region of it, and the storage
goes through the memo of the copy or of the pickle as an object of its own.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from lazytorch import dtypes, engine
from lazytorch.functional.core import peek
from lazytorch.tensor.device import device
from lazytorch.tensor.recorder import array_of
from lazytorch.tensor.storage import Storage, View, dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, alias, fresh

members: Any = Tensor


def _copy(self: Tensor) -> Tensor:
    """Another tensor in the same memory, a leaf."""
    twin = alias(self, type(self))
    twin._requires_grad = self._requires_grad
    twin.__dict__.update(self.__dict__)
    return twin


def _storage_copy(storage: Storage, memo: dict[int, Any]) -> Storage:
    known: Storage | None = memo.get(id(storage))
    if known is None:
        node = storage.node
        if storage.host_shared:
            node = engine.leaf_from_array(np.array(storage.host, order="C"), node.device)
        known = memo[id(storage)] = Storage(node, storage.device)
        # The memo goes by identity: what is in it must live as long as it does.
        memo.setdefault(id(memo), []).append(storage)
    return known


def _placed(storage: Storage, view: View | None, cls: type[Tensor], place: device) -> Tensor:
    """A tensor of a class that lies in a storage as ``view`` says."""
    made = fresh(None, place)
    made._storage = storage
    if view is not None:
        made._view = View(None, view.shape, view.strides, view.offset, -1, view.dtype)
    return made if cls is Tensor else alias(made, cls)


def _deepcopy(self: Tensor, memo: dict[int, Any]) -> Any:
    if self.grad_fn is not None:  # type: ignore[attr-defined]
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
            "protocol at the moment.  If you were attempting to deepcopy a module, this may be "
            "because of a torch.nn.utils.weight_norm usage, see "
            "https://github.com/pytorch/pytorch/pull/103001"
        )
    if id(self) in memo:
        return memo[id(self)]
    storage = self._storage
    if storage is None:
        copied = alias(fresh(node_of(self), self._device), type(self))
    else:
        copied = _placed(_storage_copy(storage, memo), self._view, type(self), self._device)
    copied._requires_grad = self._requires_grad
    memo[id(self)] = copied
    if self._grad is not None:
        copied._grad = _deepcopy(self._grad, memo)
    copied.__dict__.update({name: _deep(value, memo) for name, value in self.__dict__.items()})
    return copied


def _deep(value: Any, memo: dict[int, Any]) -> Any:
    return copy.deepcopy(value, memo)


# Pickle ---------------------------------------------------------------------------------------


def _plain(array: np.ndarray) -> np.ndarray:
    """The values in a dtype that NumPy can pickle without help."""
    plain = array.view(np.uint16) if array.dtype == dtypes.bfloat16.numpy else array
    return np.ascontiguousarray(plain).reshape(array.shape)


def _leaf(array: np.ndarray, name: str, place: device) -> Any:
    return engine.leaf_from_array(array.view(dtypes.by_name(name).numpy), place.runtime)


def _rebuild(cls: Any, array: np.ndarray, name: str, place: str, requires_grad: bool) -> Tensor:
    made = fresh(_leaf(array, name, device(place)), device(place))
    made = made if cls is None else alias(made, cls)
    made._requires_grad = requires_grad
    return made


def _rebuild_storage(array: np.ndarray, name: str, place: str) -> Storage:
    return Storage(_leaf(array, name, device(place)), device(place))


def _rebuild_view(
    cls: Any, storage: Storage, geometry: tuple[Any, ...] | None, requires_grad: bool
) -> Tensor:
    view = None
    if geometry is not None:
        shape, strides, offset, dtype = geometry
        view = View(None, shape, strides, offset, -1, dtype)
    made = _placed(storage, view, cls or Tensor, storage.device)
    made._requires_grad = requires_grad
    return made


def _reduce_storage(self: Storage, protocol: int) -> Any:
    array = np.array(self.host) if self.host_shared else array_of(self.node)
    return _rebuild_storage, (_plain(array), self.node.dtype.name, str(self.device))


def _reduce(self: Tensor, protocol: int) -> Any:
    state = self.__dict__ or None
    # Tensor itself is None: a pickle would look for it in the module it prints as.
    cls = None if type(self) is Tensor else type(self)
    if self._storage is None:
        array = _plain(peek(self)).reshape(shape_of(self))
        facts = (dtype_of(self).name, str(self._device), self._requires_grad)
        return _rebuild, (cls, array, *facts), state
    view = self._view
    geometry = None if view is None else (view.shape, view.strides, view.offset, view.dtype)
    return _rebuild_view, (cls, self._storage, geometry, self._requires_grad), state


members.__copy__ = _copy
members.__deepcopy__ = _deepcopy
members.__reduce_ex__ = _reduce
Storage.__reduce_ex__ = _reduce_storage  # type: ignore[method-assign,assignment]
