"""torch.nn.functional: the functions of layers, with PyTorch's signatures.

Nothing is computed here: each name is a function of ``lazytorch.functional``, some with an
``inplace`` argument around them. Names that PyTorch has and we do not are missing here too, so
that asking for them fails at once.
"""

from __future__ import annotations

import warnings
from typing import Any

from lazytorch.autograd.naming import shown_as as _shown_as
from lazytorch.functional import activation as _activation
from lazytorch.functional import adaptive_pooling as _adaptive
from lazytorch.functional import dropout as _dropout
from lazytorch.functional import softmax as _softmax
from lazytorch.functional.activation import (
    gelu,
    glu,
    hardshrink,
    logsigmoid,
    prelu,
    softplus,
    softshrink,
    softsign,
    tanhshrink,
)
from lazytorch.functional.attention import scaled_dot_product_attention
from lazytorch.functional.batch_normalization import batch_norm, instance_norm
from lazytorch.functional.classification import cross_entropy, nll_loss
from lazytorch.functional.composite import in_place as _in_place
from lazytorch.functional.conv_arguments import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from lazytorch.functional.ctc import ctc_loss
from lazytorch.functional.distance import (
    cosine_embedding_loss,
    cosine_similarity,
    hinge_embedding_loss,
    local_response_norm,
    margin_ranking_loss,
    multilabel_soft_margin_loss,
    normalize,
    pairwise_distance,
    pdist,
    soft_margin_loss,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)
from lazytorch.functional.embedding import embedding, embedding_bag, one_hot
from lazytorch.functional.fractional_pooling import (
    fractional_max_pool2d,
    fractional_max_pool2d_with_indices,
    fractional_max_pool3d,
    fractional_max_pool3d_with_indices,
)
from lazytorch.functional.grid_sampling import affine_grid, grid_sample
from lazytorch.functional.interpolation import (
    interpolate,
    upsample,
    upsample_bilinear,
    upsample_nearest,
)
from lazytorch.functional.linalg import bilinear, linear
from lazytorch.functional.linear_cross_entropy import linear_cross_entropy
from lazytorch.functional.loss import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    gaussian_nll_loss,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    poisson_nll_loss,
    smooth_l1_loss,
)
from lazytorch.functional.margin import multi_margin_loss, multilabel_margin_loss
from lazytorch.functional.multi_head_attention import multi_head_attention_forward
from lazytorch.functional.normalization import group_norm, layer_norm, rms_norm
from lazytorch.functional.padding import (
    channel_shuffle,
    fold,
    pad,
    pixel_shuffle,
    pixel_unshuffle,
    unfold,
)
from lazytorch.functional.pooling import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
    max_pool1d,
    max_pool1d_with_indices,
    max_pool2d,
    max_pool2d_with_indices,
    max_pool3d,
    max_pool3d_with_indices,
)
from lazytorch.functional.softmax import gumbel_softmax
from lazytorch.functional.unary import sigmoid
from lazytorch.functional.unpooling import max_unpool1d, max_unpool2d, max_unpool3d
from lazytorch.tensor.attach import functions as _functions
from lazytorch.tensor.autocast import casting_all as _casting_all
from lazytorch.tensor.overrides import make_overridable as _make_overridable
from lazytorch.tensor.tensor import Tensor

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d", "adaptive_max_pool3d_with_indices", "affine_grid", "alpha_dropout",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm", "bilinear", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "celu", "celu_", "channel_shuffle", "conv1d", "conv2d",
    "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "cosine_embedding_loss",
    "cosine_similarity", "cross_entropy", "ctc_loss", "dropout", "dropout1d", "dropout2d",
    "dropout3d", "elu", "elu_", "embedding", "embedding_bag", "feature_alpha_dropout", "fold",
    "fractional_max_pool2d", "fractional_max_pool2d_with_indices", "fractional_max_pool3d",
    "fractional_max_pool3d_with_indices", "gaussian_nll_loss", "gelu", "glu", "grid_sample",
    "group_norm", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish", "hardtanh",
    "hardtanh_", "hinge_embedding_loss", "huber_loss", "instance_norm", "interpolate", "kl_div",
    "l1_loss", "layer_norm", "leaky_relu", "leaky_relu_", "linear",
    "linear_cross_entropy",
    "local_response_norm", "log_softmax", "logsigmoid", "lp_pool1d", "lp_pool2d", "lp_pool3d",
    "margin_ranking_loss", "max_pool1d", "max_pool1d_with_indices", "max_pool2d",
    "max_pool2d_with_indices", "max_pool3d", "max_pool3d_with_indices", "max_unpool1d",
    "max_unpool2d", "max_unpool3d", "mish", "mse_loss", "multi_head_attention_forward",
    "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss", "nll_loss",
    "normalize", "one_hot", "pad", "pairwise_distance", "pdist", "pixel_shuffle", "pixel_unshuffle",
    "poisson_nll_loss", "prelu", "relu", "relu6", "relu_", "rms_norm", "rrelu", "rrelu_",
    "scaled_dot_product_attention", "selu", "selu_", "sigmoid", "silu", "smooth_l1_loss",
    "soft_margin_loss", "softmax", "softmin", "softplus", "softshrink", "softsign", "tanh",
    "tanhshrink", "threshold", "threshold_", "triplet_margin_loss",
    "triplet_margin_with_distance_loss", "unfold", "upsample", "upsample_bilinear",
    "upsample_nearest",
]  # fmt: skip


