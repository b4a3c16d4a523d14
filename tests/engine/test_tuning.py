"""The tuner: no candidate may change a result, and what wins is kept, found again, and harmless
when it is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazytorch import config, engine
from lazytorch.cli import main
from lazytorch.codegen.candidates import candidates
from lazytorch.codegen.choice import (
    ContractSchedule,
    GroupSchedule,
    RowSchedule,
    Schedule,
    from_data,
    to_data,
)
from lazytorch.engine import pipeline, tuning
from lazytorch.engine.tuning import compare, report, session, table
from lazytorch.engine.tuning.trial import Trial, Variant
from lazytorch.ir.kernel import Kernel
from lazytorch.ir.node import Node
from lazytorch.ops import elementwise, reduction
from lazytorch.runtime import get_device
from lazytorch.schedule.graph import number_graph
from tests.graphs import DEVICES, Builder

OPENCL = [name for name in DEVICES if name.startswith("opencl")]
pytestmark = pytest.mark.skipif(not OPENCL, reason="no OpenCL device")
rng = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(report, "_found", [])
    monkeypatch.setattr(report, "note", report._found.append)
    with config.override(CACHE_DIR=str(tmp_path)):
        engine.clear_plans()
        yield tmp_path / "tuned"
    engine.clear_plans()


def array(*shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def product(build: Builder) -> Node:
    first, second = build.leaf(array(33, 70)), build.leaf(array(70, 45))
    return build.relu(build.matmul(first, second))


def transposed(build: Builder) -> Node:
    return build.matmul(build.permute(build.leaf(array(70, 33)), (1, 0)), build.leaf(array(70, 48)))


def softmax(build: Builder) -> Node:
    return build.softmax(build.leaf(array(9, 150)))


def column_sums(build: Builder) -> Node:
    return build.reduce(reduction.SUM, build.leaf(array(40, 131)), (0,))


def gelu(build: Builder) -> Node:
    return build.gelu(build.leaf(array(3, 700)))


def integers(build: Builder) -> Node:
    counts = build.leaf(rng.integers(-1000, 1000, (25, 64)).astype(np.int64))
    return build.reduce(reduction.SUM, build.apply(elementwise.MUL, counts, counts), (1,))


GRAPHS: list[Callable[[Builder], Node]] = [
    product, transposed, softmax, column_sums, gelu, integers,
]  # fmt: skip


def trial_of(node: Node, build: Builder) -> Trial:
    """A trial of the last kernel behind a node whose sources are leaves."""
    device = get_device(build.device)
    numbering = number_graph([node])
    scheduled = pipeline.schedule(numbering, device)
    run = session._Run(
        scheduled.graph, scheduled.steps, numbering, device, pipeline.target_of(device)
    )
    for step in scheduled.steps[:-1]:
        run.compute(step)
    step = scheduled.steps[-1]
    assert isinstance(step, Kernel)
    sizes = {number: scheduled.graph.nbytes(number) for number in range(len(scheduled.graph))}
    return Trial(
        device, run.target, step.bodies[0], step.values, run.buffers, sizes, run.scalars
    )  # fmt: skip


@pytest.mark.parametrize("device", OPENCL)
@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.__name__)
def test_every_candidate_computes_the_same(graph: Callable[[Builder], Node], device: str) -> None:
    build = Builder(device)
    with build.settings():
        trial = trial_of(graph(build), build)
        every = candidates(trial.body, trial.target)
        assert len(every) > 3
        (rule,) = trial.build([None])
        assert isinstance(rule, Variant)
        trial.take_as_right(rule)
        faults: dict[Schedule, str] = {}
        wanted = every[:: max(1, len(every) // 6)]
        for schedule, variant in zip(wanted, trial.build(wanted)):
            fault = variant if isinstance(variant, str) else trial.fault(variant)
            if fault:
                faults[schedule] = fault
    assert not faults


def test_schedules_are_data_and_nothing_else() -> None:
    for schedule in (
        ContractSchedule(6, 4, 256, 4, 8, 1, pack="rows"),
        RowSchedule("inner", 4, 2, stash=False),
        GroupSchedule(16, 16, 4, 4, 16, 1, 2),
    ):
        assert from_data(json.loads(json.dumps(to_data(schedule)))) == schedule
    good = to_data(GroupSchedule(16, 16, 4, 4, 16, 1, 2))
    for bad in (None, [], {}, {**good, "rows": "16"}, {**good, "rows": -1}, {**good, "more": 1},
                {**good, "kind": "Path"}, {**good, "rows": True}):  # fmt: skip
        with pytest.raises(ValueError):
            from_data(bad)


def large(build: Builder, seed: int = 1) -> Node:
    values = np.random.default_rng(seed).standard_normal((160, 200)).astype(np.float32)
    return build.matmul(build.leaf(values), build.leaf(values.T.copy()))


def tuned(node: Node, build: Builder) -> Any:
    return build.compute(node, TUNE="tune", TUNE_LIMIT=30.0)[0]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few candidates, each of which seems to be faster than the rules' choice."""
    monkeypatch.setattr(session, "SHORTEST", 0.0)
    monkeypatch.setattr(session, "GAIN", 0.0)
    monkeypatch.setattr(session, "candidates", lambda body, target: candidates(body, target)[:4])


