"""Random tensors: uniform, normal, integers, permutations and draws by probability."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lazytorch import dtypes, engine
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.autograd.rules import Rule
from lazytorch.autograd.tape import attach
from lazytorch.dtypes import DType
from lazytorch.functional.elementwise import plain_add, plain_mul, plain_sub, where
from lazytorch.ops import elementwise, movement
from lazytorch.ops.philox import philox_bits
from lazytorch.ops.shapes import count
from lazytorch.tensor import generator as generator_module
from lazytorch.tensor.apply import apply, cast
from lazytorch.tensor.attach import Target, functions, public
from lazytorch.tensor.batching.values import computed, every_value
from lazytorch.tensor.creation import as_size, wants_grad
from lazytorch.tensor.device import as_device, device
from lazytorch.tensor.formats import check_layout
from lazytorch.tensor.generator import Generator, random_bits
from lazytorch.tensor.inplace import store
from lazytorch.tensor.promotion import get_default_dtype, scalar_name
from lazytorch.tensor.storage import dtype_of, node_of, shape_of
from lazytorch.tensor.tensor import Tensor, fresh

Shape = tuple[int, ...]


def _bytes_tensor(array: np.ndarray) -> Tensor:
    made: Tensor = functions.tensor(array)
    return made


generator_module._bytes_tensor = _bytes_tensor
generator_module._host_bytes = functions.peek


def uniform_values(
    shape: Shape, dtype: DType, place: device, generator: Generator | None
) -> Tensor:
    """Numbers in [0, 1): 24 random bits for float32 and narrower, 53 for float64."""
    if dtype is dtypes.float64:
        high = apply(
            elementwise.SHIFT_RIGHT, (random_bits(shape, place, generator), _word(5, place))
        )
        low = apply(
            elementwise.SHIFT_RIGHT, (random_bits(shape, place, generator), _word(6, place))
        )
        joined = plain_add(plain_mul(cast(high, dtype), float(1 << 26)), cast(low, dtype))
        return plain_mul(joined, 2.0**-53)
    bits = apply(elementwise.SHIFT_RIGHT, (random_bits(shape, place, generator), _word(8, place)))
    # 24 bits are exact in float32; halves round afterwards.
    scaled = plain_mul(cast(bits, dtypes.float32), 2.0**-24)
    if dtype is not dtypes.float32:
        digits = 11 if dtype is dtypes.float16 else 8
        coarse = functions.floor(plain_mul(scaled, float(1 << digits)))
        return cast(plain_mul(coarse, 2.0**-digits), dtype)
    return scaled


def _word(value: int, place: device) -> Tensor:
    from_number = functions.full((), value, dtype=dtypes.uint32, device=place)
    return from_number


def normal_values(shape: Shape, dtype: DType, place: device, generator: Generator | None) -> Tensor:
    """Standard normal numbers by Box and Muller: two from each pair of uniforms."""
    size = count(shape)
    half = (size + 1) // 2
    wide = dtypes.float64 if dtype is dtypes.float64 else dtypes.float32
    both = uniform_values((2, half), wide, place, generator)
    first, second = (_row_twice(both, number, half) for number in (0, 1))
    # 1 - u lies in (0, 1], whose logarithm is finite.
    radius = functions.sqrt(plain_mul(functions.log(plain_sub(1, first)), -2))
    # The second of a pair is the sine, which is the cosine a quarter turn before: so that each
    # number is one cosine, not the choice between two.
    which = functions.arange(2, dtype=wide, device=place)
    which = apply(movement.EXPAND, (apply(movement.RESHAPE, (which,), ((2, 1),)),), ((2, half),))
    angle = plain_sub(plain_mul(second, 2 * math.pi), plain_mul(which, math.pi / 2))
    numbers = plain_mul(radius, functions.cos(angle))
    if 2 * half == size:
        return cast(apply(movement.RESHAPE, (numbers,), (shape,)), dtype)
    # Positions in the two rows of an odd number of elements would be divisions at each element.
    rows = [
        apply(movement.RESHAPE, (apply(movement.SLICE, (numbers,), row),), ((row[1][1],),))
        for row in (((0, 0), (1, half), (1, 1)), ((1, 0), (1, half - 1), (1, 1)))
    ]
    flat = apply(movement.CONCATENATE, rows, (0,))
    return cast(apply(movement.RESHAPE, (flat,), (shape,)), dtype)


def _row_twice(both: Tensor, number: int, size: int) -> Tensor:
    part = apply(movement.SLICE, (both,), ((number, 0), (1, size), (1, 1)))
    return apply(movement.EXPAND, (part,), ((2, size),))


def _floating(dtype: DType | None, name: str) -> DType:
    chosen = dtype or get_default_dtype()
    if chosen.kind not in "fc":
        raise NotImplementedError(f"\"{name}\" not implemented for '{chosen.name.capitalize()}'")
    return chosen


def _drawer(name: str, draw: Any, what: str) -> None:
    def make(
        *sizes: Any,
        size: Any = None,
        generator: Generator | None = None,
        dtype: DType | None = None,
        layout: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        pin_memory: bool = False,
    ) -> Tensor:
        check_layout(layout)
        shape = as_size(sizes if size is None else (size,), name)
        made = draw(shape, _floating(dtype, name), as_device(device), generator)
        return wants_grad(made, requires_grad)

    def make_like(
        input: Tensor,
        *,
        generator: Generator | None = None,
        dtype: DType | None = None,
        layout: Any = None,
        device: Any = None,
        requires_grad: bool = False,
        memory_format: Any = None,
    ) -> Tensor:
        check_layout(layout)
        place = input._device if device is None else as_device(device)
        chosen = _floating(dtype or dtype_of(input), name)
        return wants_grad(draw(shape_of(input), chosen, place, generator), requires_grad)

    make.__name__ = make.__qualname__ = name
    make.__doc__ = f"A tensor of ``size`` with {what}."
    make_like.__name__ = make_like.__qualname__ = f"{name}_like"
    make_like.__doc__ = f"A tensor like ``input`` with {what}."
    public(method=False)(make)
    public(method=False)(make_like)


def _drawn_in_parts(draw: Any, scale: float) -> Any:
    """Draws complex numbers too, whose parts are ``scale`` times what a real number is."""

    def drawn(shape: Shape, dtype: DType, place: device, generator: Generator | None) -> Tensor:
        if dtype.kind != "c":
            return draw(shape, dtype, place, generator)  # type: ignore[no-any-return]
        parts = draw((*shape, 2), dtype.real, place, generator)
        if scale != 1:
            parts = plain_mul(parts, scale)
        return functions.view_as_complex(parts)  # type: ignore[no-any-return]

    return drawn


_drawer("rand", _drawn_in_parts(uniform_values, 1), "numbers drawn uniformly from [0, 1)")
# A complex number of variance 1 has parts of variance 1/2.
_drawer("randn", _drawn_in_parts(normal_values, math.sqrt(0.5)), "standard normal numbers")


def integers(
    low: int, high: int, shape: Shape, dtype: DType, place: device, generator: Generator | None
) -> Tensor:
    """Integers in [low, high)."""
    span = high - low
    bits: Any = cast(random_bits(shape, place, generator), dtypes.int64)
    if span > 1 << 24:
        upper = cast(random_bits(shape, place, generator), dtypes.int64)
        bits = functions.bitwise_or(functions.bitwise_left_shift(upper, 32), bits)
        if span > 1 << 63:
            # Read as 64 bits without a sign, those behind the last number are the first ones again.
            spare = (1 << 64) - span
            bits = where(functions.logical_and(bits < 0, bits >= -spare), bits + spare, bits)
            return cast(plain_add(bits, low), dtype)
        bits = functions.bitwise_and(bits, (1 << 63) - 1)
        if span == 1 << 63:
            return cast(plain_add(bits, low), dtype)
    elif span & (span - 1):
        # Multiplying 32 bits by the span and keeping what is above them is unbiased enough.
        drawn = functions.bitwise_right_shift(plain_mul(bits, span), 32)
        return cast(plain_add(drawn, low), dtype)
    return cast(plain_add(functions.remainder(bits, span), low), dtype)


@public(method=False)
def randint(
    low: int = 0,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """Integers drawn from [low, high); ``randint(high, size)`` starts at 0."""
    check_layout(layout)
    if size is None:
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if high is None or size is None:
        raise TypeError("randint(): expected (high, size) or (low, high, size)")
    _check_span(low, high)
    shape = as_size((size,) if isinstance(size, int) else size, "randint")
    made = integers(low, high, shape, dtype or dtypes.int64, as_device(device), generator)
    return wants_grad(made, requires_grad)


def _check_span(low: int, high: int) -> None:
    if low >= high:
        raise RuntimeError(
            f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}"
        )


@public(method=False)
def randint_like(
    input: Tensor, low: int, high: int | None = None, *, dtype: DType | None = None,
    device: Any = None, layout: Any = None, requires_grad: bool = False, memory_format: Any = None,
) -> Tensor:  # fmt: skip
    """Integers drawn from [low, high) in the shape of ``input``."""
    check_layout(layout)
    if high is None:
        low, high = 0, low
    _check_span(low, high)
    place = input._device if device is None else as_device(device)
    return integers(low, high, shape_of(input), dtype or dtype_of(input), place, None)


@public(method=False)
def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    layout: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:
    """The numbers 0 to n - 1 in random order."""
    check_layout(layout)
    if n < 0:
        raise RuntimeError(f"n must be non-negative, got {n}")
    place = as_device(device)
    source = generator or generator_module.default_generator
    # On the host: the order is nearly always wanted there, for picking samples.
    keys = philox_bits(source._seed, source.advance((n + 3) // 4), (n,))
    order = np.argsort(keys, kind="stable")
    chosen = dtype or dtypes.int64
    leaf = engine.leaf_from_array(np.ascontiguousarray(order, chosen.numpy), place.runtime)
    return fresh(leaf, place)


def _zeros(g: Any, f: Any) -> Any:
    return f.zeros_like(g)


# What is drawn has a gradient of zeros by what it was drawn from.
_BERNOULLI = Rule("BernoulliBackward0", (_zeros,))
_NORMAL = [Rule(f"NormalBackward{number}", (_zeros, _zeros)) for number in range(4)]


@public()
def bernoulli(
    input: Tensor, p: float | None = None, *, generator: Generator | None = None
) -> Tensor:
    """1 with the probability given by each element (or ``p``), else 0; gradients are zeros."""
    drawn = uniform_values(shape_of(input), dtypes.float32, input._device, generator)
    chance = fresh(node_of(input), input._device) if p is None else p
    made = cast(functions.lt(drawn, chance), dtype_of(input))
    return attach(made, _BERNOULLI, (input,))


@public(method=False)
def normal(
    mean: Any = 0.0, std: Any = 1.0, size: Any = None, *, generator: Generator | None = None,
    dtype: DType | None = None, device: Any = None, layout: Any = None,
) -> Tensor:  # fmt: skip
    """Normal numbers with a mean and a standard deviation, each a number or a tensor.

    Gradients of tensors are zeros: draw with ``randn`` and scale for others.
    """
    check_layout(layout)
    if isinstance(std, (int, float)) and std < 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")
    if isinstance(std, Tensor) and (every_value(std) < 0).any():
        raise RuntimeError("normal expects all elements of std >= 0.0")
    given = [value for value in (mean, std) if isinstance(value, Tensor)]
    if given and size is not None:
        kinds = ", ".join(type(value).__name__ for value in (mean, std, size))
        raise TypeError(
            f"normal() received an invalid combination of arguments - got ({kinds}): size belongs "
            "to a mean and a std that are numbers"
        )
    if given:
        shape = functions.broadcast_shapes(*(shape_of(value) for value in given))
        place, chosen = given[0]._device, dtype_of(given[0])
    else:
        shape = as_size((size,) if isinstance(size, int) else size, "normal")
        place, chosen = as_device(device), dtype or get_default_dtype()
    drawn = normal_values(tuple(shape), chosen, place, generator)
    with no_grad():
        made = plain_add(plain_mul(drawn, std), mean)
    kind = 2 * isinstance(std, Tensor) + isinstance(mean, Tensor)
    return attach(made, _NORMAL[kind], (mean, std))


@public(out=Target(known=dtypes.int64))
def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *,
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Positions drawn by the weights in the last dimension."""
    if num_samples <= 0:
        raise RuntimeError(f"cannot sample n_sample <= 0 samples, but got {num_samples}")
    if dtype_of(input).kind != "f":
        raise RuntimeError(
            "multinomial only supports floating-point dtypes for input, got: "
            f"{scalar_name(dtype_of(input))}"
        )
    if len(shape_of(input)) not in (1, 2):
        raise RuntimeError(f"prob_dist must be 1 or 2 dim, but has {len(shape_of(input))}")
    if shape_of(input)[-1] > 2**24:
        raise RuntimeError("number of categories cannot exceed 2^24")
    if not replacement and num_samples > shape_of(input)[-1]:
        raise RuntimeError(
            "cannot sample n_sample > prob_dist.size(-1) samples without replacement"
        )
    rows = shape_of(input)[:-1] or (1,)
    drawn = (*rows, num_samples if replacement else shape_of(input)[-1])

    def positions(given: np.ndarray, draws: np.ndarray) -> np.ndarray:
        weights = np.atleast_2d(given.astype(np.float64))
        chosen = _chosen(weights, draws, num_samples, replacement)
        return np.asarray(chosen if given.ndim > 1 else chosen[0], np.int64)

    return computed(positions, input, _host_uniform(drawn, generator))


