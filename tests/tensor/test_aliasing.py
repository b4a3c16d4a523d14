"""Views share memory: random programs give what NumPy's views, and PyTorch where it is, give.

Seeds are fixed, so that a run can be repeated. ``ALIASING_PROGRAMS=10000`` runs as many on every
device, ``ALIASING_SEED=<number>`` starts elsewhere and ``ALIASING_SECONDS`` stops in time. A
program that fails is made shorter as long as it fails, and printed as a script with its seed.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np
import pytest

import lazytorch
from tests.graphs import DEVICES as PLACES
from tests.tensor.aliasing import NUMPY, Line, Program

try:
    import torch as pytorch
except ImportError:
    pytorch = None

PROGRAMS = int(os.environ.get("ALIASING_PROGRAMS", "0"))
SEED = int(os.environ.get("ALIASING_SEED", "1"))
SECONDS = float(os.environ.get("ALIASING_SECONDS", "inf"))
# Compiling takes nearly all the time on devices other than NumPy.
SHARES = {"numpy": 200}
DEVICES = ["cpu", *(place for place in PLACES if "/" not in place and place != "opencl:0")]


def array_of(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.array(value)


def carried_out(lines: list[Line], library: Any, device: str) -> list[np.ndarray]:
    """What the lines show: on NumPy where no library is given."""
    shown: list[np.ndarray] = []

    def refused(write: Any = None) -> None:
        try:
            if write is not None:
                write()
                shown.append(np.array("accepted"))
                return
        except (RuntimeError, IndexError):
            pass
        shown.append(np.array("refused"))

    space: dict[str, Any] = dict(NUMPY) if library is None else {"np": np, "torch": library}
    space.update(device=device, refused=refused, seen=lambda value: shown.append(array_of(value)))
    with np.errstate(all="ignore"):
        for line in lines:
            exec(line.numpy if library is None else line.torch, space)
    return shown


def difference(found: list[np.ndarray], wanted: list[np.ndarray]) -> str | None:
    for number, (mine, right) in enumerate(zip(found, wanted)):
        if mine.shape != right.shape or mine.dtype != right.dtype:
            return f"value {number}: {mine.dtype}{mine.shape} for {right.dtype}{right.shape}"
        numeric = right.dtype.kind != "U"
        if not np.array_equal(mine, right, equal_nan=numeric and right.dtype.kind in "fc"):
            return f"value {number}: {mine.tolist()} for {right.tolist()}"
    return None if len(found) == len(wanted) else "another number of values"


def failure(lines: list[Line], library: Any, device: str) -> str | None:
    """How a library's answer differs from NumPy's."""
    wanted = carried_out(lines, None, device)
    try:
        found = carried_out(lines, library, device)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return difference(found, wanted)


def still_fails(lines: list[Line], device: str) -> bool:
    """Whether a shortened program is right, and wrong here only."""
    try:
        if pytorch is not None and failure(lines, pytorch, "cpu") is not None:
            return False
        return failure(lines, lazytorch, device) is not None
    except Exception:
        return False


def shrunk(lines: list[Line], device: str) -> list[Line]:
    """A shorter program that fails, none of whose lines can be left out."""
    shorter = True
    while shorter:
        shorter = False
        for number in reversed(range(len(lines))):
            fewer = lines[:number] + lines[number + 1 :]
            if still_fails(fewer, device):
                lines, shorter = fewer, True
    return lines


def script(lines: list[Line], device: str) -> str:
    start = [
        "import numpy as np",
        "import lazytorch as torch",
        f"device = {device!r}",
        "seen = print",
    ]
    return "\n".join([*start, *(f"{line.torch:<50}  # {line.numpy}" for line in lines)])


def check(seed: int, device: str) -> str | None:
    program = Program(seed, shares=device == "cpu")
    if pytorch is not None:
        wrong = failure(program.lines, pytorch, "cpu")
        assert wrong is None, f"the model differs from PyTorch, seed {seed}: {wrong}\n" + script(
            program.lines, "cpu"
        )
    problem = failure(program.lines, lazytorch, device)
    if problem is None:
        return None
    lines = shrunk(program.lines, device)
    return f"seed {seed}, {failure(lines, lazytorch, device)}\n{script(lines, device)}"


@pytest.mark.parametrize("device", DEVICES)
def test_random_programs_of_views_and_writes(device: str) -> None:
    programs = PROGRAMS or SHARES.get(device, 20)
    end = time.monotonic() + SECONDS
    problems = []
    done = 0
    for seed in range(SEED, SEED + programs):
        if time.monotonic() > end:
            break
        problem = check(seed, device)
        done += 1
        if problem is not None:
            problems.append(problem)
        if len(problems) == 3:
            break
    print(f"{done} programs from seed {SEED} on {device}")
    assert not problems, "\n\n".join(problems)


def test_a_wrong_program_is_found_and_made_short(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        Line("a = torch.zeros(4)", "a = np.zeros(4, 'float32')", "a"),
        Line("b = a[1:]", "b = a[1:]", "b"),
        Line("c = a.clone()", "c = a.copy()", "c"),
        Line("b.fill_(2)", "b[...] = 3"),
        Line("seen(a)", "seen(a)"),
        Line("seen(c)", "seen(c)"),
    ]
    monkeypatch.setattr("tests.tensor.test_aliasing.pytorch", None)
    problem = failure(lines, lazytorch, "cpu")
    assert problem is not None and "[0.0, 2.0, 2.0, 2.0] for [0.0, 3.0, 3.0, 3.0]" in problem
    left = [line.torch for line in shrunk(lines, "cpu")]
    assert left == ["a = torch.zeros(4)", "b = a[1:]", "b.fill_(2)", "seen(a)"]
