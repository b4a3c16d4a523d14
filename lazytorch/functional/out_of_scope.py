"""What is not built on purpose: each name says so, and what to use instead.

Sparse, quantized, nested and named tensors, TorchScript, several processes that train together and
calls for one vendor's cards are outside a library of dense tensors on OpenCL. Questions that have
an answer all the same are answered: nothing is being scripted, no process group is there.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, Final

from lazytorch.tensor.attach import functions
from lazytorch.tensor.tensor import Tensor

_SPARSE = (
    "sparse tensors are not supported: keep indices and values as two dense tensors, and combine "
    "them with index_add, scatter_add, gather or embedding"
)
_QUANTIZED = (
    "quantized tensors are not supported: keep integers and scales as tensors (x.to(int8), "
    "(q.float() * scale)), or compute in float16 or bfloat16"
)
_NESTED = (
    "nested tensors are not supported: pad to one length and mask "
    "(lazytorch.nn.utils.rnn.pad_sequence), or pack (pack_padded_sequence)"
)
_NAMED = "named dimensions are not supported: use dimensions by number, or einsum"
_HALF_COMPLEX = "complex numbers of two float16 are not supported: use complex64 (tensor.cfloat())"
_SCRIPT = (
    "TorchScript is not supported: lazytorch.compile(function) captures functions and training "
    "steps, and graphs are fused and compiled without being asked for"
)
_LIBRARY = "tensors in the layout of a vendor's library are not supported: use the tensor as it is"

_FUNCTIONS = {
    _SPARSE: (
        "sparse_coo_tensor sparse_csr_tensor sparse_csc_tensor sparse_bsr_tensor "
        "sparse_bsc_tensor sparse_compressed_tensor hspmm smm spmm sspaddmm saddmm dsmm hsmm "
        "resize_as_sparse_"
    ),
    _QUANTIZED: (
        "quantize_per_tensor quantize_per_channel quantize_per_tensor_dynamic dequantize "
        "fake_quantize_per_tensor_affine fake_quantize_per_channel_affine "
        "fused_moving_avg_obs_fake_quant empty_quantized quantized_batch_norm "
        "quantized_max_pool1d quantized_max_pool2d quantized_max_pool3d int_repr q_scale "
        "q_zero_point q_per_channel_scales q_per_channel_zero_points q_per_channel_axis"
    ),
}
_METHODS = {
    _SPARSE: (
        "to_sparse to_sparse_coo to_sparse_csr to_sparse_csc to_sparse_bsr to_sparse_bsc "
        "sparse_mask sparse_resize_ sparse_resize_and_clear_ coalesce is_coalesced indices values "
        "crow_indices col_indices ccol_indices row_indices smm sspaddmm resize_as_sparse_"
    ),
    _QUANTIZED: (
        "dequantize int_repr q_scale q_zero_point q_per_channel_scales "
        "q_per_channel_zero_points q_per_channel_axis qscheme"
    ),
    _NESTED: "to_padded_tensor",
    _NAMED: "align_as align_to refine_names rename rename_ index",
    _HALF_COMPLEX: "chalf",
    _LIBRARY: "to_mkldnn",
}
_DISTRIBUTED = (
    "one process computes here: run it alone, with larger batches or gradients accumulated over "
    "several backward passes"
)
_HUB = (
    "nothing is downloaded and run: install the package that defines the model, and read its "
    "weights with lazytorch.load or safetensors"
)
_EXPORT = (
    "graphs are not written in another library's format: save model.state_dict() with "
    "lazytorch.save, or as safetensors, and load it there"
)
_PROFILER = "use lazytorch.profile() for kernels and their times, or LAZYTORCH_PROFILE=1"
_OPERATORS = (
    "operators are not registered in a dispatcher: write a function of tensors, with "
    "torch.autograd.Function where it has a gradient of its own"
)
_FLOAT8 = "8-bit floating-point numbers are not supported: use bfloat16 or float16"


def _no(*_: Any, **__: Any) -> bool:
    return False


def _same(value: Any = None, *_: Any, **__: Any) -> Any:
    return value


def _annotated(_: Any, value: Any) -> Any:
    return value


# Marks that TorchScript reads, and Python passes by.
_SCRIPT_ANSWERS = {
    "is_scripting": _no, "is_tracing": _no, "ignore": _same, "unused": _same, "export": _same,
    "annotate": _annotated, "Final": Final,
}  # fmt: skip
_DISTRIBUTED_ANSWERS = {
    name: _no for name in ("is_available", "is_initialized", "is_nccl_available",
    "is_gloo_available", "is_mpi_available", "is_torchelastic_launched")
}  # fmt: skip
# Modules: whatever is asked of them says why there is no answer, but for what has one.
_MODULES: dict[str, tuple[str, dict[str, Any]]] = {
    "jit": (_SCRIPT, _SCRIPT_ANSWERS), "sparse": (_SPARSE, {}), "nested": (_NESTED, {}),
    "quantization": (_QUANTIZED, {}), "ao": (_QUANTIZED, {}),
    "distributed": (_DISTRIBUTED, _DISTRIBUTED_ANSWERS), "hub": (_HUB, {}),
    "onnx": (_EXPORT, {"is_in_onnx_export": _no}), "export": (_EXPORT, {}),
    "fx": (
        "modules are not traced into Python code: lazytorch.graph(tensor) shows the graph behind "
        "a result, and Module.named_modules() and hooks see every layer",
        {},
    ),
    "profiler": (_PROFILER, {}), "library": (_OPERATORS, {}), "package": (_EXPORT, {}),
}  # fmt: skip
_DTYPES = {
    _HALF_COMPLEX: "complex32 chalf",
    _QUANTIZED: "qint8 quint8 qint32 quint4x2 quint2x4",
    _FLOAT8: "float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu",
}


def _refusal(owner: str, name: str, reason: str) -> Any:
    def refuse(*_: Any, **__: Any) -> Any:
        raise NotImplementedError(f"{owner}.{name}: {reason}")

    refuse.__name__ = refuse.__qualname__ = name
    refuse.__doc__ = f"Raises ``NotImplementedError``: {reason}."
    return refuse


for _reason, _names in _FUNCTIONS.items():
    for _name in _names.split():
        setattr(functions, _name, _refusal("torch", _name, _reason))
for _reason, _names in _METHODS.items():
    for _name in _names.split():
        if not hasattr(Tensor, _name):
            setattr(Tensor, _name, _refusal("Tensor", _name, _reason))


class NotBuiltError(NotImplementedError, AttributeError):
    """Says why a name is not there. Also what ``hasattr`` takes for a no, and ``pickle``, which
    asks every module of the process for the names of objects that know no module."""


class OutOfScope(ModuleType):
    """Stands for a module or a dtype that is not built: whatever is asked of it says why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"lazytorch.{name}", f"Not supported: {reason}.")
        # Where ``from torch.jit import script`` sends who wants to know more.
        self.__file__ = __file__
        self._name, self._reason = name, reason

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotBuiltError(f"torch.{self._name}.{name}: {self._reason}")

    def __repr__(self) -> str:
        return f"<torch.{self._name} is not supported>"


for _name, (_reason, _answers) in _MODULES.items():
    _module = OutOfScope(_name, _reason)
    vars(_module).update(_answers)
    setattr(functions, _name, _module)
    # ``import torch.jit`` finds it too.
    sys.modules[f"lazytorch.{_name}"] = _module
for _reason, _names in _DTYPES.items():
    for _name in _names.split():
        setattr(functions, _name, OutOfScope(_name, _reason))