def _chosen(
    weights: np.ndarray, draws: np.ndarray, num_samples: int, replacement: bool
) -> np.ndarray:
    """For each row of weights the positions that uniform numbers choose."""
    if (weights < 0).any() or not np.isfinite(weights).all():
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    totals = weights.sum(-1, keepdims=True)
    if (totals <= 0).any():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    if replacement:
        bounds = np.cumsum(weights / totals, -1)
        chosen = np.stack([np.searchsorted(b, d, side="right") for b, d in zip(bounds, draws)])
        return np.minimum(chosen, weights.shape[1] - 1)
    with np.errstate(divide="ignore"):
        keys = np.log(1 - draws) / -np.maximum(weights, 1e-300)
    keys[weights == 0] = np.inf
    return np.argsort(keys, -1, kind="stable")[:, :num_samples]


_poisson_rule = Rule("PoissonBackward0", (lambda g, f: f.zeros_like(g),))


@public(method=False, out=False)
def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """A count drawn from the Poisson distribution of each element's rate, in its dtype.

    By inverting the distribution function (DLMF 8.11.10), so that each count needs one uniform
    number. This computes the rates; a negative one raises ``RuntimeError``.
    """
    if dtype_of(input).kind != "f":
        raise NotImplementedError(
            f"\"poisson_cpu\" not implemented for '{scalar_name(dtype_of(input))}': convert with "
            ".float()"
        )
    chances = _host_uniform(shape_of(input), generator)
    return attach(computed(_poisson_counts, input, chances), _poisson_rule, (input,))


