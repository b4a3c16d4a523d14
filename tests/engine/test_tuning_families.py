"""Every kind of kernel that has choices: what may be tried computes the same, a finding is used by
another process, and what computes something else never wins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import config, engine
from lazytorch.codegen.candidates import candidates, family_of
from lazytorch.codegen.choice import (
    AttentionSchedule,
    ItemSchedule,
    PixelSchedule,
    RecurrentSchedule,
    Schedule,
    TapSchedule,
    WalkSchedule,
)
from lazytorch.engine import pipeline, tuning
from lazytorch.engine.tuning import compare, session
from lazytorch.engine.tuning.trial import Trial, Variant
from lazytorch.ir.kernel import (
    AttentionBody,
    Body,
    ContractBody,
    Kernel,
    RecurrentBody,
    ScanBody,
    ScatterBody,
)
from lazytorch.nn import functional
from lazytorch.runtime import get_device
from lazytorch.schedule.graph import number_graph
from lazytorch.tensor.storage import node_of
from tests.graphs import DEVICES

OPENCL = [name for name in DEVICES if name.startswith("opencl")]
pytestmark = pytest.mark.skipif(not OPENCL, reason="no OpenCL device")
Tensors = tuple[Any, ...]


def array(device: str, *shape: int, grad: bool = False) -> Any:
    values = np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)
    return torch.tensor(values, device=device).requires_grad_(grad)


def attention(device: str) -> Tensors:
    x = [array(device, 2, size, 24) for size in (70, 90, 90)]
    return (functional.scaled_dot_product_attention(*x),)


def attention_gradient(device: str) -> Tensors:
    x = [array(device, 2, 70, 24, grad=True) for _ in range(3)]
    made = functional.scaled_dot_product_attention(*x, is_causal=True)
    return tuple(torch.autograd.grad(made, x, array(device, 2, 70, 24)))


def placed(layer: Any, device: str) -> Any:
    """The layer with its weights on a device, where graphs of that device find them."""
    for weight in layer.to(device).parameters():
        weight.realize()
    return layer


def recurrence(device: str) -> Tensors:
    layer = placed(torch.nn.LSTM(12, 20), device)
    return (layer(array(device, 3, 9, 12))[0],)


def recurrence_gradient(device: str) -> Tensors:
    layer, x = placed(torch.nn.GRU(12, 20), device), array(device, 3, 9, 12, grad=True)
    return tuple(torch.autograd.grad(layer(x)[0], x, array(device, 3, 9, 20)))


def convolution(device: str) -> Tensors:
    return (functional.conv2d(array(device, 3, 20, 9, 9), array(device, 40, 20, 3, 3), padding=1),)


def weight_gradient(device: str) -> Tensors:
    weight = array(device, 40, 20, 3, 3, grad=True)
    made = functional.conv2d(array(device, 3, 20, 9, 9), weight, padding=1)
    return tuple(torch.autograd.grad(made, weight, array(device, 3, 40, 9, 9)))


def scan_rows(device: str) -> Tensors:
    return (array(device, 70, 100).cumsum(1),)


def scan_columns(device: str) -> Tensors:
    return (array(device, 70, 100).cumsum(0),)


def scatter(device: str) -> Tensors:
    places = torch.tensor(np.arange(50) * 7 % 40, device=device)
    return (array(device, 40, 33).index_add(0, places, array(device, 50, 33)),)


CASES: list[tuple[Callable[[str], Tensors], type, type]] = [
    (attention, AttentionBody, AttentionSchedule),
    (attention_gradient, AttentionBody, AttentionSchedule),
    (recurrence, RecurrentBody, RecurrentSchedule),
    (recurrence_gradient, RecurrentBody, RecurrentSchedule),
    (convolution, ContractBody, PixelSchedule),
    (weight_gradient, ContractBody, TapSchedule),
    (scan_rows, ScanBody, WalkSchedule),
    (scan_columns, ScanBody, WalkSchedule),
    (scatter, ScatterBody, WalkSchedule),
]
# On the first device everything, in the other family what differs there; elsewhere what is compiled
# quickly.
GPU = (attention_gradient, recurrence, scan_rows, scatter)
PAIRS = [
    pytest.param(case, device, id=f"{case[0].__name__}-{device}")
    for device in OPENCL
    for case in CASES
    if device == OPENCL[0]
    or case[0] in (GPU if device.endswith("gpu") else (scan_columns, scatter))
]


def trials(tensors: Tensors, name: str, kind: type) -> list[Trial]:
    """Trials of the bodies of one type, each with the inputs it has in this graph."""
    device = get_device(name.partition("/")[0])
    numbering = number_graph([node_of(tensor) for tensor in tensors])
    scheduled = pipeline.schedule(numbering, device)
    target = pipeline.target_of(device)
    run = session._Run(scheduled.graph, scheduled.steps, numbering, device, target)
    sizes = {number: scheduled.graph.nbytes(number) for number in range(len(scheduled.graph))}
    found = []
    for step in scheduled.steps:
        for body in step.bodies if isinstance(step, Kernel) else ():
            if isinstance(body, kind):
                trial = Trial(device, target, body, step.values, run.buffers, sizes, run.scalars)
                found.append(trial)
        run.compute(step)
    return found


@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_every_candidate_computes_the_same(
    case: tuple[Callable[[str], Tensors], type, type], name: str
) -> None:
    make, body_type, schedule_type = case
    device, _, family = name.partition("/")
    if family:
        schedule_type = ItemSchedule if body_type in (AttentionBody, RecurrentBody) else object
    get_device(device)  # opened as what it is
    with config.override(SCHEDULE_FAMILY=family):
        # A convolution with a weight's gradient is a contraction too.
        trial = trials(make(device), name, body_type)[-1]
        every = [
            schedule for schedule in candidates(trial.body, trial.target)
            if isinstance(schedule, schedule_type)
        ]  # fmt: skip
        assert every
        (rule,) = trial.build([None])
        assert isinstance(rule, Variant)
        trial.take_as_right(rule)
        faults: dict[Schedule, str] = {}
        # An attention takes seconds to compile.
        count = 1 if body_type is AttentionBody else 2
        wanted = every[len(every) // 2 :: max(1, len(every) // (2 * count))]
        for schedule, variant in zip(wanted, trial.build(wanted)):
            fault = variant if isinstance(variant, str) else trial.fault(variant)
            if fault:
                faults[schedule] = fault
    assert not faults


def test_a_wish_that_does_not_fit_is_left_to_the_rules() -> None:
    name = OPENCL[0]
    for make, kind, schedule in (
        (attention, AttentionBody, AttentionSchedule(16, 999, 9, 7, 5, 3, 1)),
        (recurrence, RecurrentBody, RecurrentSchedule(1000, 1000, 1000)),
        (convolution, ContractBody, PixelSchedule(9, 9, 9, 9, 9, 9, 9, 9, 9)),
        (weight_gradient, ContractBody, TapSchedule(99, 99, 9, 9, 9, 9, 9, 9)),
        (convolution, ContractBody, AttentionSchedule(16, 8, 2, 16, 128, 64, 1)),
    ):
        trial = trials(make(name), name, kind)[-1]
        texts = [[source.text for source in trial._write(s, "k")[0]] for s in (None, schedule)]
        assert texts[0] == texts[1]


def test_a_family_says_how_long_its_sums_are() -> None:
    """What a schedule may reorder is compared with a tolerance, everything else exactly."""
    name = OPENCL[0]
    terms = {}
    for make, kind in ((attention, AttentionBody), (scan_rows, ScanBody), (scatter, ScatterBody)):
        body = trials(make(name), name, kind)[0].body
        family = family_of(body)
        assert family is not None
        terms[make.__name__] = family.terms(body)
    assert terms == {"attention": 90, "scan_rows": 1, "scatter": 1}


SECOND = """
import json, sys
from lazytorch.engine import plan_for, pipeline, tuning
from lazytorch.codegen.choice import to_data
from lazytorch.runtime import get_device
from lazytorch.tensor.storage import node_of
from tests.engine import test_tuning_families as here
name = sys.argv[1]
tensors = here.attention(name)
device = get_device(name)
chosen = tuning.chooser(device, pipeline.target_of(device))
steps = plan_for([node_of(t) for t in tensors]).steps
wanted = [chosen(body, step.values) for step in steps for body in step.bodies]
print(json.dumps([[None if s is None else to_data(s) for s in wanted],
                  tensors[0].cpu().numpy().tolist()]))
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Few candidates, each of which seems to be faster than the rules' choice."""

    def few(body: Body, target: Any) -> Any:
        return candidates(body, target)[:2]

    monkeypatch.setattr(session, "SHORTEST", 0.0)
    monkeypatch.setattr(session, "GAIN", 0.0)
    monkeypatch.setattr(session, "candidates", few)
    with config.override(CACHE_DIR=str(tmp_path)):
        engine.clear_plans()
        yield tmp_path
    engine.clear_plans()


