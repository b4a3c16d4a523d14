"""Parameter and Buffer: tensors that a module registers when they are assigned to it.

The uninitialized ones have no shape yet: those of lazy modules before their first call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import lazytorch as torch
from lazytorch.tensor.overrides import refuse_overriding
from lazytorch.tensor.storage import dtype_of
from lazytorch.tensor.tensor import Tensor, alias, show_value_of

_HELP = "Call the lazy module with a batch first: it then knows its shapes."


class Parameter(Tensor):
    """A tensor to be trained: an attribute of a module that ``parameters()`` returns.

    Shares memory with ``data``. ``requires_grad`` is True unless said otherwise, also where
    gradients are switched off.

    >>> nn.Parameter(torch.zeros(2)).requires_grad
    True
    """

    __torch_function__ = classmethod(refuse_overriding)

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        source = torch.empty(0) if data is None else data.detach()
        parameter: Any = alias(source, cls)
        return parameter.requires_grad_(requires_grad)  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) not in memo:
            copied: Any = type(self)(self.data.clone(), self.requires_grad)
            gradient = getattr(self, "grad", None)
            if gradient is not None:
                copied.grad = gradient.detach().clone()
            memo[id(self)] = copied
        return memo[id(self)]  # type: ignore[no-any-return]

    def __repr__(self, **options: Any) -> str:
        return "Parameter containing:\n" + super().__repr__(**options)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _rebuild_parameter, (self.data, self.requires_grad)


class Buffer(Tensor):
    """A tensor that a module registers as a buffer when it is assigned to it."""

    persistent: bool
    __torch_function__ = classmethod(refuse_overriding)

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        source = torch.empty(0) if data is None else data.detach()
        buffer: Any = alias(source, cls)
        buffer.persistent = persistent
        return buffer.requires_grad_(data is not None and data.requires_grad)  # type: ignore[no-any-return]


def _rebuild_parameter(data: Tensor, requires_grad: bool) -> Parameter:
    return Parameter(data, requires_grad)


class UninitializedTensorMixin(Tensor):
    """A tensor without shape or values; ``materialize`` gives it both and makes it ordinary.

    ``data`` is a tensor of no elements that keeps device and dtype.
    """

    cls_to_become: ClassVar[type[Tensor]] = Tensor
    __torch_function__ = classmethod(refuse_overriding)

    def __new__(
        cls, requires_grad: bool = False, device: Any = None, dtype: Any = None
    ) -> UninitializedTensorMixin:
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


class UninitializedParameter(UninitializedTensorMixin, Parameter):
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


class UninitializedBuffer(UninitializedTensorMixin):
    """A buffer whose shape is not known yet.

    >>> nn.UninitializedBuffer()
    <UninitializedBuffer>
    """


def is_lazy(tensor: Any) -> bool:
    """Whether a tensor has no shape yet."""
    return isinstance(tensor, UninitializedTensorMixin)
