"""Ctrl-C in plans that update memory in place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import lazytorch as torch
from lazytorch import nn
from lazytorch.runtime import interpreter
from lazytorch.runtime.interrupts import interrupts_held


@pytest.fixture(autouse=True)
def usual_handler() -> Iterator[None]:
    # A background shell may have had Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def layers() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).to("numpy")


def step(model: Any, optimizer: Any) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 4, device="numpy")).square().sum().backward()
    optimizer.step()


def values(model: Any, optimizer: Any) -> list[Any]:
    momenta = [state["momentum_buffer"] for state in optimizer.state.values()]
    return [t.detach().numpy().tolist() for t in (*model.parameters(), *momenta)]


@pytest.mark.parametrize("compiled", [False, True])
def test_an_update_is_carried_out_once(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted at each of its kernels: what is updated in place is updated once.

    An interrupted call of a compiled function is carried out whole or not at all.
    """

    def trained(interrupted: int | None) -> tuple[list[Any], int]:
        model = layers()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        call = torch.compile(step) if compiled else step
        for _ in range(3):
            call(model, optimizer)
            values(model, optimizer)
        kernels = 0
        original = interpreter.run

        def counted(*arguments: Any) -> None:
            nonlocal kernels
            kernels += 1
            original(*arguments)
            if kernels == interrupted:
                signal.raise_signal(signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(interpreter, "run", counted)
            if not interrupted:
                if interrupted is None:
                    call(model, optimizer)
                return values(model, optimizer), kernels
            with pytest.raises(KeyboardInterrupt):
                call(model, optimizer)
                values(model, optimizer)
        return values(model, optimizer), kernels

    wanted, kernels = trained(None)
    allowed = [wanted, trained(0)[0]] if compiled else [wanted]
    assert kernels > 3
    for number in range(1, kernels + 1):
        assert trained(number)[0] in allowed, f"interrupted at kernel {number} of {kernels}"


def test_what_is_held_comes_at_the_end() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        signal.raise_signal(signal.SIGINT)
        reached = True
    assert reached and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with interrupts_held():
        pass
    found: list[Any] = []

    def elsewhere() -> None:
        with interrupts_held():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
