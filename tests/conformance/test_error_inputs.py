"""What PyTorch's operator database says must be refused is refused, in the same way.

Each call is made in PyTorch too. Here it must raise an exception of the same class whose message
names the same facts (numbers and dtypes), and write nothing.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("expecttest")

import torch as peer

import lazytorch
from lazytorch.runtime import available_devices
from tests.conformance.compare import translated
from tests.conformance.database import Entry, entries, resolve

# Operators some of whose messages differ, and why.
DIFFERENT = {
    "nn.functional.max_unpool1d": "shapes are the caller's, not those of a 2-d function inside",
}
_FACT = re.compile(
    r"(?<![a-wyz_0-9])-?\d+(?:\.\d+)?|\b(?:float|double|int|long|bool|half)\d*(?:tensor)?\b"
)


class Memory:
    """PyTorch's tensors as lazytorch's, which share memory where those do."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.storages: dict[int, Any] = {}
        self.tensors: dict[int, Any] = {}

    def translated(self, value: Any) -> Any:
        if isinstance(value, peer.Tensor):
            if id(value) not in self.tensors:
                self.tensors[id(value)] = self._tensor(value)
            return self.tensors[id(value)]
        if isinstance(value, peer.Generator):
            return lazytorch.Generator()
        if isinstance(value, (list, tuple)) and not isinstance(value, peer.Size):
            return type(value)(self.translated(item) for item in value)
        return translated(value, self.device)

    def _tensor(self, value: Any) -> Any:
        storage = value.untyped_storage()
        key = storage.data_ptr() or -id(value)
        if key not in self.storages:
            room = storage.nbytes() // value.itemsize
            line = value.detach().as_strided((room,), (1,), 0).clone()
            self.storages[key] = translated(line, self.device)
        line = self.storages[key]
        made = line.as_strided(value.shape, value.stride(), value.storage_offset())
        if value.requires_grad:
            made = made.detach().requires_grad_()
        return made

    def versions(self) -> list[int]:
        """How often each storage was written."""
        return [line._version for line in self.storages.values()]


def _facts(message: str) -> set[str]:
    """Numbers and dtypes in a message, without the overloads that it may list."""
    told = re.split("Exception raised from|but expected one of", message)[0].lower()
    return set(_FACT.findall(told.replace("long int", "long")))


def _on_no_device_here(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_on_no_device_here, value))
    return isinstance(value, peer.Tensor) and value.device.type == "meta"


def _raised(call: Any, arguments: list[Any], options: Any) -> Exception | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call(*arguments, **options)
        except Exception as error:
            return error
    return None


def _in_place(path: str) -> str | None:
    """The path of the function's in-place method."""
    name = path.rsplit(".", 1)[-1].removeprefix("__r").removesuffix("__") + "_"
    return f"Tensor.{name}" if hasattr(peer.Tensor, name) else None


def _complaints(entry: Entry, path: str, device: str) -> Iterator[str]:
    theirs, ours = resolve(peer, path), resolve(lazytorch, path)
    # Not info.error_inputs(), which looks through the whole call stack for each of them.
    for number, wrong in enumerate(entry.info.error_inputs_func(entry.info, "cpu")):
        sample = wrong.sample_input
        given = [sample.input, *sample.args]
        if _on_no_device_here([*given, *sample.kwargs.values()]):
            continue
        if path != entry.path and ("out" in sample.kwargs or not isinstance(given[0], peer.Tensor)):
            continue
        memory = Memory(device)
        arguments = [memory.translated(value) for value in given]
        options = {name: memory.translated(value) for name, value in sample.kwargs.items()}
        wanted = _raised(theirs, given, sample.kwargs)
        if wanted is None:
            continue
        before = memory.versions()
        found = _raised(ours, arguments, options)
        what = f"{number}: {type(wanted).__name__}: {wanted!s:.200}"
        if found is None:
            yield f"{what}\n    nothing raised"
        elif not isinstance(found, type(wanted)):
            yield f"{what}\n    {type(found).__name__}: {found}"
        elif missing := _facts(str(wanted)) - _facts(str(found)):
            yield f"{what}\n    {found}\n    lacks {sorted(missing)}"
        if memory.versions() != before:
            yield f"{what}\n    wrote into what it was given"


DEVICES = available_devices()
_refused = [entry for entry in entries() if entry.info.error_inputs_func is not None]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", _refused, ids=lambda entry: entry.name)
def test_refused_as_in_pytorch(entry: Entry, device: str) -> None:
    complaints = list(_complaints(entry, entry.path, device))
    if entry.name in DIFFERENT:
        assert complaints, "no longer different: take it off the list"
    else:
        assert not complaints, "\n".join(complaints)


_written = [entry for entry in _refused if _in_place(entry.path)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("entry", _written, ids=lambda entry: entry.name)
def test_refused_in_place_and_nothing_written(entry: Entry, device: str) -> None:
    complaints = list(_complaints(entry, _in_place(entry.path) or "", device))
    assert not complaints, "\n".join(complaints)
