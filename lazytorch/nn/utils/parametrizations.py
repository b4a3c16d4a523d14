"""Parametrizations of a layer's weight: by direction and length, by its largest singular value,
and orthogonal ones."""

from __future__ import annotations

from typing import Any

import lazytorch as torch
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.nn import functional as F
from lazytorch.nn.module import Module
from lazytorch.nn.utils import parametrize
from lazytorch.tensor.tensor import Tensor

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


def norm_except_dim(v: Tensor, pow: int = 2, dim: int = 0) -> Tensor:
    """The norm over all dimensions but one, which keep one element; ``dim`` -1 means over all."""
    if dim == -1:
        return v.norm(pow)
    axes = tuple(axis for axis in range(v.dim()) if axis != dim % v.dim())
    return torch.linalg.vector_norm(v, pow, axes, keepdim=True)


class _WeightNorm(Module):
    """``g * v / ‖v‖``: the first original is the length, the second the direction."""

    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_v * (weight_g / norm_except_dim(weight_v, 2, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return norm_except_dim(weight, 2, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Train a weight's lengths along ``dim`` and its direction apart (Salimans and Kingma, Weight
    Normalization, 2016); ``dim`` None means one length for all.

    >>> layer = nn.utils.parametrizations.weight_norm(nn.Linear(20, 40), name="weight")
    >>> layer.parametrizations.weight.original0.shape
    torch.Size([40, 1])
    """
    parametrize.register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def renamed(
        state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing: list[str],
        unexpected: list[str], errors: list[str],
    ) -> None:  # fmt: skip
        """Files of the older weight_norm have the originals under other names."""
        old = (f"{prefix}{name}_g", f"{prefix}{name}_v")
        if all(key in state_dict for key in old):
            for number, key in enumerate(old):
                new = f"{prefix}parametrizations.{name}.original{number}"
                state_dict[new] = state_dict.pop(key)

    module._register_load_state_dict_pre_hook(renamed)
    return module


class _SpectralNorm(Module):
    """The weight over its largest singular value, which power iterations estimate."""

    def __init__(
        self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12
    ) -> None:
        super().__init__()
        if dim >= weight.dim() or dim < -weight.dim():
            raise IndexError(
                f"Dimension out of range (expected to be in range of [-{weight.dim()}, "
                f"{weight.dim() - 1}] but got {dim})"
            )
        if n_power_iterations <= 0:
            raise ValueError(
                "Expected n_power_iterations to be positive, but got "
                f"n_power_iterations={n_power_iterations}"
            )
        self.dim = dim if dim >= 0 else dim + weight.dim()
        self.eps = eps
        if weight.dim() > 1:
            self.n_power_iterations = n_power_iterations
            matrix = self._matrix(weight.detach())
            height, width = matrix.shape
            for name, length in (("_u", height), ("_v", width)):
                start = F.normalize(matrix.new_empty(length).normal_(0, 1), dim=0, eps=eps)
                self.register_buffer(name, start)
            self._iterate(matrix, 15)

    def _matrix(self, weight: Tensor) -> Tensor:
        if self.dim != 0:
            others = (axis for axis in range(weight.dim()) if axis != self.dim)
            weight = weight.permute(self.dim, *others)
        return weight.flatten(1)

    def _iterate(self, matrix: Tensor, count: int) -> None:
        with no_grad():
            u, v = self._u, self._v
            for _ in range(count):
                u = F.normalize(torch.mv(matrix, v), dim=0, eps=self.eps)
                v = F.normalize(torch.mv(matrix.t(), u), dim=0, eps=self.eps)
            self._u.copy_(u)
            self._v.copy_(v)

    def forward(self, weight: Tensor) -> Tensor:
        if weight.dim() == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._matrix(weight)
        if self.training:
            self._iterate(matrix.detach(), self.n_power_iterations)
        # What the gradient needs keeps its value when the next step iterates.
        u, v = self._u.clone(), self._v.clone()
        return weight / torch.vdot(u, torch.mv(matrix, v))

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """Divide a weight by its largest singular value (Miyato et al., Spectral Normalization for
    Generative Adversarial Networks, 2018), estimated by power iterations, one a training step.

    ``dim`` is the weight's dimension of outputs: 1 for transposed convolutions, otherwise 0.
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if dim is None:
        dim = 1 if getattr(module, "transposed", False) else 0
    made = _SpectralNorm(weight, n_power_iterations, dim, eps)
    return parametrize.register_parametrization(module, name, made)


class _Orthogonal(Module):
    """Matrices with orthonormal columns (rows where wide): ``base`` times a map of the original.

    ``matrix_exp`` is exp(A) and ``cayley`` (I - A/2)^-1 (I + A/2) of the skew matrix A that the
    original's lower triangle gives; of a tall one the first columns (Lezcano-Casado and
    Martinez-Rubio, Cheap Orthogonal Constraints in Neural Networks, 2019). ``householder`` is the
    product of the reflections below the original's diagonal, which holds the columns' signs.
    """

    base: Tensor

    def __init__(self, weight: Tensor, map: str, use_trivialization: bool) -> None:
        super().__init__()
        if weight.is_complex() and map == "householder":
            raise ValueError("The householder parametrization does not support complex tensors.")
        self.shape = weight.shape
        self.map = map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Tensor) -> Tensor:
        wide = X.size(-2) < X.size(-1)
        tall = X.mT if wide else X
        Q = self._reflected(tall) if self.map == "householder" else self._turned(tall)
        if hasattr(self, "base"):
            Q = self.base @ Q
        return Q.mT if wide else Q

    def _turned(self, X: Tensor) -> Tensor:
        rows, columns = X.size(-2), X.size(-1)
        lower = F.pad(X.tril(), (0, rows - columns))
        A = lower - lower.mH
        if self.map == "matrix_exp":
            return torch.matrix_exp(A)[..., :columns]
        unit = torch.eye(rows, dtype=A.dtype, device=A.device)
        return torch.linalg.solve(unit - 0.5 * A, unit + 0.5 * A)[..., :columns]

    def _reflected(self, X: Tensor) -> Tensor:
        below = X.tril(-1)
        factors = 2.0 / (1.0 + (below * below).sum(-2))
        Q = torch.linalg.householder_product(below, factors)
        return Q * X.diagonal(dim1=-2, dim2=-1).int().unsqueeze(-2)

    def right_inverse(self, Q: Tensor) -> Tensor:
        if tuple(Q.shape) != tuple(self.shape):
            raise ValueError(
                f"Expected a matrix or batch of matrices of shape {self.shape}. "
                f"Got a tensor of shape {Q.shape}."
            )
        wide = Q.size(-2) < Q.size(-1)
        tall = Q.mT if wide else Q
        if hasattr(self, "base"):
            self.base = _orthonormal(tall)
            # What the maps send to the identity, by which the base is multiplied.
            start = -torch.eye(Q.size(-2), Q.size(-1), dtype=Q.dtype, device=Q.device)
            return start.expand(Q.shape).clone()
        if self.map != "householder":
            raise NotImplementedError(
                "It is not possible to assign to the matrix exponential or the Cayley "
                "parametrizations when use_trivialization=False."
            )
        A, factors = torch.geqrf(tall)
        A = A.clone()
        signs = A.diagonal(dim1=-2, dim2=-1)
        # Without a reflection (factor 0) the sign is the other way round in ``forward``.
        signs.copy_(torch.where(factors == 0, -signs.sign(), signs.sign()))
        return A.mT if wide else A


def _orthonormal(tall: Tensor) -> Tensor:
    """A square matrix whose first columns are those, made orthonormal; what is so is kept."""
    rows, columns = tall.size(-2), tall.size(-1)
    if rows != columns:
        rest = tall.new_empty((*tall.shape[:-2], rows, rows - columns)).normal_()
        tall = torch.cat([tall, rest], -1)
    Q, R = torch.linalg.qr(tall)
    return Q * R.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)


def orthogonal(
    module: Module,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
) -> Module:
    """Keep a weight's columns (rows where it is wide) orthonormal.

    ``orthogonal_map`` is "matrix_exp" (of square and complex weights), "cayley" or "householder"
    (of others). With ``use_trivialization`` the weight can be assigned and starts orthonormal.

    >>> layer = nn.utils.parametrizations.orthogonal(nn.Linear(3, 5))
    >>> torch.allclose(layer.weight.T @ layer.weight, torch.eye(3), atol=1e-5)
    True
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if weight.dim() < 2:
        raise ValueError(
            f"Expected a matrix or batch of matrices. Got a tensor of {weight.dim()} dimensions."
        )
    if orthogonal_map is None:
        square = weight.size(-2) == weight.size(-1)
        orthogonal_map = "matrix_exp" if square or weight.is_complex() else "householder"
    if orthogonal_map not in ("matrix_exp", "cayley", "householder"):
        raise ValueError(
            'orthogonal_map has to be one of "matrix_exp", "cayley", "householder". '
            f"Got: {orthogonal_map}"
        )
    made = _Orthogonal(weight, orthogonal_map, use_trivialization)
    return parametrize.register_parametrization(module, name, made, unsafe=True)
