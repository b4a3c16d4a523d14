"""Differential fuzzing: random graphs, four ways.

The oracle computes operation by operation; the others are the scheduled kernels on NumPy, and on
each OpenCL device without and with fusion. Seeds are fixed, so that a run can be repeated;
``FUZZ_SEED=<number>`` starts elsewhere, ``FUZZ_GRAPHS=<number>`` runs more, and a failure prints
the seed with which ``FUZZ_ONE=<seed> pytest tests/devices/test_fuzz.py -k one_seed`` repeats it.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from lazytorch.ir.node import Node, postorder
from lazytorch.ops import elementwise, indexing, movement, reduction
from tests.graphs import DEVICES, Builder, expected

GRAPHS = int(os.environ.get("FUZZ_GRAPHS", "200"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
BATCH = 10

UNARY = (
    elementwise.NEG, elementwise.ABS, elementwise.EXP, elementwise.TANH, elementwise.SIN,
    elementwise.FLOOR, elementwise.SQRT, elementwise.ERF,
)  # fmt: skip
BINARY = (
    elementwise.ADD, elementwise.SUB, elementwise.MUL, elementwise.MAXIMUM, elementwise.MINIMUM,
)  # fmt: skip
COMPARE = (elementwise.LT, elementwise.GE, elementwise.EQ)


class Program:
    """A random graph; the same seed makes the same graph on any device."""

    def __init__(self, build: Builder, seed: int) -> None:
        self.build = build
        self.rng = np.random.default_rng(seed)
        self.pool: list[Node] = []
        for _ in range(int(self.rng.integers(1, 4))):
            self.pool.append(self.leaf(self.shape()))
        for _ in range(int(self.rng.integers(3, 18))):
            made = self.step()
            if made is not None and made.size <= 5000:
                self.pool.append(made)
        made = [node for node in self.pool if node.buffer is None] or [
            build.apply(elementwise.NEG, self.pool[0])
        ]
        count = min(len(made), int(self.rng.integers(1, 4)))
        picks = self.rng.choice(len(made), count, replace=False)
        self.outputs = [made[pick] for pick in sorted(picks)]
        if made[-1] not in self.outputs:
            self.outputs.append(made[-1])
        # Nobody else holds the rest: what is kept is decided by the outputs alone.
        self.pool.clear()

    def shape(self) -> tuple[int, ...]:
        rank = int(self.rng.integers(0, 4))
        return tuple(int(self.rng.choice((1, 2, 3, 5, 8, 16, 17))) for _ in range(rank))

    def leaf(self, shape: tuple[int, ...]) -> Node:
        return self.build.leaf(self.rng.uniform(-1.5, 1.5, shape).astype("f4"))

    def pick(self) -> Node:
        # Recent values more often: deep graphs rather than wide ones.
        position = int(len(self.pool) * self.rng.uniform() ** 0.5)
        return self.pool[position]

    def step(self) -> Node | None:
        methods = (
            self.unary, self.unary, self.binary, self.binary, self.binary, self.where,
            self.reduction, self.reduction, self.reshape, self.permute, self.slice, self.expand,
            self.pad, self.concatenate, self.matmul, self.softmax, self.scan, self.gather,
            self.scatter, self.insert, self.normalized,
        )  # fmt: skip
        return methods[int(self.rng.integers(len(methods)))]()

    def tame(self, x: Node) -> Node:
        """Keep magnitudes near one, so that results can be compared."""
        return self.build.apply(elementwise.TANH, x)

    def unary(self) -> Node:
        op = UNARY[int(self.rng.integers(len(UNARY)))]
        x = self.pick()
        if op is elementwise.EXP:
            x = self.tame(x)
        if op is elementwise.SQRT:
            x = self.build.apply(elementwise.ABS, x)
        if op is elementwise.FLOOR:
            # Rounding differences must not be amplified: floor only of what is far from steps.
            return self.build.apply(op, self.build.apply(elementwise.ABS, self.pool[0]))
        return self.build.apply(op, x)

    def partner(self, x: Node) -> Node:
        """Something that broadcasts with ``x``."""
        fitting = []
        for other in self.pool:
            try:
                elementwise.ADD.infer([x.shape, other.shape], [x.dtype, other.dtype], ())
            except RuntimeError:
                continue
            fitting.append(other)
        choice = self.rng.uniform()
        if choice < 0.2:
            return self.build.scalar(float(self.rng.uniform(-1, 1)))
        if choice < 0.3:
            return self.build.constant(float(self.rng.choice((0.0, 1.0, -1.0, 0.5, 2.0))))
        if choice < 0.5:
            shape = tuple(1 if self.rng.uniform() < 0.4 else extent for extent in x.shape)
            return self.leaf(shape[int(self.rng.integers(len(shape) + 1)) :])
        return fitting[int(self.rng.integers(len(fitting)))]

    def binary(self) -> Node:
        op = BINARY[int(self.rng.integers(len(BINARY)))]
        x = self.pick()
        result = self.build.apply(op, x, self.partner(x))
        return self.tame(result) if op is elementwise.MUL else result

    def where(self) -> Node:
        x = self.pick()
        op = COMPARE[int(self.rng.integers(len(COMPARE)))]
        # Conditions come from leaves: a rounding difference must not choose another branch.
        sign = self.leaf(x.shape)
        condition = self.build.apply(op, sign, self.build.constant(0.0))
        return self.build.apply(elementwise.WHERE, condition, x, self.partner(x))

    def axes(self, x: Node) -> tuple[int, ...]:
        chosen = [axis for axis in range(len(x.shape)) if self.rng.uniform() < 0.5]
        return tuple(chosen or range(len(x.shape)))

    def reduction(self) -> Node | None:
        x = self.pick()
        if not x.shape:
            return None
        op = (reduction.SUM, reduction.MAX, reduction.MIN)[int(self.rng.integers(3))]
        result = self.build.reduce(op, x, self.axes(x), keep=bool(self.rng.integers(2)))
        return self.tame(result) if op is reduction.SUM else result

    def normalized(self) -> Node | None:
        x = self.pick()
        return self.tame(self.build.normalize(x, self.axes(x))) if x.shape else None

    def softmax(self) -> Node | None:
        x = self.pick()
        return self.build.softmax(x, int(self.rng.integers(len(x.shape)))) if x.shape else None

    def reshape(self) -> Node:
        x = self.pick()
        factors = [extent for extent in x.shape if extent > 1]
        if self.rng.uniform() < 0.5:
            factors = [part for extent in factors for part in split(extent)]
            self.rng.shuffle(factors)
        while len(factors) > 1 and self.rng.uniform() < 0.5:
            position = int(self.rng.integers(len(factors) - 1))
            factors[position : position + 2] = [factors[position] * factors[position + 1]]
        return self.build.reshape(x, [int(f) for f in factors])

    def permute(self) -> Node:
        x = self.pick()
        return self.build.permute(x, [int(a) for a in self.rng.permutation(len(x.shape))])

    def slice(self) -> Node:
        x = self.pick()
        starts, sizes, steps = [], [], []
        for extent in x.shape:
            step = int(self.rng.choice((1, 1, 2, -1, -2)))
            start = int(self.rng.integers(extent))
            room = (extent - 1 - start) // step + 1 if step > 0 else start // -step + 1
            starts.append(start)
            steps.append(step)
            sizes.append(int(self.rng.integers(1, room + 1)))
        return self.build.slice(x, starts, sizes, steps)

    def expand(self) -> Node:
        x = self.pick()
        shape = [
            int(self.rng.choice((2, 4))) if extent == 1 and self.rng.uniform() < 0.6 else extent
            for extent in x.shape
        ]
        if self.rng.uniform() < 0.3:
            shape = [3, *shape]
        return self.build.expand(x, shape)

    def pad(self) -> Node:
        x = self.pick()
        pads = tuple((int(self.rng.integers(3)), int(self.rng.integers(3))) for _ in x.shape)
        fill = self.build.constant(float(self.rng.choice((0.0, 1.0))))
        return self.build.apply(movement.PAD, x, fill, attrs=(pads,))

    def concatenate(self) -> Node | None:
        x = self.pick()
        if not x.shape:
            return None
        axis = int(self.rng.integers(len(x.shape)))
        shape = list(x.shape)
        shape[axis] = int(self.rng.integers(4))
        sources = [x, self.leaf(tuple(shape)), self.build.apply(elementwise.NEG, x)]
        self.rng.shuffle(sources)
        return self.build.apply(movement.CONCATENATE, *sources, attrs=(axis,))

    def matmul(self) -> Node | None:
        x = self.pick()
        if not x.shape:
            return None
        rows, inner = x.size // x.shape[-1], x.shape[-1]
        columns = int(self.rng.choice((1, 3, 16, 20)))
        flat = self.build.reshape(x, (rows, inner))
        other = self.leaf((inner, columns))
        if self.rng.uniform() < 0.4:
            other = self.build.permute(self.leaf((columns, inner)), (1, 0))
        return self.tame(self.build.matmul(flat, other))

    def scan(self) -> Node | None:
        x = self.pick()
        if not x.shape:
            return None
        op = (reduction.CUMSUM, reduction.CUMMAX)[int(self.rng.integers(2))]
        axis = int(self.rng.integers(len(x.shape)))
        return self.tame(self.build.apply(op, x, attrs=(axis,)))

    def positions(self, high: int, shape: list[int]) -> Node:
        return self.build.leaf(self.rng.integers(0, high, shape))

    def gather(self) -> Node | None:
        x = self.pick()
        if not x.shape:
            return None
        axis = int(self.rng.integers(len(x.shape)))
        shape = [extent if self.rng.uniform() < 0.5 else 1 for extent in x.shape]
        shape[axis] = int(self.rng.integers(1, 6))
        where = self.positions(x.shape[axis], shape)
        return self.build.apply(indexing.GATHER, x, where, attrs=(axis,))

    def scatter(self) -> Node | None:
        x = self.pick()
        if not x.shape:
            return None
        axis = int(self.rng.integers(len(x.shape)))
        shape = list(x.shape)
        shape[axis] = int(self.rng.integers(1, 6))
        where = self.positions(x.shape[axis], shape)
        mode = str(self.rng.choice(("set", "add", "max")))
        values = self.build.apply(elementwise.SIN, self.leaf(tuple(shape)))
        return self.build.apply(indexing.SCATTER, x, where, values, attrs=(axis, mode))

    def insert(self) -> Node | None:
        x = self.pick()
        if not x.shape:
            return None
        strides, step = [], 1
        for extent in reversed(x.shape):
            strides.insert(0, step)
            step *= extent
        region, taken, offset = [], [], 0
        for extent, stride in zip(x.shape, strides):
            start = int(self.rng.integers(extent))
            region.append(int(self.rng.integers(1, extent - start + 1)))
            taken.append(stride)
            offset += start * stride
        value = self.leaf(tuple(region))
        return self.build.apply(movement.INSERT, x, value, attrs=(tuple(taken), offset))


def split(extent: int) -> list[int]:
    for factor in (2, 3, 5, 7):
        if extent % factor == 0 and extent > factor:
            return [factor, extent // factor]
    return [extent]


def describe(nodes: list[Node]) -> str:
    """The graph, one line a value."""
    order = postorder(nodes)
    names = {id(node): f"v{number}" for number, node in enumerate(order)}
    return "\n".join(
        f"  {names[id(node)]} = {node.op.name}({', '.join(names[id(s)] for s in node.src)}) "
        f"{node.attrs} {list(node.shape)}"
        for node in order
    )


def check(device: str, seed: int, fusion: bool) -> str | None:
    build = Builder(device)
    program = Program(build, seed)
    text = describe(program.outputs)
    wanted = expected(*program.outputs)
    try:
        got = build.compute(*program.outputs, FUSION=fusion)
    except Exception as error:
        return f"seed {seed}: {type(error).__name__}: {error}\n{text}"
    for mine, right in zip(got, wanted):
        scale = max(1.0, float(np.abs(right).max(initial=0)))
        if mine.shape != right.shape or not np.allclose(
            mine, right, rtol=2e-3, atol=2e-4 * scale, equal_nan=True
        ):
            worst = float(np.abs(mine - right).max()) if mine.shape == right.shape else np.nan
            return f"seed {seed}: differs by {worst:.3g} (shape {right.shape})\n{text}"
    return None


def share(device: str, fusion: bool) -> float:
    """How many of the graphs a way gets: compiling takes nearly all the time."""
    if device == "numpy":
        return 1.0
    if device == "opencl:0":
        return 0.5 if fusion else 0.2
    return 0.2 if fusion else 0.05


WAYS = [(device, fusion) for device in DEVICES for fusion in (True, False)]
BATCHES = [
    (device, fusion, batch)
    for device, fusion in WAYS
    for batch in range(max(1, int(GRAPHS * share(device, fusion)) // BATCH))
]


@pytest.mark.parametrize(("device", "fusion", "batch"), BATCHES)
def test_random_graphs(device: str, fusion: bool, batch: int) -> None:
    first = SEED * 100_000 + batch * BATCH
    print(f"seeds {first} to {first + BATCH - 1}")
    findings = [check(device, seed, fusion) for seed in range(first, first + BATCH)]
    found = [finding for finding in findings if finding]
    assert not found, "\n".join(found)


@pytest.mark.skipif("FUZZ_ONE" not in os.environ, reason="FUZZ_ONE names no seed")
@pytest.mark.parametrize(("device", "fusion"), WAYS)
def test_one_seed(device: str, fusion: bool) -> None:
    finding = check(device, int(os.environ["FUZZ_ONE"]), fusion)
    assert finding is None, finding
