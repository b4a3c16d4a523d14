"""Golden kernels: the plan and the OpenCL C of small graphs, for a fixed target.

A refactoring shows no difference here, an optimisation shows what it changed. After looking:
``UPDATE_GOLDEN=1 python -m pytest tests/codegen``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lazytorch import dtypes
from lazytorch.codegen.finish import finish
from lazytorch.codegen.render import render
from lazytorch.codegen.target import Target
from lazytorch.dtypes import DType
from lazytorch.ir import expression as ex
from lazytorch.ir.node import Node
from lazytorch.ir.show import show_kernel
from lazytorch.ops import (
    attention,
    indexing,
    leaves,
    movement,
    ordering,
    recurrence,
    reduction,
)
from lazytorch.ops import elementwise as op
from lazytorch.schedule.fuse import Fuser, HostStep
from lazytorch.schedule.graph import build_graph, number_graph
from lazytorch.schedule.regions import choose_stored
from lazytorch.schedule.show import show_graph
from lazytorch.schedule.simplify import simplify
from tests.graphs import Builder

FOLDER = Path(__file__).parent / "golden"
TARGETS = {
    "cpu": Target(family="cpu", vector_width=8, compute_units=4),
    "gpu": Target(family="gpu", vector_width=4, compute_units=16, max_work_group_size=256),
}


def array(build: Builder, *shape: int) -> Node:
    return build.leaf(np.zeros(shape, "f4"))


def gelu(build: Builder) -> list[Node]:
    return [build.gelu(array(build, 300, 100))]


def softmax(build: Builder) -> list[Node]:
    return [build.softmax(array(build, 64, 256))]


def layer_norm(build: Builder) -> list[Node]:
    return [build.normalize(array(build, 64, 256), (1,))]


def column_sum(build: Builder) -> list[Node]:
    return [build.reduce(reduction.SUM, array(build, 64, 4096), (0,))]


def large_sum(build: Builder) -> list[Node]:
    return [build.reduce(reduction.SUM, array(build, 512, 1024), (0, 1))]


def linear_relu(build: Builder) -> list[Node]:
    x, w, b = array(build, 128, 256), array(build, 256, 512), array(build, 512)
    return [build.relu(build.apply(op.ADD, build.matmul(x, w), b))]


def convolution(build: Builder) -> list[Node]:
    return [build.conv2d(array(build, 8, 3, 16, 16), array(build, 16, 3, 3, 3), padding=1)]


def weight_gradient(build: Builder) -> list[Node]:
    x, gradient = array(build, 4, 18, 6, 6), array(build, 4, 20, 6, 6)
    sides = [build.permute(each, (1, 0, 2, 3)) for each in (x, gradient)]
    return [build.permute(build.conv2d(*sides, padding=1), (1, 0, 2, 3))]


def moves(build: Builder) -> list[Node]:
    x = build.permute(array(build, 6, 8, 16), (1, 0, 2))
    x = build.slice(x, (7, 0, 0), (8, 6, 8), (-1, 1, 2))
    x = build.apply(movement.PAD, x, build.constant(0.0), attrs=(((0, 0), (1, 1), (0, 0)),))
    return [build.apply(op.EXP, x)]


def embedding_and_its_gradient(build: Builder) -> list[Node]:
    table, rows = array(build, 50, 16), build.leaf(np.zeros((30, 1), "i8"))
    picked = build.apply(indexing.GATHER, table, rows, attrs=(0,))
    zeros = build.expand(build.constant(0.0), (50, 16))
    gradient = build.apply(indexing.SCATTER, zeros, rows, picked, attrs=(0, "add"))
    return [picked, gradient]


def positions(build: Builder) -> list[Node]:
    """A gather lane by lane, and what is scattered along the contiguous axis."""
    x, places = array(build, 30, 50), build.leaf(np.zeros((30, 50), "i8"))
    picked = build.apply(indexing.GATHER, x, places, attrs=(1,))
    return [picked, build.apply(indexing.SCATTER, x, places, x, attrs=(1, "add"))]


def sorting(build: Builder) -> list[Node]:
    """Rows in two runs that are merged, and the first few of each row."""
    bits = build.apply(op.BITCAST, array(build, 30, 100), attrs=(dtypes.int32,))
    keys = build.apply(ordering.FLOAT_ORDER, bits)
    pairs = build.apply(ordering.PAIR, keys, build.iota(100, dtypes.int32))
    runs = build.apply(ordering.SORTED_RUNS, pairs, attrs=(64, 64, 32))
    few = build.apply(ordering.SORTED_RUNS, pairs, attrs=(128, 5, 32))
    return [build.apply(ordering.MERGED_RUNS, runs, attrs=(64,)), few]


def dropout_and_half(build: Builder) -> list[Node]:
    seed, offset = build.scalar(1, dtypes.int64), build.scalar(0, dtypes.int64)
    bits = build.apply(leaves.RANDOM, seed, offset, attrs=((64, 100),))
    keep = build.apply(op.LT, bits, build.constant(1 << 31, dtypes.uint32))
    x = build.cast(build.leaf(np.zeros((64, 100), "f2")), dtypes.float32)
    kept = build.apply(op.WHERE, keep, x, build.constant(0.0))
    return [build.cast(build.apply(op.MUL, kept, build.scalar(2.0)), dtypes.float16)]


def lstm(build: Builder) -> list[Node]:
    attrs = ("lstm", 7, 12, 20, 20, False, ("hidden", "cell", "lengths"))
    states = array(build, 12, 20), array(build, 12, 20), build.leaf(np.full(12, 7, "i8"))
    gates, weight = array(build, 7, 12, 80), array(build, 80, 20)
    out = build.apply(recurrence.RECURRENT, gates, weight, *states, attrs=attrs)
    parts = ("hidden", "cell", "lengths", "grad_output")
    return [
        build.apply(
            recurrence.RECURRENT_GRADIENT, out, weight, *states, array(build, 7, 12, 20),
            attrs=(*attrs[:6], parts),
        )
    ]  # fmt: skip


def attention_and_its_gradient(build: Builder) -> list[Node]:
    query, key, value, g = (array(build, 2, 3, 40, 16) for _ in range(4))
    logsumexp, delta = array(build, 2, 3, 40), array(build, 2, 3, 40)
    operands = query, key, value, build.scalar(0.25)

    def result(name: str, *sources: Node) -> Node:
        attrs = attention.AttentionAttrs(name, True, False, False)
        return build.apply(attention.ATTENTION, *operands, *sources, attrs=attrs)

    forward = [result(name) for name in ("output", "logsumexp")]
    return [
        *forward, *(result(name, g, logsumexp, delta) for name in ("query", "key", "value")),
    ]  # fmt: skip


GRAPHS: tuple[Callable[[Builder], list[Node]], ...] = (
    gelu, softmax, layer_norm, column_sum, large_sum, linear_relu, convolution, weight_gradient,
    moves, embedding_and_its_gradient, positions, sorting, dropout_and_half, lstm,
    attention_and_its_gradient,
)  # fmt: skip


def text_of(roots: list[Node], target: Target) -> str:
    """Graph, kernels and their C: every stage that needs no device."""
    ex.reset()
    graph = simplify(build_graph(number_graph(roots)))
    parts = [show_graph(graph)]
    count = len(graph)

    def new_value(dtype: DType, size: int) -> int:
        nonlocal count
        count += 1
        return count - 1

    position = 0
    for step in Fuser(graph, choose_stored(graph, True)).run():
        assert not isinstance(step, HostStep)
        parts.append(show_kernel(step))
        for kernel in finish(step, target, new_value):
            source = render(kernel, target, f"k{position}")
            position += 1
            parts.append(f"// {source.groups} work-groups of {source.local}")
            parts += [*source.helpers.values(), source.text]
    return "\n\n".join(part.strip() for part in parts) + "\n"


@pytest.mark.parametrize("family", TARGETS)
@pytest.mark.parametrize("make", GRAPHS, ids=lambda make: make.__name__)
def test_golden(make: Callable[[Builder], list[Node]], family: str) -> None:
    text = text_of(make(Builder("numpy")), TARGETS[family])
    path = FOLDER / f"{make.__name__}.{family}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), f"no {path.name}: run with UPDATE_GOLDEN=1"
    assert text == path.read_text(encoding="utf-8"), (
        f"{path.name} differs; if that is wanted, run with UPDATE_GOLDEN=1 and look at the diff"
    )


def test_the_text_is_the_same_in_every_process() -> None:
    """Names and orders come from the graph, not from addresses or hashes."""
    import subprocess
    import sys

    script = (
        "from tests.codegen.test_golden import *\n"
        "Builder('numpy').gelu(array(Builder('numpy'), 3))\n"
        "print(text_of(softmax(Builder('numpy')), TARGETS['cpu']), end='')"
    )
    texts = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=FOLDER.parents[2],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        texts.add(done.stdout)
    texts.add(text_of(softmax(Builder("numpy")), TARGETS["cpu"]))
    assert len(texts) == 1
