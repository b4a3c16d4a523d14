"""Parameters and buffers that have no shape yet: those of lazy modules before their first call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import lazytorch as torch
from lazytorch.nn.parameter import Parameter
from lazytorch.tensor.overrides import refuse_overriding
from lazytorch.tensor.storage import dtype_of
from lazytorch.tensor.tensor import Tensor, show_value_of

_HELP = "Call the lazy module with a batch first: it then knows its shapes."


class Uninitialized(Tensor):
    """A tensor without shape or values; ``materialize`` gives it both and makes it ordinary.

    ``data`` is a tensor of no elements that keeps device and dtype.
    """

    cls_to_become: ClassVar[type[Tensor]] = Tensor
    __torch_function__ = classmethod(refuse_overriding)

    def __new__(
        cls, requires_grad: bool = False, device: Any = None, dtype: Any = None
    ) -> Uninitialized:
        made: Any = object.__new__(cls)
        made.__dict__["_placeholder"] = placeholder = torch.empty(0, device=device, dtype=dtype)
        made._device = placeholder.device
        made._requires_grad = requires_grad
        made._view = made._grad_fn = made._grad = made._accumulator = made._extra = None
        made._output_number = 0
        return made  # type: ignore[no-any-return]

    def materialize(self, shape: Sequence[int], device: Any = None, dtype: Any = None) -> None:
        """Become an ordinary tensor of this shape; its values are not set."""
        placeholder = self.__dict__.pop("_placeholder")
        values = torch.empty(
            tuple(shape),
            device=placeholder.device if device is None else device,
            dtype=placeholder.dtype if dtype is None else dtype,
        )
        self.__class__ = self.cls_to_become  # type: ignore[assignment]
        show_value_of(self, values)

    # Whatever reads or writes the value comes by one of these.

    @property
    def _node(self) -> Any:  # type: ignore[override]
        raise ValueError(f"Attempted to use an uninitialized parameter or buffer. {_HELP}")

    @property
    def _storage(self) -> Any:  # type: ignore[override]
        raise ValueError(f"Attempted to use an uninitialized parameter or buffer. {_HELP}")

    @property
    def shape(self) -> Any:
        raise RuntimeError(
            "Can't access the shape of an uninitialized parameter or buffer; this also happens "
            "when `load_state_dict` loads an uninitialized parameter into an initialized one. "
            + _HELP
        )

    @property
    def data(self) -> Tensor:
        return self.__dict__["_placeholder"]  # type: ignore[no-any-return]

    @data.setter
    def data(self, value: Tensor) -> None:
        self.__dict__["_placeholder"] = value
        self._device = value._device

    @property
    def dtype(self) -> Any:
        return dtype_of(self.data)

    def __repr__(self, **options: Any) -> str:
        return f"<{type(self).__name__}>"

    __str__ = __repr__

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = type(self)(self._requires_grad, self.device, self.dtype)
        return memo[id(self)]  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return type(self), (self._requires_grad, str(self.device), self.dtype)


class UninitializedParameter(Uninitialized, Parameter):
    """A parameter whose shape is not known yet.

    Any use but moving and casting raises ``ValueError``, its shape ``RuntimeError``.

    >>> nn.UninitializedParameter()
    <UninitializedParameter>
    """

    cls_to_become = Parameter

    def __new__(
        cls, requires_grad: bool = True, device: Any = None, dtype: Any = None
    ) -> UninitializedParameter:
        return super().__new__(cls, requires_grad, device, dtype)  # type: ignore[return-value]


class UninitializedBuffer(Uninitialized):
    """A buffer whose shape is not known yet.

    >>> nn.UninitializedBuffer()
    <UninitializedBuffer>
    """


def is_lazy(tensor: Any) -> bool:
    """Whether a tensor has no shape yet."""
    return isinstance(tensor, Uninitialized)
