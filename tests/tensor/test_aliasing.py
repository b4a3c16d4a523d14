"""Views share memory: random programs give what NumPy's views, and PyTorch where it is, give.

Hypothesis draws the programs from a fixed seed, so that a run can be repeated, makes one that fails
as short as it can, and prints it as a script with the blob that makes it again.
``ALIASING_PROGRAMS=10000`` runs as many on every device, ``ALIASING_SEED=<number>`` draws others
and ``ALIASING_SECONDS`` stops in time.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

import lazytorch
from tests.graphs import DEVICES as PLACES
from tests.tensor.aliasing import NUMPY, Line, Program, programs

try:
    import torch as pytorch
except ImportError:
    pytorch = None

PROGRAMS = int(os.environ.get("ALIASING_PROGRAMS", "0"))
SEED = int(os.environ.get("ALIASING_SEED", "1"))
SECONDS = float(os.environ.get("ALIASING_SECONDS", "inf"))
# Compiling takes nearly all the time on devices other than NumPy.
SHARES = {"numpy": 150, "opencl:1": 15}
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


def script(lines: list[Line], device: str) -> str:
    start = [
        "import numpy as np",
        "import lazytorch as torch",
        f"device = {device!r}",
        "seen = print",
        "def refused(write):",
        "    try: write()",
        "    except (RuntimeError, IndexError): print('refused')",
    ]
    return "\n".join([*start, *(f"{line.torch:<50}  # {line.numpy}" for line in lines)])


def check(lines: list[Line], device: str) -> None:
    """Fail where a library's answer differs from the model's, with the program as a script."""
    if pytorch is not None:
        wrong = failure(lines, pytorch, "cpu")
        assert wrong is None, f"the model differs from PyTorch: {wrong}\n{script(lines, 'cpu')}"
    problem = failure(lines, lazytorch, device)
    assert problem is None, f"{problem}\n{script(lines, device)}"


def run_programs(device: str, count: int) -> None:
    """Check programs that hypothesis draws, and print how many there was time for."""
    end = time.monotonic() + SECONDS
    done = 0

    @seed(SEED)
    @settings(
        max_examples=count, deadline=None, database=None,
        print_blob=True, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    @given(programs(shares=device == "cpu"))
    def run(program: Program) -> None:
        nonlocal done
        if time.monotonic() > end:
            return
        done += 1
        check(program.lines, device)

    try:
        run()
    finally:
        print(f"{done} programs from seed {SEED} on {device}")


@pytest.mark.parametrize("device", DEVICES)
def test_random_programs_of_views_and_writes(device: str) -> None:
    run_programs(device, PROGRAMS or SHARES.get(device, 20))


def test_a_wrong_program_is_found_and_made_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library whose fills go wrong, as it were, is shown by one fill."""

    def failing(lines: list[Line], library: Any, device: str) -> str | None:
        return "wrong numbers" if any(".fill_(" in line.torch for line in lines) else None

    monkeypatch.setattr("tests.tensor.test_aliasing.failure", failing)
    monkeypatch.setattr("tests.tensor.test_aliasing.pytorch", None)
    with pytest.raises(AssertionError, match="wrong numbers") as raised:
        run_programs("numpy", 100)
    shown = [line for line in str(raised.value).splitlines() if re.match(r"\s*(v\d|seen\(v)", line)]
    assert ".fill_(" in shown[1] and len(shown) == 3, str(raised.value)


@pytest.mark.parametrize("device", DEVICES)
def test_bytes_written_again_and_again(device: str) -> None:
    """Over split rows the conditions of these writes are always true, and a read falls away."""
    numbers = lazytorch.arange(12.0, device=device).reshape(2, 6).clone()
    octets = numbers.view(lazytorch.uint8)
    numbers.zero_()
    octets.copy_(octets.clone())
    octets.transpose_(0, 1)
    octets.mul_(2)
    lazytorch.add(octets.clone(), 1, out=octets)
    octets[octets > 0] = 1
    octets.zero_()
    row, words = octets.unbind(0)[0], numbers.view(lazytorch.int32)
    octets.zero_()
    assert not numbers.any() and not octets.any() and not row.any() and not words.any()
