"""torch.types: names for annotations."""

from __future__ import annotations

import builtins
from typing import Any, Union

from lazytorch.dtypes import DType
from lazytorch.tensor.device import device
from lazytorch.tensor.size import Size
from lazytorch.tensor.tensor import Tensor

Number = Union[builtins.int, builtins.float, builtins.bool]
Device = Union[device, str, builtins.int, None]
_dtype, _device, _size = DType, device, Union[Size, list[builtins.int], tuple[builtins.int, ...]]
_TensorOrTensors = Union[Tensor, tuple[Tensor, ...]]
Storage = Any

__all__ = ["Device", "Number", "Storage"]
