"""What programs ask about their surroundings: as PyTorch answers where it has no card."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lazytorch as torch
from lazytorch import compat

NO_CARD = not torch.cuda.is_available()

ANSWERS = """
torch.cuda.is_available()
torch.cuda.device_count()
torch.cuda.is_initialized()
torch.cuda.empty_cache()
torch.cuda.memory_allocated()
torch.cuda.max_memory_allocated()
torch.cuda.memory_reserved()
torch.cuda.max_memory_reserved()
torch.cuda.manual_seed(0)
torch.cuda.manual_seed_all(0)
torch.cuda.get_rng_state_all()
torch.cuda.is_bf16_supported()
torch.cuda.get_arch_list()
torch.version.cuda
torch.backends.cudnn.is_available()
torch.backends.cudnn.version()
torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.cudnn.enabled
torch.backends.cuda.is_built()
torch.backends.cuda.matmul.allow_tf32
torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.enable_math_sdp(True)
torch.backends.mps.is_available(), torch.backends.mps.is_built()
torch.mps.device_count(), torch.mps.is_available()
torch.xpu.is_available(), torch.xpu.device_count(), torch.xpu.empty_cache()
torch.accelerator.is_available(), torch.accelerator.current_accelerator()
torch.cpu.is_available(), torch.cpu.device_count(), torch.cpu.current_device()
torch.distributed.is_initialized()
torch.jit.is_scripting(), torch.jit.is_tracing(), torch.onnx.is_in_onnx_export()
torch.compiler.is_compiling(), torch.compiler.is_dynamo_compiling()
torch.__version__ >= "1.13", torch.__version__ < (3, 0), torch.__version__ < "2.4.0"
torch.device("cuda" if torch.cuda.is_available() else "cpu").type
isinstance(torch.ones(1), torch.autograd.Variable)
torch.autograd.Variable(torch.ones(2), requires_grad=True).requires_grad
torch.jit.ignore(lambda x: x + 1)(2), torch.jit.annotate(int, 3)
torch.multiprocessing.get_sharing_strategy() in torch.multiprocessing.get_all_sharing_strategies()
""".strip().splitlines()

NEED_A_CARD = """
torch.cuda.current_device()
torch.cuda.get_device_name(0)
torch.cuda.get_device_properties(0)
torch.cuda.synchronize()
torch.cuda.set_device(0)
torch.cuda.current_stream()
torch.accelerator.synchronize()
torch.ones(1).cuda()
torch.ones(1, device="cuda")
torch.nn.Linear(1, 1).to("cuda")
""".strip().splitlines()

REFUSED = [
    ("torch.jit.script(lambda x: x)", "compile"),
    ("torch.distributed.init_process_group('gloo')", "gradients accumulated"),
    ("torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(1, 1))", "gradients accumulated"),
    ("torch.hub.load('a', 'b')", "install the package"),
    ("torch.onnx.export(None, (), 'x')", "state_dict"),
    ("torch.export.export(None, ())", "state_dict"),
    ("torch.fx.symbolic_trace(None)", "lazytorch.graph"),
    ("torch.profiler.profile()", "lazytorch.profile"),
    ("torch.library.custom_op('a::b')", "autograd.Function"),
    ("torch.ao.quantization.quantize_dynamic(None)", "int8"),
    ("torch.ones(1, dtype=torch.float8_e5m2)", "bfloat16"),
]


@pytest.mark.skipif(not NO_CARD, reason="there is a card")
def test_answers_are_pytorchs() -> None:
    pytorch = pytest.importorskip("torch")
    if pytorch.cuda.is_available():
        pytest.skip("PyTorch has a card")
    for question in ANSWERS:
        answers = [eval(question, {"torch": library}) for library in (torch, pytorch)]
        assert answers[0] == answers[1], question


@pytest.mark.skipif(not NO_CARD, reason="there is a card")
@pytest.mark.parametrize("program", NEED_A_CARD)
def test_what_needs_a_card_says_so(program: str) -> None:
    with pytest.raises(RuntimeError, match="needs an OpenCL GPU and none was found"):
        eval(program, {"torch": torch})


@pytest.mark.parametrize(("program", "advice"), REFUSED)
def test_what_is_refused_says_what_to_do(program: str, advice: str) -> None:
    with pytest.raises(NotImplementedError, match=advice):
        eval(program, {"torch": torch})


def test_what_is_refused_is_not_there() -> None:
    assert not hasattr(torch.jit, "nonsense")
    assert pickle.loads(pickle.dumps(torch.channels_last)) is torch.channels_last


def test_events_take_the_time() -> None:
    start, end = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    with torch.cuda.stream(torch.cuda.Stream()):
        start.record()
        torch.ones(4).sum()
        end.record()
    end.synchronize()
    assert start.elapsed_time(end) > 0 and end.query()
    with pytest.raises(RuntimeError, match="enable_timing"):
        start.elapsed_time(torch.cuda.Event())
    with pytest.raises(RuntimeError, match="must be recorded"):
        start.elapsed_time(torch.Event(enable_timing=True))


def test_switches_are_kept() -> None:
    torch.backends.cudnn.benchmark = True
    with torch.backends.cudnn.flags(enabled=False, benchmark=False):
        assert not torch.backends.cudnn.enabled and not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.enabled and torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False


def test_marks_of_the_compiler() -> None:
    @torch.compiler.disable
    def seen(x: Any) -> Any:
        calls.append(1)
        return x + 1

    @torch.compile(backend="inductor", mode="max-autotune", dynamic=False, options={"a": 1})
    def step(x: Any) -> Any:
        return seen(x) * 2

    @torch.compile
    def twice(x: Any) -> Any:
        calls.append(2)
        return x * 2

    calls: list[int] = []
    with pytest.warns(UserWarning, match="torch.compiler.disable"):
        for _ in range(6):
            assert step(torch.ones(1)).item() == 4
    assert calls.count(1) == 6
    with torch.compiler.set_stance("force_eager"):
        for _ in range(4):
            twice(torch.ones(1))
    assert calls.count(2) == 4
    assert torch.compiler.list_backends() == ["lazytorch"]


def test_programs_may_import_torch(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        "import sys\n"
        "import torch, torch.nn as nn, torch.optim as optim\n"
        "import torch.nn.functional as F\n"
        "import torch.distributed as dist, torch.multiprocessing as mp\n"
        "from torch.cuda.amp import GradScaler, autocast\n"
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "from torch.optim.lr_scheduler import StepLR\n"
        "import torch.backends.cudnn as cudnn, torch.jit\n"
        "import lazytorch\n"
        "assert torch is lazytorch and F is lazytorch.nn.functional and nn is lazytorch.nn\n"
        "assert nn.__spec__.name == 'lazytorch.nn' and sys.argv[1:] == ['--epochs', '1']\n"
        "assert not dist.is_available() and not cudnn.benchmark\n"
        "print(torch.ones(2).sum())\n"
    )
    command = [sys.executable, "-m", "lazytorch", "run", str(script), "--epochs", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout == "tensor(2.)\n", ended.stderr


def test_pytorch_and_its_stand_in_do_not_mix() -> None:
    pytest.importorskip("torch")
    with contextlib.ExitStack() as stack:
        stack.callback(compat.undo)
        with pytest.raises(RuntimeError, match="torch was imported before"):
            compat.stand_in_for_torch()
    assert sys.modules["torch"].__name__ == "torch"


def _sum(number: int, out: Any) -> None:
    out.put((number, float(torch.full((3,), number, device="numpy").sum())))


def _fail(number: int) -> None:
    raise ValueError(f"from {number}")


def test_processes() -> None:
    mp = torch.multiprocessing
    results = mp.get_context("fork").SimpleQueue()
    mp.start_processes(_sum, (results,), nprocs=2, start_method="fork")
    assert sorted(results.get() for _ in range(2)) == [(0, 0.0), (1, 3.0)]
    with pytest.raises(mp.ProcessRaisedException, match="ValueError: from 0"):
        mp.start_processes(_fail, nprocs=1, start_method="fork")