def _poisson_counts(given: np.ndarray, chance: np.ndarray) -> np.ndarray:
    rates = given.astype(np.float64)
    if (rates < 0).any():
        raise RuntimeError("invalid Poisson rate, expected rate to be non-negative")
    with np.errstate(all="ignore"):
        above = np.maximum(np.ceil(elementwise.scipy_special("pdtrik")(chance, rates)), 0)
        below = np.maximum(above - 1, 0)
        reached = elementwise.scipy_special("pdtr")(below, rates) >= chance
    counts = np.where(rates == 0, 0, np.where(reached, below, above))
    return np.ascontiguousarray(counts, given.dtype).reshape(rates.shape)


def _host_uniform(shape: Shape, generator: Generator | None) -> Tensor:
    return uniform_values(tuple(shape), dtypes.float64, device("cpu"), generator)


# In place -------------------------------------------------------------------------------------


@public(function=False)
def uniform_(
    self: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None,
    **named: float,
) -> Tensor:  # fmt: skip
    """Fill with numbers drawn uniformly from [from, to)."""
    low = named.get("from", from_)
    if low > to:
        raise RuntimeError(
            f"uniform_ expects to return a [from, to) range, but found from={low} > to={to}"
        )
    drawn = uniform_values(shape_of(self), dtype_of(self), self._device, generator)
    return store(self, plain_add(plain_mul(drawn, float(to - low)), float(low)))


