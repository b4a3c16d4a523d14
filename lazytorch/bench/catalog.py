"""Every workload, its work, and the figures asked of it. To add one, add a row here."""

from __future__ import annotations

import math
from typing import Any

from lazytorch.bench.workload import Goal, Input, Workload

FLOATS = 1 << 24


def _matmul(
    name: str,
    a: tuple[int, ...],
    b: tuple[int, ...],
    goals: tuple[Goal, ...] = (),
    **options: Any,
) -> Workload:
    """A product of two arrays that are stored as given; ``transpose_a`` and ``transpose_b`` say
    that the program looks at them transposed."""
    rows, depth = (a[-1], a[-2]) if options.get("transpose_a") else (a[-2], a[-1])
    columns = b[-2] if options.get("transpose_b") else b[-1]
    batch = math.prod(a[:-2])
    flops = 2.0 * batch * rows * columns * depth
    nbytes = 4.0 * batch * (rows * depth + depth * columns + rows * columns)
    inputs = (Input(a), Input(b))
    return Workload(name, "matmul", "matmul", inputs, options, flops, nbytes, goals)


def _best(best: float, torch: float = 0.0, *others: Goal) -> tuple[Goal, ...]:
    peer = (Goal("torch", torch),) if torch else ()
    return (Goal("best", best), *peer, *others)


PEAK = Goal("peak", 0.9)
# For shapes where another library may choose better: beat PyTorch, stay near JAX.
ODD = (Goal("torch", 1.4), Goal("jax", 0.9))


SQUARES: dict[int, tuple[Goal, ...]] = {
    256: _best(1.2, 1.2),
    512: _best(1.0, 1.8, PEAK),
    1024: _best(1.0, 2.0, PEAK),
    2048: _best(1.0, 2.0, PEAK),
}


def matmul_square(n: int) -> Workload:
    """The product of two square matrices."""
    return _matmul(f"matmul-{n}", (n, n), (n, n), SQUARES.get(n, ()))


def _matmuls() -> list[Workload]:
    rows = [matmul_square(n) for n in (64, 128, 256, 512, 1024, 2048, 4096)]
    n = 1024
    return [
        *rows,
        _matmul("matmul-1000x999x1001", (1000, 999), (999, 1001), ODD),
        _matmul("matmul-1024-tn", (n, n), (n, n), ODD, transpose_a=True),
        _matmul("matmul-1024-nt", (n, n), (n, n), ODD, transpose_b=True),
        _matmul("matmul-1024-tt", (n, n), (n, n), ODD, transpose_a=True, transpose_b=True),
        _matmul("matmul-64x256", (64, 256, 256), (64, 256, 256), ODD),
        _matmul("matmul-64x256-nt", (64, 256, 256), (64, 256, 256), ODD, transpose_b=True),
        _matmul("matmul-vector-4096", (4096, 4096), (4096, 1)),
        _matmul("vector-matmul-4096", (1, 4096), (4096, 4096)),
        _matmul("matmul-skinny-4096x16x4096", (4096, 16), (16, 4096)),
        _matmul("matmul-skinny-8x4096x4096", (8, 4096), (4096, 4096)),
        _matmul("matmul-skinny-16x65536x16", (16, 65536), (65536, 16)),
    ]


# ResNet-18's shapes for images of 32 x 32, ResNet-50's for 224 x 224, and one depthwise.
# name: batch, channels, size, outputs, kernel, stride, padding, groups
CONVOLUTIONS = {
    "conv-32x64x56-3x3": (32, 64, 56, 64, 3, 1, 1, 1),
    "conv-8x3x224-7x7-stride2": (8, 3, 224, 64, 7, 2, 3, 1),
    "conv-16x64x32-3x3": (16, 64, 32, 64, 3, 1, 1, 1),
    "conv-16x64x32-3x3-stride2": (16, 64, 32, 128, 3, 2, 1, 1),
    "conv-16x128x16-3x3": (16, 128, 16, 128, 3, 1, 1, 1),
    "conv-16x256x8-3x3": (16, 256, 8, 256, 3, 1, 1, 1),
    "conv-16x512x4-3x3": (16, 512, 4, 512, 3, 1, 1, 1),
    "conv-8x256x56-1x1": (8, 256, 56, 64, 1, 1, 0, 1),
    "conv-8x1024x14-1x1": (8, 1024, 14, 256, 1, 1, 0, 1),
    "conv-16x128x16-3x3-stride2": (16, 128, 16, 256, 3, 2, 1, 1),
    "conv-16x256x8-3x3-stride2": (16, 256, 8, 512, 3, 2, 1, 1),
    "conv-16x64x32-1x1-stride2": (16, 64, 32, 128, 1, 2, 0, 1),
    "conv-16x256x8-1x1-stride2": (16, 256, 8, 512, 1, 2, 0, 1),
    "conv-8x256x56-1x1-stride2": (8, 256, 56, 512, 1, 2, 0, 1),
    "conv-8x64x56-1x1": (8, 64, 56, 256, 1, 1, 0, 1),
    "conv-8x512x28-1x1": (8, 512, 28, 128, 1, 1, 0, 1),
    "conv-8x256x14-1x1": (8, 256, 14, 1024, 1, 1, 0, 1),
    "conv-8x512x7-1x1": (8, 512, 7, 2048, 1, 1, 0, 1),
    "conv-8x128x56-3x3-depthwise": (8, 128, 56, 128, 3, 1, 1, 128),
}  # fmt: skip