def test_another_process_uses_what_was_found(quick: Path) -> None:
    plain = attention(OPENCL[0])[0].cpu().numpy()
    with config.override(TUNE="tune"):
        attention(OPENCL[0])[0].cpu().numpy()
    (found,) = tuning.saved()
    assert isinstance(found.schedule, AttentionSchedule) and found.discarded == 0
    environment = {**os.environ, "LAZYTORCH_CACHE_DIR": str(quick), "LAZYTORCH_TUNE": "use"}
    root = Path(__file__).parents[2]
    paths = (str(root), os.environ.get("PYTHONPATH"))
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    answer = subprocess.run(
        [sys.executable, "-c", SECOND, OPENCL[0]], env=environment, capture_output=True, text=True,
        check=True, cwd=root,
    )  # fmt: skip
    wanted, result = json.loads(answer.stdout)
    assert {"kind": "AttentionSchedule", **found.schedule.__dict__} in wanted
    terms = 90
    got = np.array(result, np.float32).reshape(-1)
    assert not compare.difference(got, plain.reshape(-1), torch.float32, terms)


def test_a_wrong_attention_is_rejected(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate that leaves out the last block of keys is fast, and no winner."""
    build = Trial._write

    def shortened(self: Trial, schedule: Schedule | None, name: str) -> Any:
        if schedule is None or not isinstance(self.body, AttentionBody):
            return build(self, schedule, name)
        short = replace(self.body.keys, size=self.body.keys.size - 32)
        whole, self.kernel = self.kernel, Kernel(
            (replace(self.body, keys=short),), self.kernel.values
        )  # fmt: skip
        try:
            return build(self, schedule, name)
        finally:
            self.kernel = whole

    monkeypatch.setattr(Trial, "_write", shortened)
    with config.override(TUNE="tune"):
        attention(OPENCL[0])[0].cpu().numpy()
    (found,) = tuning.saved()
    assert found.schedule is None and found.discarded == found.tried == 2