@public(function=False)
def normal_(
    self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with normal numbers."""
    if std < 0:
        raise RuntimeError(f"normal_ expects std >= 0.0, but found std {std}")
    drawn = normal_values(shape_of(self), dtype_of(self), self._device, generator)
    return store(self, plain_add(plain_mul(drawn, float(std)), float(mean)))


@public(function=False)
def random_(
    self: Tensor, from_: int = 0, to: int | None = None, *, generator: Generator | None = None,
    **named: int,
) -> Tensor:  # fmt: skip
    """Fill with integers drawn from [from, to), or from all that the dtype holds."""
    low = named.get("from", from_)
    dtype = dtype_of(self)
    if to is None and low != 0:
        low, to = 0, low
    if to is None:
        digits = {2: 11, 4: 24, 8: 53}.get(dtype.itemsize, 24)
        to = (
            1 << digits
            if dtype.kind == "f"
            else 2
            if dtype.kind == "b"
            else int(np.iinfo(dtype.numpy).max)
        )
    return store(self, integers(low, to, shape_of(self), dtype, self._device, generator))


@public(function=False)
def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 by probability ``p`` (number or tensor), else 0."""
    drawn = uniform_values(shape_of(self), dtypes.float32, self._device, generator)
    return store(self, cast(functions.lt(drawn, p), dtype_of(self)))


@public(function=False)
def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill with exponentially distributed numbers."""
    drawn = uniform_values(shape_of(self), dtype_of(self), self._device, generator)
    return store(self, functions.div(functions.log(plain_sub(1, drawn)), -float(lambd)))


@public(function=False)
def cauchy_(
    self: Tensor, median: float = 0, sigma: float = 1, *, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers of the Cauchy distribution: ``median + sigma * tan(pi * (u - 1/2))``."""
    if dtype_of(self).kind != "f":
        raise RuntimeError(
            "Cauchy distribution is a continuous probability distribution. dtype must be a "
            f"floating point but you specified {dtype_of(self).name}"
        )
    if sigma <= 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma}")
    drawn = uniform_values(shape_of(self), _wide(self), self._device, generator)
    slope = functions.tan(plain_mul(plain_sub(drawn, 0.5), math.pi))
    values = plain_add(plain_mul(slope, float(sigma)), float(median))
    return store(self, cast(values, dtype_of(self)))