def _perhaps(inplace: bool, function: Any, input: Tensor, *args: Any) -> Tensor:
    """``function(input, ...)``, written into the input when ``inplace``."""
    if inplace:
        return _in_place(function, input, *args)
    result: Tensor = function(input, *args)
    return result


# Activations --------------------------------------------------------------------------------------


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """``max(input, 0)``."""
    return _perhaps(inplace, _activation.relu, input)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """``min(max(input, 0), 6)``."""
    return _perhaps(inplace, _activation.relu6, input)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """``input`` where it is above ``threshold``, ``value`` elsewhere."""
    return _perhaps(inplace, _activation.threshold, input, threshold, value)


def hardtanh(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """``input`` limited to [min_val, max_val]."""
    return _perhaps(inplace, _activation.hardtanh, input, min_val, max_val)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """``input * relu6(input + 3) / 6``."""
    return _perhaps(inplace, _activation.hardswish, input)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """``relu6(input + 3) / 6``."""
    return _perhaps(inplace, _activation.hardsigmoid, input)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``input`` where positive, ``alpha * (exp(input) - 1)`` elsewhere."""
    return _perhaps(inplace, _activation.elu, input, alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """The self-normalizing exponential unit."""
    return _perhaps(inplace, _activation.selu, input)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``max(0, input) + min(0, alpha * (exp(input / alpha) - 1))``."""
    return _perhaps(inplace, _activation.celu, input, alpha)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """``input`` where positive, ``negative_slope * input`` elsewhere."""
    return _perhaps(inplace, _activation.leaky_relu, input, negative_slope)


def rrelu(
    input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False,
    inplace: bool = False,
) -> Tensor:  # fmt: skip
    """``leaky_relu`` with a random slope while training."""
    return _perhaps(inplace, _activation.rrelu, input, lower, upper, training)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """``input * sigmoid(input)``."""
    return _perhaps(inplace, _activation.silu, input)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """``input * tanh(softplus(input))``."""
    return _perhaps(inplace, _activation.mish, input)


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    result: Tensor = _functions.tanh(input)
    return result


def _changing(function: Any, name: str) -> Any:
    def changed(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return function(input, *args, inplace=True, **kwargs)  # type: ignore[no-any-return]

    changed.__name__ = changed.__qualname__ = name
    changed.__doc__ = f"``{name[:-1]}`` written into the input."
    return changed


relu_ = _changing(relu, "relu_")
threshold_ = _changing(threshold, "threshold_")
hardtanh_ = _changing(hardtanh, "hardtanh_")
elu_ = _changing(elu, "elu_")
selu_ = _changing(selu, "selu_")
celu_ = _changing(celu, "celu_")
leaky_relu_ = _changing(leaky_relu, "leaky_relu_")
rrelu_ = _changing(rrelu, "rrelu_")


# softmax with an optional dimension ---------------------------------------------------------------


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Tensor:
    """``exp(input)`` divided by its sum along ``dim``."""
    if dim is None:
        dim = _softmax.implicit_dim("softmax", input.dim())
    return _softmax.softmax(input, dim, dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Tensor:
    """``log(softmax(input, dim))``."""
    if dim is None:
        dim = _softmax.implicit_dim("log_softmax", input.dim())
    return _softmax.log_softmax(input, dim, dtype)


def softmin(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None
) -> Tensor:
    """``softmax(-input, dim)``."""
    if dim is None:
        dim = _softmax.implicit_dim("softmin", input.dim())
    return _softmax.softmin(input, dim, dtype)


# Dropout ------------------------------------------------------------------------------------------


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element 0 with probability ``p``, else divided by ``1 - p``."""
    return _perhaps(inplace, _dropout.dropout, input, p, training)


def alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """Dropout that keeps the mean and variance of self-normalizing networks."""
    return _perhaps(inplace, _dropout.alpha_dropout, input, p, training)


def feature_alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """``alpha_dropout`` of whole channels."""
    return _perhaps(inplace, _dropout.feature_alpha_dropout, input, p, training)


def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Whole channels of (N, C, L) or (C, L) dropped."""
    rank = input.dim()
    if rank not in (2, 3):
        raise RuntimeError(
            f"dropout1d: Expected 2D or 3D input, but received a {rank}D input. Note that "
            "dropout1d exists to do channel-wise dropout on inputs with 1 spatial dimension, a "
            "channel dimension, and an optional batch dimension."
        )
    return _perhaps(inplace, _dropout.channel_dropout, input, p, training, rank == 3)


def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Whole channels of (N, C, H, W) dropped."""
    rank = input.dim()
    if rank not in (3, 4):
        warnings.warn(
            f"dropout2d: Received a {rank}-D input to dropout2d, which is deprecated and will "
            "result in an error in a future release. To retain the behavior and silence this "
            "warning, please use dropout instead.",
            stacklevel=2,
        )
    if rank == 3:
        warnings.warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D "
            "dropout behavior is desired - input is interpreted as shape (N, C, L), where C is "
            "the channel dim. Please use dropout1d instead.",
            stacklevel=2,
        )
    return _perhaps(inplace, _dropout.channel_dropout, input, p, training, True)


def dropout3d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Whole channels of (N, C, D, H, W) or (C, D, H, W) dropped."""
    rank = input.dim()
    if rank not in (4, 5):
        warnings.warn(
            f"dropout3d: Received a {rank}-D input to dropout3d, which is deprecated and will "
            "result in an error in a future release. To retain the behavior and silence this "
            "warning, please use dropout instead.",
            stacklevel=2,
        )
    return _perhaps(inplace, _dropout.channel_dropout, input, p, training, rank == 5)


# Adaptive pooling ---------------------------------------------------------------------------------


@_shown_as("SqueezeBackward1")
def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """The mean of each of ``output_size`` regions of (N, C, L)."""
    return _adaptive.adaptive_avg_pool(1, input, output_size)


@_shown_as("AdaptiveAvgPool2DBackward0")
def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The mean of each of ``output_size`` regions of (N, C, H, W)."""
    return _adaptive.adaptive_avg_pool(2, input, output_size)


@_shown_as("AdaptiveAvgPool3DBackward0")
def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """The mean of each of ``output_size`` regions of (N, C, D, H, W)."""
    return _adaptive.adaptive_avg_pool(3, input, output_size)


@_shown_as("SqueezeBackward1")
def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maximum of each of ``output_size`` regions of (N, C, L)."""
    return _adaptive.adaptive_max_pool(1, input, output_size, return_indices)


@_shown_as("AdaptiveMaxPool2DBackward0")
def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maximum of each of ``output_size`` regions of (N, C, H, W)."""
    return _adaptive.adaptive_max_pool(2, input, output_size, return_indices)


@_shown_as("AdaptiveMaxPool3DBackward0")
def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maximum of each of ``output_size`` regions of (N, C, D, H, W)."""
    return _adaptive.adaptive_max_pool(3, input, output_size, return_indices)


@_shown_as("SqueezeBackward1")
def adaptive_max_pool1d_with_indices(
    input: Tensor, output_size: Any, return_indices: bool = False
) -> Any:
    """As ``adaptive_max_pool1d``, with positions."""
    return _adaptive.adaptive_max_pool(1, input, output_size, True)


@_shown_as("AdaptiveMaxPool2DBackward0")
def adaptive_max_pool2d_with_indices(
    input: Tensor, output_size: Any, return_indices: bool = False
) -> Any:
    """As ``adaptive_max_pool2d``, with positions."""
    return _adaptive.adaptive_max_pool(2, input, output_size, True)


@_shown_as("AdaptiveMaxPool3DBackward0")
def adaptive_max_pool3d_with_indices(
    input: Tensor, output_size: Any, return_indices: bool = False
) -> Any:
    """As ``adaptive_max_pool3d``, with positions."""
    return _adaptive.adaptive_max_pool(3, input, output_size, True)


_casting_all(globals())
_make_overridable(globals())