def test_what_wins_is_kept_and_used_by_the_next_process(quick: None, folder: Path) -> None:
    build = Builder("opencl:0")
    plain = build.compute(large(build))[0]
    got = tuned(large(build), build)
    np.testing.assert_allclose(got, plain, rtol=1e-4, atol=1e-3)
    (found,) = tuning.saved()
    assert found.schedule is not None and found.tried == 4 and found.is_current
    device = get_device("opencl:0")
    signature = tuning.signature(device)
    assert signature
    table._tables.clear()  # as another process would find it
    engine.clear_plans()
    asked: list[Schedule | None] = []
    chosen = tuning.chooser(device, pipeline.target_of(device))
    for step in engine.plan_for([large(build)]).steps:
        asked += [chosen(body, step.values) for body in step.bodies]  # type: ignore[union-attr]
    assert asked == [found.schedule]
    assert tuning.signature(device) == signature
    with config.override(TUNE="ignore"):
        assert tuning.signature(device) == ""
        assert tuning.chooser(device, pipeline.target_of(device))(None, {}) is None  # type: ignore[arg-type]
    # Nothing is tuned twice.
    report._found.clear()
    engine.clear_plans()
    tuned(large(build), build)
    assert not report._found


def test_a_damaged_finding_is_a_miss(quick: None, folder: Path) -> None:
    build = Builder("opencl:0")
    tuned(large(build), build)
    (file,) = folder.iterdir()
    for content in (b"", b"garbage", file.read_bytes()[:-3]):
        file.write_bytes(content)
        table._tables.clear()
        assert not list(tuning.saved())
        assert tuning.signature(get_device("opencl:0")) == ""
    engine.clear_plans()
    build.compute(large(build))