@public(function=False)
def log_normal_(
    self: Tensor, mean: float = 1, std: float = 2, *, generator: Generator | None = None
) -> Tensor:
    """Fill with exponentials of normal numbers, whose mean and deviation are given."""
    if std <= 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std}")
    if dtype_of(self).kind != "f":
        raise NotImplementedError(
            f"\"log_normal_\" not implemented for '{scalar_name(dtype_of(self))}': it takes a "
            "floating-point tensor"
        )
    drawn = normal_values(shape_of(self), _wide(self), self._device, generator)
    values = functions.exp(plain_add(plain_mul(drawn, float(std)), float(mean)))
    return store(self, cast(values, dtype_of(self)))


@public(function=False)
def geometric_(self: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill with numbers of trials until the first success of probability ``p``: 1, 2, ...."""
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p}")
    if dtype_of(self).kind not in "fiu":
        raise NotImplementedError(
            f"\"geometric_\" not implemented for '{scalar_name(dtype_of(self))}'"
        )
    drawn = uniform_values(shape_of(self), _wide(self), self._device, generator)
    # 1 - u lies in (0, 1]; its logarithm over that of a failure, rounded up.
    trials = functions.ceil(functions.div(functions.log(plain_sub(1, drawn)), math.log1p(-p)))
    return store(self, cast(functions.clamp(trials, min=1), dtype_of(self)))


def _wide(self: Tensor) -> DType:
    """The dtype in which a distribution is computed."""
    return dtypes.float64 if dtype_of(self).itemsize == 8 else dtypes.float32


for _name in ("manual_seed", "seed", "initial_seed", "get_rng_state", "set_rng_state"):
    setattr(functions, _name, getattr(generator_module, _name))
functions.Generator = Generator
functions.default_generator = generator_module.default_generator
