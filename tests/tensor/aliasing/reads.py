"""Steps that look at a value, or copy what it is."""

from __future__ import annotations

from tests.tensor.aliasing.program import ROW_MAJOR, Program, Step, Value


def look(p: Program, name: str, value: Value) -> bool:
    p.emit(f"seen({name})", f"seen({name})")
    return True


def look_at_one(p: Program, name: str, value: Value) -> bool:
    place = ", ".join(str(p.random.randrange(extent)) for extent in value.array.shape)
    text = f"{name}[{place}]" if place else name
    p.emit(f"seen({text}.item())", f"seen({text}.item())")
    return True


def pending(p: Program, name: str, value: Value) -> bool:
    """A result that is not computed yet keeps what it read."""
    if not p.tame(value) or value.array.dtype.kind == "b":
        return False
    number = p.number(value)
    p.make(
        f"({name} + {number}).{ROW_MAJOR}",
        f"np.ascontiguousarray({name} + {name}.dtype.type({number})).reshape({name}.shape)",
        None,
    )
    return True


def copied(p: Program, name: str, value: Value) -> bool:
    p.make(f"{name}.{ROW_MAJOR}", f"{name}.copy(order='C')", None)
    p.wild.add(p.count) if value.root in p.wild else None
    return True


def handed_over(p: Program, name: str, value: Value) -> bool:
    """NumPy sees the memory from here on, and writes it too."""
    if not p.shares:
        return False
    if not p.hosts or p.random.random() < 0.4:
        p.count += 1
        p.hosts[f"h{p.count}"] = value
        p.emit(f"h{p.count} = {name}.numpy()", f"h{p.count} = {name}[...]")
        return True
    host = p.random.choice(list(p.hosts))
    if not p.hosts[host].writable:
        p.emit(f"seen({host})", f"seen({host})")
    else:
        text = f"{host}[{', '.join(p.key(p.hosts[host].array.shape))}] = {p.number(p.hosts[host])}"
        p.emit(text, text)
    return True


READS: tuple[Step, ...] = (look, look, look_at_one, pending, pending, copied, handed_over)