def _convolutions() -> list[Workload]:
    rows = []
    for name, shape in CONVOLUTIONS.items():
        batch, channels, size, outputs, kernel, stride, padding, groups = shape
        out = (size + 2 * padding - kernel) // stride + 1
        x = (batch, channels, size, size)
        w = (outputs, channels // groups, kernel, kernel)
        y = (batch, outputs, out, out)
        inputs = (Input(x), Input(w), Input(y))
        flops = 2.0 * math.prod(y) * math.prod(w[1:])
        nbytes = 4.0 * (math.prod(x) + math.prod(w) + math.prod(y))
        options = {"stride": stride, "padding": padding, "groups": groups}
        for program, kind in (
            ("convolution", "forward"),
            ("convolution_input_gradient", "gradient"),
            ("convolution_weight_gradient", "gradient"),
        ):
            suffix = program.removeprefix("convolution").replace("_", "-")
            taken = inputs[: 2 if kind == "forward" else 3]
            rows.append(
                Workload(
                    name + suffix, "convolution", program, taken, options, flops, nbytes,
                    _best(1.0), kind, tolerance=1e-3,
                )
            )  # fmt: skip
    return rows


def _attention() -> list[Workload]:
    batch, heads, length, width = 8, 8, 512, 64
    shape = (batch, heads, length, width)
    # Two products; the causal mask leaves half of each.
    flops = 2 * 2.0 * batch * heads * length * length * width / 2
    nbytes = 4.0 * math.prod(shape)
    forward, both = (Input(shape),) * 3, (Input(shape),) * 4
    return [
        Workload(
            "attention", "attention", "attention", forward, {}, flops, 4 * nbytes, _best(2.5),
        ),
        Workload(
            "attention-backward", "attention", "attention_backward", both, {}, 3.5 * flops,
            8 * nbytes, _best(1.6), "gradient",
        ),
    ]  # fmt: skip


def _elementwise() -> list[Workload]:
    one = (Input((FLOATS,)),)
    copy = (Goal("copy", 0.9),)
    size = 4.0 * FLOATS

    def row(name: str, inputs: tuple[Input, ...], goals: tuple[Goal, ...]) -> Workload:
        nbytes = size * (len(inputs) + 1)
        return Workload(f"{name}-16M", "elementwise", name, inputs, {}, 0.0, nbytes, goals)

    return [
        row("multiply-add", one * 2, copy),
        row("exp", one, copy),
        row("gelu", one, (Goal("copy", 0.5),)),
    ]


def _row(
    program: str, inputs: tuple[Input, ...], out: int, *goals: Goal, unread: int = 0,
    group: str = "rows",
) -> Workload:  # fmt: skip
    """A program that is named by its first input's shape and makes ``out`` words of 4 bytes, of
    whose inputs so many words are ``unread``."""
    shape = "x".join(str(n) for n in inputs[0].shape)
    nbytes = float(sum(item.nbytes for item in inputs) + 4 * (out - unread))
    name = f"{program.replace('_', '-')}-{shape}"
    kind = "gradient" if program.endswith("_gradient") else "forward"
    return Workload(name, group, program, inputs, {}, 0.0, nbytes, goals, kind)


def _rows() -> list[Workload]:
    x = Input((4096, 1024))
    vector = Input((1024,))
    image, channels = Input((32, 64, 32, 32)), Input((64,))
    row = _row
    return [
        row("softmax", (x,), 4096 * 1024, *_best(1.3)),
        row("log_softmax", (x,), 4096 * 1024),
        row("layer_norm", (x, vector, vector), 4096 * 1024, *_best(1.0)),
        row("layer_norm_gradient", (x, vector, vector, x), 4096 * 1024),
        row("group_norm", (image, channels, channels), math.prod(image.shape)),
        row("group_norm_gradient", (image, channels, channels, image), math.prod(image.shape)),
        row("cummax", (Input((1 << 22,)),), 1 << 22),
    ]


def _tensors() -> list[Workload]:
    """What tensors are reduced, ordered, indexed and moved by: large arrays, and awkward ones."""

    def row(program: str, out: int, *inputs: Input, best: float = 0.0, unread: int = 0) -> Workload:
        goals = (*(_best(best) if best else ()), Goal("torch", 0.5))
        return _row(program, inputs, out, *goals, unread=unread, group="tensors")

    large, small, narrow = Input((16384, 1024)), Input((64, 1024)), Input((1 << 20, 8))
    x, each = Input((4096, 1024)), Input((4096, 1024), 1024)
    few, line = Input((256, 4096)), Input((1, 1 << 20))
    table, tokens, words = Input((50257, 256)), Input((8192,), 50257), Input((8192, 256))
    letters, many = Input((512, 8)), Input((65536,), 512)
    odd, wide = Input((4001, 1003)), Input((64, 65536))
    unused = math.prod(table.shape) - math.prod(words.shape)
    return [
        row("sum_rows", 1024, large, best=1.3),
        row("sum_columns", 16384, large),
        row("sum_columns", 64, small),
        row("sum_columns", 1 << 20, narrow),
        row("sum_all", 1, large),
        row("mean_columns", 16384, large),
        row("mean_columns", 64, wide),
        row("max_columns", 16384, large),
        row("max_columns", 1 << 20, narrow),
        row("argmax_columns", 2 * 16384, large),
        row("argmax_columns", 2 * 64, wide),
        row("cumsum", 4096 * 1024, x),
        row("cumsum", 64 * 65536, wide),
        row("sort", 256 * 4096, few),
        row("sort", 1 << 20, line),
        row("sort", 8 << 20, narrow),
        row("topk", 256 * 16, few),
        row("topk", 16, line),
        row("index_select", 4096 * 1024, x, Input((4096,), 4096)),
        row("index_select", 8192 * 256, table, tokens, unread=unused),
        row("gather", 4096 * 1024, x, each),
        row("gather", 64 * 65536, wide, Input(wide.shape, 65536)),
        row("scatter_add", 4096 * 1024, x, each, x),
        row("scatter_add", 64 * 65536, wide, Input(wide.shape, 65536), wide),
        row("embedding", 8192 * 256, tokens, table, unread=unused),
        row("embedding", 65536 * 8, many, letters),
        row("concatenate", 2 * 4096 * 1024, x, x),
        row("concatenate", 4001 * 1040, odd, Input((4001, 37))),
        row("transpose", 4096 * 1024, x),
        row("transpose", math.prod(odd.shape), odd),
        _row(
            "embedding_gradient", (tokens, table, words), math.prod(table.shape),
            unread=math.prod(table.shape),
        ),
    ]  # fmt: skip


def _tiny() -> list[Workload]:
    inputs, options = (Input((16,)),), {"count": 1000}
    eager, compiled = Goal("seconds", 6e-3), Goal("seconds", 0.5e-3, compiled=True)
    return [
        Workload("adds-1000", "tiny", "adds", inputs, options, goals=(eager,), only="eager"),
        Workload(
            "adds-1000-compiled", "tiny", "adds", inputs, options, goals=(compiled,),
            only="compiled", replayed=True,
        ),
    ]  # fmt: skip


def _step(
    name: str,
    inputs: tuple[Input, ...],
    flops: float,
    goals: tuple[Goal, ...],
    needs: tuple[str, ...] = (),
    **options: Any,
) -> Workload:
    goals = (*goals, Goal("memory", 1.0))
    return Workload(
        name, "steps", "train", inputs, options, flops, 0.0, goals, "step", "", True, needs, 2e-3
    )


def gpt_step(name: str, width: int, batch: int, goals: tuple[Goal, ...] = ()) -> Workload:
    """A training step of a small GPT: four layers, 128 tokens, a vocabulary of 512."""
    length, vocabulary, layers = 128, 512, 4
    tokens = batch * length
    weights = layers * 12 * width**2 + vocabulary * width
    scores = layers * 2 * 2.0 * batch * length * length * width / 2
    options: dict[str, Any] = {"width": width, "layers": layers, "vocabulary": vocabulary}
    return _step(
        name, (Input((batch, length), vocabulary), Input((tokens,), vocabulary)),
        3 * (2.0 * tokens * weights + scores), goals,
        model="gpt", length=length, heads=8, optimizer="AdamW", **options,
    )  # fmt: skip


def _resnet18_products() -> int:
    """Multiply-adds of the products in ResNet-18 for one image of 32 x 32."""
    products, channels, size = 32 * 32 * 64 * 3 * 9, 64, 32
    for width, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        size //= stride
        products += size**2 * width * 9 * (channels + 3 * width)
        products += size**2 * width * channels if stride > 1 else 0
        channels = width
    return products + 512 * 10


def _steps() -> list[Workload]:
    labels = 10
    mlp = 3 * 2.0 * 128 * (784 * 512 + 512 * 512 + 512 * 10)
    cnn = 3 * 2.0 * 64 * (26 * 26 * 32 * 9 + 24 * 24 * 64 * 288 + 9216 * 128 + 1280)
    resnet = 16 * 2.0 * _resnet18_products()
    image = Input((16, 3, 32, 32))
    lstm = 3 * 2.0 * 32 * 64 * 4 * 256 * (64 + 256)
    recurrent = (Input((32, 64, 64)), Input((32,), labels))
    return [
        _step(
            "mlp", (Input((128, 784)), Input((128,), labels)), mlp,
            (Goal("best", 0.75), Goal("best", 1.1, compiled=True), Goal("torch", 1.5)),
            model="mlp", optimizer="Adam",
        ),
        _step(
            "cnn", (Input((64, 1, 28, 28)), Input((64,), labels)), cnn, _best(1.8),
            model="cnn", optimizer="Adam",
        ),
        _step(
            "resnet18-train", (image, Input((16,), labels)), 3 * resnet, _best(1.35),
            model="resnet18", optimizer="SGD",
        ),
        Workload(
            "resnet18-inference", "steps", "inference", (image,), {"model": "resnet18"}, resnet,
            0.0, _best(1.15), replayed=True, tolerance=1e-3,
        ),
        gpt_step("gpt", 256, 8, _best(1.8)),
        _step(
            "lstm", recurrent, lstm, _best(1.2), ("nn.LSTM",), model="lstm", optimizer="Adam",
        ),
    ]  # fmt: skip


def _gradients() -> list[Workload]:
    """Forward and backward passes without an update."""
    batch, length, width = 8, 128, 256
    tokens = Input((batch, length, width))
    scores = 2 * 2.0 * batch * length * length * width / 2
    block = 3 * (2.0 * batch * length * 12 * width**2 + scores)
    digits = 3 * 2.0 * 64 * (64 * 9 * (32 + 32 * 64) + 16 * 9 * 64 * 64 + 256 * 10)
    goals = (Goal("torch", 1.3),)
    return [
        Workload(
            "gpt-block-gradients", "gradients", "model_gradients", (tokens, tokens),
            {"model": "gpt_block", "width": width, "heads": 8}, block, 0.0, goals, "gradient",
            tolerance=1e-3,
        ),
        Workload(
            "digits-gradients", "gradients", "model_gradients",
            (Input((64, 1, 8, 8)), Input((64, 10))), {"model": "digits"}, digits, 0.0, goals,
            "gradient", tolerance=1e-3,
        ),
    ]  # fmt: skip


WORKLOADS: tuple[Workload, ...] = (
    *_matmuls(), *_convolutions(), *_attention(), *_elementwise(), *_rows(), *_tensors(),
    *_tiny(), *_gradients(), *_steps(),
)  # fmt: skip
# Groups of groups.
GROUPS = {
    "kernels": ("matmul", "convolution", "attention", "elementwise", "rows", "tensors", "tiny"),
    # The table of figures that were asked for, one row a line of it.
    "asked": (
        "matmul-256", "matmul-512", "matmul-1024", "matmul-2048", "matmul-1000x999x1001",
        "matmul-1024-nt", "matmul-64x256", "conv-32x64x56-3x3",
        "conv-32x64x56-3x3-input-gradient", "conv-32x64x56-3x3-weight-gradient", "attention",
        "attention-backward", "multiply-add-16M", "exp-16M", "gelu-16M", "softmax-4096x1024",
        "layer-norm-4096x1024", "sum-rows-16384x1024", "adds-1000", "adds-1000-compiled", "steps",
    ),
}  # fmt: skip
# Asked of the geometric mean over a group.
GROUP_GOALS = {"convolution": Goal("torch", 1.4), "tensors": Goal("torch", 1.0)}
