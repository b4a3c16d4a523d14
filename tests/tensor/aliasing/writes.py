"""Steps that write through a value."""

from __future__ import annotations

import numpy as np

from tests.tensor.aliasing.program import Program, Step, Value


def fill(p: Program, name: str, value: Value) -> bool:
    number = p.number(value)
    if p.random.random() < 0.3:
        p.emit(f"{name}.zero_()", f"{name}[...] = 0")
    else:
        p.emit(f"{name}.fill_({number})", f"{name}[...] = {number}")
    return True


def arithmetic(p: Program, name: str, value: Value) -> bool:
    if not plain_target(p, value) or value.array.dtype.kind == "b":
        return False
    function, ufunc = p.random.choice((("add_", "add"), ("sub_", "subtract"), ("mul_", "multiply")))
    number = "2" if ufunc == "multiply" else p.number(value)
    text = number
    if ufunc != "multiply" and p.random.random() < 0.4:
        found = p.source(value)
        if found is not None:
            text, number = found
    p.emit(f"{name}.{function}({text})", f"np.{ufunc}({name}, {number}, out={name})")
    return True


def plain_target(p: Program, value: Value) -> bool:
    return value.writable and not value.overlapping and p.tame(value)


def copy(p: Program, name: str, value: Value) -> bool:
    if not value.writable or value.overlapping:
        return False
    found = p.source(value)
    if found is None:
        return False
    p.emit(f"{name}.copy_({found[0]})", f"{name}[...] = {found[1]}")
    return True


def assign(p: Program, name: str, value: Value) -> bool:
    if not value.writable:
        return False
    key = ", ".join(p.key(value.array.shape))
    number = p.number(value)
    if p.tame(value) and not value.overlapping and value.array.dtype.kind != "b":
        sign = p.random.choice(("=", "+=", "="))
    else:
        sign = "="
    p.emit(f"{name}[{key}] {sign} {number}", f"{name}[{key}] {sign} {number}")
    return True


def masked(p: Program, name: str, value: Value) -> bool:
    if not plain_target(p, value) or value.array.dtype.kind == "c":
        return False
    mask = name if value.array.dtype.kind == "b" else f"{name} > {p.random.randint(0, 5)}"
    number = p.number(value)
    torch = p.random.choice(
        (f"{name}[{mask}] = {number}", f"{name}.masked_fill_({mask}, {number})")
    )
    p.emit(torch, f"put({name}, {mask}, {number})")
    return True


def by_numbers(p: Program, name: str, value: Value) -> bool:
    if not value.writable or value.overlapping or not value.array.ndim:
        return False
    extent = value.array.shape[0]
    places = (
        p.random.sample(range(-extent, extent), 1)
        if extent < 2
        else [
            place if p.random.random() < 0.7 else place - extent
            for place in p.random.sample(range(extent), 2)
        ]
    )
    number, index = p.number(value), f"torch.tensor({places}, device=device)"
    if value.array.ndim > 1 and p.random.random() < 0.4:
        last = p.random.randrange(value.array.shape[-1])
        p.emit(
            f"{name}[{index}, ..., {last}] = {number}", f"{name}[{places}, ..., {last}] = {number}"
        )
        return True
    if p.tame(value) and value.array.dtype.kind != "b" and p.random.random() < 0.5:
        made = f"torch.tensor({number}, dtype={name}.dtype, device=device)"
        p.emit(
            f"{name}.index_put_(({index},), {made}, accumulate=True)",
            f"np.add.at({name}, ({places},), {number})",
        )
        return True
    torch = f"{name}[{index}] = {number}"
    if p.random.random() < 0.3:
        torch = f"{name}.index_fill_(0, torch.tensor({places}, device=device), {number})"
    p.emit(torch, f"{name}[{places}] = {number}")
    return True


def scattered(p: Program, name: str, value: Value) -> bool:
    if not plain_target(p, value) or value.array.ndim not in (1, 2):
        return False
    axis, shape = p.axis(value), value.array.shape
    order = p.random.sample(range(shape[axis]), shape[axis])
    index = order
    if value.array.ndim == 2:
        index = (
            [order[:1] for _ in range(shape[0])] if axis == 1 else [[n] * shape[1] for n in order]
        )
    number, made = p.number(value), f"torch.tensor({index}, device=device)"
    if value.array.dtype.kind != "b" and p.random.random() < 0.5:
        ones = f"torch.full({np.shape(index)}, {number}, dtype={name}.dtype, device=device)"
        p.emit(
            f"{name}.scatter_add_({axis}, {made}, {ones})",
            f"scatter({name}, {axis}, {index}, {number}, True)",
        )
    else:
        p.emit(
            f"{name}.scatter_({axis}, {made}, {number})",
            f"scatter({name}, {axis}, {index}, {number}, False)",
        )
    return True


def into(p: Program, name: str, value: Value) -> bool:
    if not plain_target(p, value) or value.array.dtype.kind == "b":
        return False
    others = [
        key for key, other in p.values.items()
        if other.array.dtype == value.array.dtype and other.array.shape == value.array.shape
        and p.tame(other)
    ]  # fmt: skip
    other = p.random.choice(others)
    torch, number = other, p.number(value)
    if p.values[other].root == value.root:
        torch = f"{other}.clone()"
    p.emit(f"torch.add({torch}, {number}, out={name})", f"{name}[...] = {other} + {number}")
    return True


def rebind(p: Program, name: str, value: Value) -> bool:
    others = [
        key for key, other in p.values.items()
        if other.array.dtype == value.array.dtype and key != name
    ]  # fmt: skip
    if not others:
        return False
    other = p.random.choice(others)
    p.emit(f"{name}.data = {other}", f"{name} = {other}[...]")
    p.values[name] = Value(p.space[name], p.values[other].root, value.bits)
    return True


def turned(p: Program, name: str, value: Value) -> bool:
    """Another shape for the tensor itself; its views stay as they are."""
    if value.array.ndim >= 2 and p.random.random() < 0.6:
        p.emit(f"{name}.transpose_(0, 1)", f"{name} = {name}.swapaxes(0, 1)")
    else:
        p.emit(f"{name}.unsqueeze_(0)", f"{name} = {name}[None]")
    p.values[name] = Value(p.space[name], value.root, value.bits)
    return True


def refused(p: Program, name: str, value: Value) -> bool:
    """Writes that raise change nothing."""
    if value.writable:
        wrong = tuple(extent + 3 for extent in value.array.shape) or (3,)
        text = p.random.choice(
            (
                f"{name}.add_(torch.ones({wrong}, dtype={name}.dtype, device=device))",
                f"{name}.copy_(torch.ones({wrong}, device=device))",
                f"{name}.__setitem__({value.array.shape[0] if wrong != (3,) else 7}, 1)",
            )
        )
    else:
        text = f"{name}.logical_not_()"
    p.emit(f"refused(lambda: {text})", "refused()")
    return True


WRITES: tuple[Step, ...] = (
    fill, fill, arithmetic, arithmetic, arithmetic, copy, copy, assign, assign, assign, masked,
    masked, by_numbers, by_numbers, scattered, into, rebind, turned, refused,
)  # fmt: skip
