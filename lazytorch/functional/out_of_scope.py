"""What is not built on purpose: each name says so, and what to use instead.

Sparse, quantized, nested and named tensors, TorchScript and calls for one vendor's cards are
outside a library of dense tensors on OpenCL.
"""

from __future__ import annotations

from typing import Any

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
# Modules and dtypes: objects that refuse whatever is asked of them.
_OBJECTS = {
    "complex32": _HALF_COMPLEX, "chalf": _HALF_COMPLEX, "jit": _SCRIPT, "sparse": _SPARSE,
    "nested": _NESTED, "quantization": _QUANTIZED, "qint8": _QUANTIZED, "quint8": _QUANTIZED,
    "qint32": _QUANTIZED, "quint4x2": _QUANTIZED, "quint2x4": _QUANTIZED,
}  # fmt: skip


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


class OutOfScope:
    """Stands for a module or a dtype that is not built: whatever is asked of it says why."""

    def __init__(self, name: str, reason: str) -> None:
        self._name, self._reason = name, reason

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotImplementedError(f"torch.{self._name}.{name}: {self._reason}")

    def __repr__(self) -> str:
        return f"<torch.{self._name} is not supported>"


for _name, _reason in _OBJECTS.items():
    setattr(functions, _name, OutOfScope(_name, _reason))