def test_a_wrong_candidate_never_wins(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lazy(Trial):
        def build(self, schedules: Any) -> Any:
            variants = super().build(schedules)
            for schedule, variant in zip(schedules, variants):
                if schedule is not None:
                    variant.launches.clear()  # very fast
            return variants

    monkeypatch.setattr(session, "Trial", Lazy)
    build = Builder("opencl:0")
    tuned(large(build), build)
    (found,) = tuning.saved()
    assert found.schedule is None and found.discarded == found.tried == 4


def test_a_crashing_candidate_is_discarded(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    measure = Trial.measure

    def fails(self: Trial, variant: Variant, hopeless: float = 1e9) -> float:
        if variant.schedule is not None:
            raise engine_error("the driver says no")
        return measure(self, variant, hopeless)

    engine_error = RuntimeError
    monkeypatch.setattr(Trial, "measure", fails)
    build = Builder("opencl:0")
    tuned(large(build), build)
    (found,) = tuning.saved()
    assert found.schedule is None and found.discarded == 4


def test_what_took_a_process_down_is_not_tried_again(
    quick: None, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    class Gone(BaseException):
        """The process dies here."""

    def dies(self: Trial, variant: Variant) -> str:
        raise Gone

    build = Builder("opencl:0")
    fault = Trial.fault
    monkeypatch.setattr(Trial, "fault", dies)
    with pytest.raises(Gone):
        tuned(large(build), build)
    assert [file.name.endswith(table.TRYING) for file in folder.iterdir()] == [True]
    monkeypatch.setattr(Trial, "fault", fault)
    tuned(large(build), build)
    (found,) = tuning.saved()
    assert (found.tried, found.discarded) == (3, 1)
    assert len(list(folder.iterdir())) == 1


def test_interrupting_keeps_what_was_found(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    build = Builder("opencl:0")
    x = build.leaf(array(64, 128))
    node = build.matmul(build.softmax(x), build.leaf(array(128, 32)))
    started = []

    def interrupted(body: Any, target: Any) -> Any:
        started.append(body)
        if len(started) == 2:
            raise KeyboardInterrupt
        return candidates(body, target)[:2]

    monkeypatch.setattr(session, "candidates", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuned(node, build)
    assert len(list(tuning.saved())) == 1
    assert build.compute(node)[0].shape == (64, 32)


def test_tuning_writes_to_nothing_of_the_users(quick: None) -> None:
    """The leaf of an update in place: computed once, not once for each candidate."""
    build = Builder("opencl:0")
    values = array(50, 60)
    leaf = build.leaf(values)
    node = build.apply(elementwise.ADD, build.apply(elementwise.MUL, leaf, leaf), leaf)
    del leaf  # the graph alone has it: its memory may be given to the result
    got = tuned(node, build)
    np.testing.assert_array_equal(got, values * values + values)


def test_floats_may_differ_by_the_order_of_additions() -> None:
    from lazytorch import dtypes

    wanted = array(1000)
    near = wanted + np.float32(1e-6) * np.abs(wanted).mean()
    assert not compare.difference(near, wanted, dtypes.float32, 512)
    assert "1 of 1000" in compare.difference(
        np.where(np.arange(1000) == 7, 0, wanted), wanted, dtypes.float32, 512
    )
    special = np.array([np.nan, np.inf, -np.inf, 0], np.float32)
    assert not compare.difference(special, special, dtypes.float32, 4)
    assert compare.difference(special[::-1], special, dtypes.float32, 4)
    whole = np.arange(5)
    assert compare.difference(whole + (whole == 3), whole, dtypes.int64, 1)


def test_the_command_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "work.py"
    script.write_text(
        "import sys, lazytorch as torch\n"
        "x = torch.ones(64, 600, device='opencl:0')\n"
        "print(sys.argv[1:], float((x @ x.T)[0, 0]), __name__)\n"
    )
    monkeypatch.setattr("sys.argv", ["lazytorch"])
    monkeypatch.setattr(session, "candidates", lambda body, target: candidates(body, target)[:2])
    monkeypatch.setattr(session, "SHORTEST", 0.0)
    assert main(["tune"]) == 2
    assert main(["tune", str(script), "--fast", "1"]) == 0
    shown = capfd.readouterr()
    assert "['--fast', '1'] 600.0 __main__" in shown.out
    assert "contract 64x64x600 float32" in shown.err and "x the default" in shown.err
    assert main(["tune", "--list"]) == 0
    assert "contract 64x64x600 float32" in capfd.readouterr().out
    assert main(["tune", "--list", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)[0]["current"] is True
    assert main(["tune", "--clear"]) == 0
    assert main(["tune", "--list"]) == 0
    assert "nothing was tuned" in capfd.readouterr().out
    assert main(["tune", str(tmp_path / "missing.py")]) == 1
