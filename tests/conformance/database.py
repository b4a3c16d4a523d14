"""PyTorch's operator database as calls that can be made in either library.

The database ships inside PyTorch for its own tests: for each operator, sample inputs by dtype.
An entry is named by the public path of its function (``linalg.norm``) or of its method
(``Tensor.view``); entries without one (private functions, other vendors' devices) are left out.
"""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch as peer

DTYPES = ("float32", "float64", "int64", "bool", "complex64")
# Methods and operators that the database calls through wrappers of its own.
_METHODS = (
    "T", "H", "mT", "mH", "__getitem__", "__radd__", "__rdiv__", "__rmul__", "__rand__", "__ror__",
    "__rxor__", "__rmatmul__", "__rmod__", "__rpow__", "__rsub__", "byte", "char", "double",
    "float", "half", "int", "long", "short", "bool", "bfloat16", "cdouble", "cfloat",
    "chalf", "contiguous", "expand", "expand_as", "item", "new_empty", "new_empty_strided",
    "new_full", "new_ones", "new_zeros", "repeat", "reshape_as", "sum_to_size", "to", "unfold",
    "view", "view_as",
)  # fmt: skip
# Answers that are drawn at random, or memory that nobody wrote: shape and dtype are compared.
_UNDETERMINED = (
    "bernoulli", "cauchy", "empty", "exponential", "geometric", "log_normal", "multinomial",
    "normal", "rand", "uniform", "dropout", "rrelu", "fractional_max_pool", "new_empty",
    "pca_lowrank", "svd_lowrank", "nested", "poisson",
)  # fmt: skip
# Right up to signs, order or the basis of a subspace: what is compared is named in ``compare``.
_UP_TO_BASIS = ("svd", "eig", "eigh", "eigvals", "qr", "lobpcg", "geqrf")


@dataclass(frozen=True)
class Entry:
    """One operator of the database: ``path`` names it in both libraries."""

    path: str
    variant: str
    info: Any

    @property
    def name(self) -> str:
        return f"{self.path}.{self.variant}" if self.variant else self.path

    @property
    def undetermined(self) -> bool:
        last = self.path.rsplit(".", 1)[-1]
        return last.startswith(_UNDETERMINED) or "dropout" in last

    @property
    def up_to_basis(self) -> bool:
        return self.path.rsplit(".", 1)[-1] in _UP_TO_BASIS

    @property
    def has_values(self) -> bool:
        """Whether the values of the result are to be compared, not only its shape and dtype."""
        return not self.undetermined and not self.up_to_basis

    @property
    def has_gradients(self) -> bool:
        """Whether gradients are the same each time: not those of what is drawn at random."""
        return not self.undetermined

    def samples(self, dtype: str, most: int) -> list[Any]:
        """At most ``most`` sample inputs of a dtype, always the same ones; none when PyTorch has
        no such kernel."""
        kind = getattr(peer, dtype)
        if kind not in self.info.supported_dtypes("cpu"):
            return []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Not info.sample_inputs(), which looks through the whole call stack for each of them.
            found = list(_each_seeded(self.info.sample_inputs_func(self.info, "cpu", kind, False)))
        if len(found) > most:
            found = random.Random(self.name).sample(found, most)
        return found


def _each_seeded(samples: Iterable[Any]) -> Iterator[Any]:
    """Samples that do not depend on what was drawn before: seeded as in PyTorch's own tests."""
    from torch.testing._internal.common_utils import SEED, set_rng_seed

    following = iter(samples)
    while True:
        set_rng_seed(SEED)
        try:
            yield next(following)
        except StopIteration:
            return


def resolve(module: Any, path: str) -> Any:
    """The function a path names; ``AttributeError`` when the module lacks it."""
    if path.startswith("Tensor."):
        name = path.removeprefix("Tensor.")
        if name in ("T", "H", "mT", "mH"):
            return lambda tensor: getattr(tensor, name)
        getattr(module.Tensor, name)
        return lambda tensor, *args, **kwargs: getattr(tensor, name)(*args, **kwargs)
    return functools.reduce(getattr, path.split("."), module)


def entries() -> Iterator[Entry]:
    """Every operator with a public path."""
    from torch.testing._internal.common_methods_invocations import op_db

    for info in op_db:
        name = info.name
        if any(part.startswith("_") and not part.startswith("__") for part in name.split(".")):
            continue
        if name.startswith(("ops.", "jiterator", "to_sparse", "sparse")):
            continue
        path = f"Tensor.{name}" if name in _METHODS else name
        try:
            resolve(peer, path)
        except AttributeError:
            continue
        yield Entry(path, info.variant_test_name, info)
