"""The torch namespace: everything the modules of this package and the tensor layer define."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from lazytorch import dtypes
from lazytorch.autograd import grad_mode
from lazytorch.tensor import device as device_module
from lazytorch.tensor import formats, promotion
from lazytorch.tensor.attach import functions
from lazytorch.tensor.size import Size
from lazytorch.tensor.tensor import Tensor

# Modules that must exist before others use what they attach.
_FIRST = (
    "shape", "strided", "elementwise", "unary", "operators", "reduction", "conversion", "core",
)  # fmt: skip


def _load() -> None:
    importlib.import_module("lazytorch.tensor.targets")
    importlib.import_module("lazytorch.tensor.creation")
    importlib.import_module("lazytorch.tensor.ranges")
    package = importlib.import_module("lazytorch.functional")
    found = [module.name for module in pkgutil.iter_modules(package.__path__)]
    for name in (*_FIRST, *found):
        if name != "namespace":
            importlib.import_module(f"lazytorch.functional.{name}")
    for name in ("autograd.batching", "tensor.printing", "tensor.info"):
        importlib.import_module(f"lazytorch.{name}")


_INTERNAL = {
    "as_shape", "as_strided_backward", "as_strided_value", "assign_result", "broadcast_for_write",
    "call_with_out", "clone_in", "converted", "copy_out", "exponent_below", "for_examples",
    "laid_out",
    "gather_primitive", "insert_strided", "matrix_norm", "peek", "scatter_backward",
    "scatter_primitive", "share_strided_array", "snapshot",
    "complex_parts", "complex_power", "complex_sign", "contiguous_value", "imaginary_part",
    "real_part", "prod_over", "product_gradient", "scatter_base_gradient",
    "scatter_value_gradient", "strided_gradient", "sum_to_size", "view_as_dtype",
}  # fmt: skip


def public_names() -> dict[str, Any]:
    """Name and object of everything in ``lazytorch`` itself."""
    names = {name: value for name, value in vars(functions).items() if name not in _INTERNAL}
    for dtype in dtypes.ALL:
        names[dtype.name] = dtype
    names.update(
        bool=dtypes.bool_, half=dtypes.float16, float=dtypes.float32, double=dtypes.float64,

        cfloat=dtypes.complex64, cdouble=dtypes.complex128,
        short=dtypes.int16, int=dtypes.int32, long=dtypes.int64, dtype=dtypes.DType,
        Tensor=Tensor, Size=Size, device=device_module.device,
        set_default_device=device_module.set_default_device,
        get_default_device=device_module.get_default_device,
        layout=formats.layout, memory_format=formats.memory_format,
        inf=float("inf"), nan=float("nan"), pi=3.141592653589793, e=2.718281828459045,
        newaxis=None,
    )  # fmt: skip
    names.update({name: formats.by_name(name) for name in formats.NAMES})
    for function in (
        grad_mode.no_grad, grad_mode.enable_grad, grad_mode.set_grad_enabled,
        grad_mode.inference_mode, grad_mode.is_grad_enabled, grad_mode.is_inference_mode_enabled,
        promotion.get_default_dtype, promotion.set_default_dtype, promotion.result_type,
        promotion.promote_types, promotion.can_cast,
    ):  # fmt: skip
        names[function.__name__] = function
    return names


functions.Size = Size
_load()
