"""Which operation ``autocast`` computes in which dtype: PyTorch's lists.

Source: the "Autocast Op Reference" (https://docs.pytorch.org/docs/stable/amp.html) and the
registrations behind it, ``aten/src/ATen/autocast_mode.{h,cpp}``. PyTorch has one list for
processors and one for cards, and they differ: a processor's keeps in float32 what it has no short
kernel for, a card's what loses accuracy. Functions that PyTorch composes of others without a
registration of their own stand here by the dtypes that come of it. A test compares what comes out
with PyTorch, function by function.
"""

from __future__ import annotations

from enum import Enum


class Policy(Enum):
    """What happens to floating-point arguments (float64 excepted) before the operation runs."""

    LOWER = "in the region's short dtype"
    FLOAT32 = "in float32"
    # Those with ``dtype=``: where the call names a dtype, that one is left alone.
    FLOAT32_UNLESS_TOLD = "in float32, where the call names no dtype"
    WIDEST = "in float32 where one argument has it, else in the short dtype"
    # Functions made here of others that have a policy, where PyTorch's are not.
    AS_GIVEN = "in the dtypes they have"
    REFUSED = "not at all: it overflows in short dtypes"


_CONVOLUTIONS = "conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d"
_PRODUCTS = (
    "matmul mm bmm addmm baddbmm addbmm linear linalg_vecdot linalg_matmul einsum "
    "chain_matmul linalg_multi_dot matrix_power linalg_matrix_power"
)
_ATTENTION = "scaled_dot_product_attention"
_LOSSES = (
    "mse_loss cosine_embedding_loss nll_loss hinge_embedding_loss poisson_nll_loss smooth_l1_loss "
    "cross_entropy l1_loss huber_loss margin_ranking_loss soft_margin_loss triplet_margin_loss "
    "multi_margin_loss kl_div multilabel_margin_loss binary_cross_entropy_with_logits"
)

PROCESSOR: dict[Policy, str] = {
    Policy.LOWER: f"{_CONVOLUTIONS} {_PRODUCTS} {_ATTENTION} prelu inner tensordot",
    Policy.FLOAT32: (
        f"{_LOSSES} avg_pool3d binary_cross_entropy grid_sample polar prod quantile nanquantile "
        "local_response_norm stft cdist trace view_as_complex cholesky cholesky_inverse "
        "cholesky_solve inverse "
        "lu_solve orgqr ormqr pinverse max_pool3d max_unpool2d max_unpool3d adaptive_avg_pool3d "
        "adaptive_max_pool3d fractional_max_pool2d fractional_max_pool3d ctc_loss geqrf qr svd "
        "triangular_solve pad "
        "fft_fft fft_ifft fft_fft2 fft_ifft2 fft_fftn fft_ifftn fft_rfft fft_irfft fft_rfft2 "
        "fft_irfft2 fft_rfftn fft_irfftn fft_hfft fft_ihfft "
        "linalg_cond linalg_matrix_rank linalg_solve linalg_cholesky linalg_cholesky_ex "
        "linalg_svdvals linalg_svd linalg_eig linalg_eigh linalg_eigvals linalg_eigvalsh "
        "linalg_inv linalg_inv_ex linalg_householder_product linalg_tensorinv "
        "linalg_tensorsolve linalg_qr linalg_lstsq"
    ),
    Policy.WIDEST: "stack cat concat concatenate index_copy",
}

CARD: dict[Policy, str] = {
    Policy.LOWER: (f"{_CONVOLUTIONS} {_PRODUCTS} {_ATTENTION} prelu addmv addr mv"),
    Policy.FLOAT32: (
        f"{_LOSSES} acos arccos asin arcsin cosh erfinv exp expm1 log log10 log2 log1p reciprocal "
        "rsqrt sinh tan pow softplus layer_norm rms_norm group_norm cosine_similarity dist pdist "
        "cdist renorm logsumexp norm interpolate upsample upsample_nearest upsample_bilinear "
        "special_expm1 special_log1p special_erfinv special_logsumexp square gumbel_softmax "
        "multilabel_soft_margin_loss"
    ),
    Policy.FLOAT32_UNLESS_TOLD: (
        "prod softmax log_softmax cumprod cumsum sum softmin linalg_norm linalg_vector_norm "
        "linalg_matrix_norm "
        "special_softmax special_log_softmax"
    ),
    Policy.WIDEST: (
        "addcdiv addcmul atan2 arctan2 bilinear cross linalg_cross dot vdot grid_sample "
        "index_put inner tensordot scatter_add"
    ),
    Policy.AS_GIVEN: (
        "trace logaddexp logaddexp2 logcumsumexp logit special_logit xlogy special_xlogy"
    ),
    Policy.REFUSED: "binary_cross_entropy",
}


def _by_name(table: dict[Policy, str]) -> dict[str, Policy]:
    return {name: policy for policy, names in table.items() for name in names.split()}


_PROCESSOR, _CARD = _by_name(PROCESSOR), _by_name(CARD)
# The devices with a processor's list; drivers of the others are taken for cards.
PROCESSORS = ("cpu", "numpy")
CARDS = ("cuda", "mps", "opencl", "xpu")


def policies(name: str) -> dict[str, Policy]:
    """The policy of a function on each kind of device that has one for it.

    >>> policies("exp")["cuda"]
    <Policy.FLOAT32: 'in float32'>
    """
    found = {kind: _PROCESSOR[name] for kind in PROCESSORS if name in _PROCESSOR}
    found.update({kind: _CARD[name] for kind in CARDS if name in _CARD})
    return found
