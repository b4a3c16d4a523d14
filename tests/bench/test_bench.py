"""The benchmark: its catalogue, its figures, and one small run of everything on NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazytorch.bench import cold, command, growth, page, plots, table, tuned
from lazytorch.bench.catalog import GROUP_GOALS, GROUPS, WORKLOADS
from lazytorch.bench.command import write_whole
from lazytorch.bench.compare import difference, loss_difference
from lazytorch.bench.contest import Contest
from lazytorch.bench.peers import BEST_OF, PEERS, Contestant, contestants
from lazytorch.bench.programs import (
    jax_kernels,
    jax_models,
    models,
    numpy_kernels,
    tinygrad_programs,
    torch_like,
    weights,
)
from lazytorch.bench.results import (
    ColdStart,
    Growth,
    Outcome,
    Report,
    Result,
    TunedKernel,
    from_json,
    geometric_mean,
    to_json,
)
from lazytorch.bench.timing import Spread, take_turn, warm_up
from lazytorch.bench.worker import COMPARED_LOSSES, Worker
from lazytorch.bench.workload import Goal, Input, UnknownWorkload, Workload, select
from lazytorch.cli import main

NAMES = [workload.name for workload in WORKLOADS]


class Clock:
    """A clock that only calls move on."""

    def __init__(self, *durations: float) -> None:
        self.now = 0.0
        self.durations = list(durations)
        self.calls = 0

    def __call__(self) -> float:
        return self.now

    def work(self) -> None:
        self.now += self.durations[min(self.calls, len(self.durations) - 1)]
        self.calls += 1


# Catalogue ------------------------------------------------------------------------------------


def test_the_catalogue_holds_together() -> None:
    assert len(set(NAMES)) == len(NAMES)
    groups = {workload.group for workload in WORKLOADS}
    for members in GROUPS.values():
        assert set(members) <= groups | set(NAMES)
    assert set(GROUP_GOALS) <= groups
    kinds = {*BEST_OF, "best", "peak", "copy", "memory", "seconds"}
    for workload in WORKLOADS:
        assert workload.program in torch_like.PROGRAMS, workload.name
        assert workload.program in jax_kernels.PROGRAMS or workload.group in ("steps", "gradients")
        assert {goal.against for goal in workload.goals} <= kinds, workload.name
        assert workload.flops or workload.nbytes or workload.group == "tiny"
    kernels = {*torch_like.PROGRAMS} - {"train", "inference", "model_gradients"}
    assert set(numpy_kernels.PROGRAMS) <= kernels
    assert set(jax_kernels.PROGRAMS) == kernels
    # What is not written for tinygrad is reported as not available.
    assert set(tinygrad_programs.KERNELS) <= kernels
    # Gradients without an update are measured beside PyTorch alone.
    trained = {*models.MODELS} - {"gpt_block", "digits"}
    assert set(tinygrad_programs.MODELS) == set(jax_models.MODELS) == trained
    assert set(weights.SHAPES) == set(models.MODELS)


def test_work_is_counted_once() -> None:
    (product,) = select(["matmul-1000x999x1001"], WORKLOADS, GROUPS)
    assert product.flops == 2 * 1000 * 999 * 1001
    assert product.nbytes == 4 * (1000 * 999 + 999 * 1001 + 1000 * 1001)
    (pointwise,) = select(["multiply-add-16M"], WORKLOADS, GROUPS)
    assert pointwise.nbytes == 3 * 4 * (1 << 24)
    (depthwise,) = select(["conv-8x128x56-3x3-depthwise"], WORKLOADS, GROUPS)
    assert depthwise.flops == 2 * 8 * 128 * 56 * 56 * 9
    (resnet,) = select(["resnet18-inference"], WORKLOADS, GROUPS)
    # The known count of this network for images of 32 x 32: 0.56 billion multiply-adds.
    assert resnet.flops / 2 / 16 == pytest.approx(0.556e9, rel=0.01)


def test_inputs_are_the_same_in_every_process() -> None:
    workload = Workload("w", "g", "p", (Input((3,)), Input((4,), below=7)))
    for first, second in zip(workload.arrays(), workload.arrays()):
        assert first.dtype in (np.float32, np.int64)
        np.testing.assert_array_equal(first, second)


def test_names_groups_and_near_matches() -> None:
    steps = [w.name for w in select(["steps"], WORKLOADS, GROUPS)]
    assert steps[0] == "mlp" and "gpt" in steps
    every = ["kernels", "gradients", "steps"]
    assert len(select(every, WORKLOADS, GROUPS)) == len(WORKLOADS)
    assert [w.name for w in select(["gpt", "matmul-64"], WORKLOADS, GROUPS)] == ["matmul-64", "gpt"]
    with pytest.raises(UnknownWorkload, match=r"near matches: .*attention"):
        select(["atention"], WORKLOADS, GROUPS)


@pytest.mark.parametrize("model", ["mlp", "cnn", "resnet18", "gpt"])
def test_weights_are_those_of_the_models(model: str) -> None:
    import lazytorch

    options: dict[str, Any] = {}
    if model == "gpt":
        options = {"width": 16, "layers": 1, "vocabulary": 8, "length": 4, "heads": 2}
    made = models.make(lazytorch, model, **options)
    shapes = {name: tuple(value.shape) for name, value in made.state_dict().items()}
    assert shapes == weights.SHAPES[model](**options)


# Timing ---------------------------------------------------------------------------------------


def test_spread() -> None:
    assert Spread.of([5.0]) == Spread(5, 5, 5, 5, 1)
    assert Spread.of([4.0, 1.0, 3.0, 2.0, 5.0]) == Spread(1, 2, 3, 4, 5)
    with pytest.raises(ValueError, match="no samples"):
        Spread.of([])


def test_warming_up_ends_when_steady() -> None:
    clock = Clock(10, 3, 2, 1.5, 1.2, 1.0, 1.0)
    warm = warm_up(clock.work, 100, clock=clock)
    assert (warm.first, warm.calls) == (10, 4)
    slow = Clock(10, 8)
    assert warm_up(slow.work, 1, clock=slow).calls == 2
    # Every other call is slow: it goes on until the time is over.
    restless = Clock(1, 1, 1, 2, 4, 8, 16, 32)
    assert warm_up(restless.work, 20, clock=restless).calls == 7


def test_a_turn_lasts_about_as_long_as_asked() -> None:
    clock = Clock(1.0)
    assert take_turn(clock.work, 5, clock=clock) == [1.0] * 5
    assert take_turn(Clock(9.0).work, 0.0, clock=Clock(0.0)) == [0.0]
    clock = Clock(0.5)
    assert take_turn(clock.work, 100, batch=4, most=8, clock=clock) == [0.5, 0.5]


# Comparing ------------------------------------------------------------------------------------


def test_outputs_that_are_wrong_are_refused() -> None:
    right = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
    assert difference([right + 1e-6], [right], 1e-4) == ""
    wrong = right.copy()
    wrong[2, 1] += 0.01
    assert "differs by 0.01" in difference([wrong], [right], 1e-4)
    assert "shape" in difference([right.T], [right], 1e-4)
    assert "2 outputs" in difference([right, right], [right], 1e-4)
    missing = right.copy()
    missing[0, 0] = np.nan
    assert "not finite" in difference([missing], [right], 1e-4)
    assert difference([missing], [missing], 1e-4) == ""
    assert "inf" in difference([right], [right * 0], 1e-4)
    assert difference([right[:0]], [right[:0]], 1e-4) == ""


def test_losses_that_differ_are_refused() -> None:
    assert loss_difference([2.0, 1.0], [2.001, 1.003], 2e-3) == ""
    assert "step 1" in loss_difference([2.0, 1.1], [2.0, 1.0], 2e-3)
    assert "step 0" in loss_difference([float("nan")], [2.0], 2e-3)
    assert "1 losses" in loss_difference([2.0], [2.0, 1.0], 2e-3)


def test_slow_steps_answer_as_many_losses() -> None:
    """What goes wrong in the third update shows in the fourth loss."""
    workload = next(workload for workload in WORKLOADS if workload.name == "mlp")
    answer = Worker(Contestant("lazytorch", "numpy")).prepare(workload, compiled=False, seconds=0)
    assert len(answer["losses"]) == COMPARED_LOSSES


# Results --------------------------------------------------------------------------------------


def outcome() -> Outcome:
    goals = (Goal("best", 1.0), Goal("torch", 1.5), Goal("peak", 0.9), Goal("memory", 1.0))
    made = Outcome(
        "w", "g", flops=2e9, nbytes=1e6, goals=goals, limits={"peak": 1e12, "copy": 1e10}
    )
    for name, seconds, ours in (("cpu", 4e-3, True), ("torch", 8e-3, False), ("jax", 3e-3, False)):
        times = Spread(seconds, seconds, seconds * 1.1, seconds * 1.2, 9)
        made.results.append(Result(name, ours, times=times, memory=300 if ours else 200))
    return made


def report() -> Report:
    made = Report("2026-01-01", {"cores": 2}, {"numpy": "2"}, {"seconds": 1.0}, [], [outcome()])
    made.growth.append(Growth("matmul-size", "rows", (64, 128), [outcome(), outcome()]))
    made.cold.append(ColdStart("mlp", "<cpu>", "empty", setup=1.0, first=2.0, asked=1.5))
    made.tuned.append(TunedKernel("w", "cpu", "contract 8x8x8", 1.2e-3, 1e-3, 36, 0, {"rows": 8}))
    return made


def test_figures_are_judged() -> None:
    made = outcome()
    assert made.best_peer() == ("jax", 3e-3)
    judged = {item.goal.against: (item.value, item.reached) for item in made.judge()}
    assert judged["best"] == (pytest.approx(0.75), False)
    assert judged["torch"] == (pytest.approx(2.0), True)
    assert judged["peak"] == (pytest.approx(0.5), False)
    assert judged["memory"] == (pytest.approx(1.5), False)
    assert made.limit(made.results[0]) == ("peak", pytest.approx(0.5))
    assert geometric_mean([made, made], "cpu", "torch") == pytest.approx(2.0)
    assert geometric_mean([made], "cpu", "tinygrad") is None


def test_a_wrong_peer_is_nobody_to_beat() -> None:
    made = outcome()
    made.results[2].status = "wrong"
    assert made.best_peer() == ("torch", 8e-3)
    made.results[0].status = "wrong"
    assert [item.value for item in made.judge()] == [None] * 4


def test_json_round_trip() -> None:
    text = to_json(report())
    assert from_json(text) == report()
    record = json.loads(text)["outcomes"][0]
    assert record["best_peer"] == "jax"
    assert record["results"][0]["ratio_to_best"] == pytest.approx(0.75)
    assert {item["reached"] for item in record["judged"]} == {True, False}
    with pytest.raises(ValueError, match="schema 1"):
        from_json('{"schema": 0}')


def test_table_text() -> None:
    made = outcome()
    made.results.append(Result("tinygrad", status="failed", reason="Trace\nValueError: no"))
    made.results.append(Result("numpy", status="wrong", reason="output 0 differs"))
    lines = table.lines_of(made)
    assert lines[0].split()[:6] == ["w", "cpu", "4.000", "4.400", "18%", "0.75"]
    assert "500 GFLOP/s    50% fma" in lines[0]
    assert "≥ 1 best: 0.75 ✗; ≥ 1.5 torch: 2.00 ✓" in lines[0]
    assert any("tinygrad" in line and line.endswith("FAILED: ValueError: no") for line in lines)
    assert any(line.endswith("WRONG: output 0 differs") for line in lines)
    whole = report()
    whole.outcomes.append(made)
    said = "\n".join(table.summary(whole, {"g": Goal("torch", 2.5)}))
    assert "geometric mean of 2: ≥ 2.5 torch: 2.00 ✗" in said
    assert "asked figures reached: 2 of 8" in said
    assert "WRONG or FAILED: w on tinygrad, w on numpy" in said


def test_growth_is_told_by_its_exponent() -> None:
    series = next(series for series in growth.SERIES if series.name == "matmul-size")
    outcomes = []
    for workload, seconds in zip(series.workloads(), (1.0, 1.0, 1.0, 2.0, 4.0, 8.0, 32.0)):
        times = Spread(seconds, seconds, seconds, seconds, 1)
        result = Result("lazytorch cpu", True, times=times, device_seconds=seconds / 4)
        outcomes.append(Outcome(workload.name, "g", results=[result]))
    (line,) = growth.lines_of(series, outcomes)
    for found in outcomes:
        found.results[0].status = "unverified"
    # How its own time grows is known without a peer to compare with.
    assert growth.lines_of(series, outcomes) == [line]
    assert not any(outcome.seconds("lazytorch cpu") for outcome in outcomes)
    # Eight times the work in four times the time.
    assert "grows as work^0.67; outside kernels: 75%, 75%" in line
    assert growth.exponent([1.0], [1.0]) is None
    names = [workload.name for series in growth.SERIES for workload in series.workloads()]
    assert len(set(names)) == len(names)


def test_cold_starts_are_judged_with_what_they_open() -> None:
    line = cold.line_of(report().cold[0])
    assert line.endswith("≤ 1500 ms: 3000.0 ✗")
    assert "FAILED: no" in cold.line_of(ColdStart("mlp", "cpu", "warm", "failed", "Trace\nno"))


def test_a_fresh_process_makes_its_first_step() -> None:
    (mlp,) = select(["mlp"], WORKLOADS, GROUPS)
    lines: list[str] = []
    found = cold.measure([mlp], [Contestant("lazytorch", "numpy")], 1, lines.append)
    assert [item.caches for item in found] == ["empty", "warm"]
    assert all(item.status == "ok" and item.second > 0 for item in found), lines


def test_the_page_is_one_file_and_escaped() -> None:
    text = page.page_of(report(), {"matmul": b"picture"})
    assert "data:image/png;base64,cGljdHVyZQ==" in text
    assert "&lt;cpu&gt;" in text and "<cpu>" not in text
    assert "asked figures reached: 1 of 4" in text


def test_pictures() -> None:
    pytest.importorskip("matplotlib")
    pictures = plots.draw(report())
    assert set(pictures) == {"g", "growth-matmul-size", "cold"}
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())


def test_pictures_need_matplotlib(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["bench", "matmul-64", "--html", "page.html"]) == 2
    assert 'pip install "lazytorch[bench]"' in capsys.readouterr().err


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_whole(path, b"first")
    with pytest.raises(TypeError):
        write_whole(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


# Running --------------------------------------------------------------------------------------


def test_missing_peers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "jax", ("jax_peer", "no_such_package_here", "jax"))
    found, missing = contestants(["numpy"], ["numpy", "jax"])
    assert [contestant.label for contestant in found] == [
        "lazytorch numpy",
        "lazytorch numpy compiled",
        "numpy",
    ]
    assert missing == ["jax is left out: not installed (pip install jax)"]


def test_a_run_in_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    names = ["matmul-64", "adds-1000"]
    arguments = ["--device", "numpy", "--peers", "numpy", "--seconds", "0.05", "--json", str(path)]
    assert main(["bench", *names, *arguments]) == 0
    assert "matmul-64" in capsys.readouterr().out
    made = from_json(path.read_text())
    assert [item.workload for item in made.outcomes] == names
    for item in made.outcomes:
        ours, peer = item.results[1], item.results[0]
        assert (ours.ours, ours.status, peer.status) == (True, "ok", "ok")
        assert ours.times is not None and ours.times.minimum > 0 and ours.launches
        assert item.reference == "numpy"


def test_a_wrong_output_is_never_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    contest = Contest([Contestant("numpy"), Contestant("lazytorch", "numpy")], 0.01)

    class Liar:
        alive = False

        def __init__(self, value: float) -> None:
            self.value = value

        def ask(self, name: str, *arguments: Any) -> Any:
            if name == "turn":
                return [1.0]
            outputs = [np.full(3, self.value)]
            return {"first": 1.0, "call": 1.0, "programs": 0, "launches": 1, "outputs": outputs}

    monkeypatch.setattr(contest, "_workers", dict(zip(contest.contestants, (Liar(1.0), Liar(2.0)))))
    made = contest.run(Workload("w", "g", "adds", ()))
    assert [result.status for result in made.results] == ["ok", "wrong"]
    assert made.results[0].times is not None and made.results[1].times is None


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--peers", "jaxx"], "no peer is called 'jaxx'"),
        (["--device", "nowhere"], "nowhere"),
        (["--json", "no/such/folder/run.json"], "folder no/such/folder does not exist"),
    ],
)
def test_requests_without_sense(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "matmul-64", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_how_near_defaults_are_to_tuned_kernels() -> None:
    kernels = [
        TunedKernel("w", "cpu", "contract 8x8x8 float32", 1.2e-3, 1e-3, 36, 2, {"rows": 8}),
        TunedKernel("w", "cpu", "map 64 float32", 9e-3, 9e-3, 8, 0, None),
        TunedKernel("v", "cpu", "map 64 float32", 3e-3, 2e-3, 8, 0, {"share": 8}),
    ]
    # Of kernels each counts alike, of workloads the sum of their kernels.
    assert tuned.summary(kernels) == [
        "cpu: 1 of 3 kernels, 1 of 2 workloads within 15% of tuned; geometric mean of the "
        "workloads 1.24, worst v 1.50"
    ]
    assert tuned.line_of(kernels[0]).endswith("1.20 36, 2 wrong  rows=8")
    assert [w.name for w in select(tuned.WORKLOADS, WORKLOADS, GROUPS)] == list(tuned.WORKLOADS)
