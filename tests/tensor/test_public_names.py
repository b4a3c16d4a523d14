"""Objects of the torch namespace that are no operations: types, formats, limits, switches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

import lazytorch
from tests.programs import outcome

PROGRAMS = """
torch.strided, torch.channels_last, torch.contiguous_format, torch.sparse_coo
type(torch.strided), type(torch.channels_last), type(torch.float32), type(torch.device("cpu"))
type(torch.ones(2)), type(torch.ones(2).shape)
torch.layout()
torch.memory_format()
torch.dtype()
torch.ones(2).layout is torch.strided
torch.zeros(2, 3, 4, 5).is_contiguous(memory_format=torch.channels_last)
torch.zeros(2, 3, 4, 5).permute(0, 3, 1, 2).is_contiguous(memory_format=torch.channels_last)
torch.zeros(2, 1, 4, 5).is_contiguous(memory_format=torch.channels_last)
torch.zeros(2).is_contiguous(memory_format=torch.preserve_format)
torch.zeros(2).is_contiguous(memory_format="x")
torch.ones(2)[:, torch.newaxis].shape
torch.FloatTensor, torch.FloatTensor.dtype, torch.FloatTensor.layout
torch.FloatTensor([1, 2]), torch.LongTensor([1.5]), torch.BoolTensor([1, 0]), torch.HalfTensor([1])
torch.FloatTensor(2, 3).shape, torch.FloatTensor().shape, torch.ByteTensor(torch.Size([2])).shape
isinstance(torch.ones(2), torch.FloatTensor), isinstance(torch.ones(2), torch.LongTensor)
torch.ones(2).type(torch.LongTensor), torch.ones(2).type("torch.DoubleTensor").type()
torch.ones(2).new([3]), torch.ones(2, dtype=torch.int8).new(3).dtype
torch.FloatTensor(1.5)
torch.FloatTensor("a")
torch.FloatTensor(torch.ones(2, dtype=torch.int64))
torch.Tensor(1.5)
torch.Tensor(torch.tensor([1]))
torch.set_default_tensor_type("torch.DoubleTensor"); torch.tensor(1.5).dtype
torch.set_default_tensor_type(torch.IntTensor)
torch.set_default_dtype("float32")
torch.finfo(torch.float16), torch.finfo(torch.bfloat16), torch.finfo(torch.complex64)
[getattr(torch.finfo(torch.float16), n) for n in ("bits", "eps", "max", "tiny", "resolution")]
torch.finfo(torch.float32) == torch.finfo(), torch.finfo(torch.float32) == torch.finfo(torch.half)
torch.iinfo(torch.int64), torch.iinfo(torch.uint8), torch.iinfo(torch.int32).max
torch.iinfo(torch.bool)
torch.finfo(torch.int8)
torch.finfo(torch.float32).__setattr__("max", 1)
torch.complex64.to_real(), torch.float64.to_complex(), torch.bfloat16.to_complex()
torch.int32.to_complex()
torch.Size([2, 3]) + (4,), (1,) + torch.Size([2]), torch.Size([2]) * 2, torch.Size([2, 3])[:1]
torch.Size(np.array([1, 2])), torch.Size(torch.tensor([1, 2])), torch.Size([2, 3]).numel()
torch.Size([1.5])
torch.Size(["a"])
torch.Size([2, 3]) + [1]
torch.Generator().manual_seed(1 << 70)
torch.Generator().set_state(torch.zeros(3))
torch.Generator().set_state(torch.zeros(3, dtype=torch.uint8))
torch.set_rng_state(3)
torch.typename(torch.ones(2)), torch.typename(3)
x = torch.ones(2); x.is_set_to(x.detach()), x.is_set_to(x[:1]), x.is_set_to(torch.ones(2))
torch.ones(2).is_set_to(3)
torch.ones(2, dtype=torch.int64).apply_(lambda x: x + 1.5)
torch.ones(2).map_(torch.arange(2.0), lambda x, y: x + y)
torch.ones(2).apply_(lambda x: "a")
torch.ones(2, requires_grad=True).apply_(lambda x: x)
torch.fill(torch.ones(2), torch.tensor(3)), torch.fill(torch.ones(2, dtype=torch.int64), 3.5)
x = torch.ones(2, 3); x.swapaxes_(0, 1).stride(), x.swapdims_(0, 1).shape
x = torch.arange(6.0); x.as_strided_((2, 2), (2, 1)); x
torch.ones(2).as_subclass(torch.nn.Parameter)
torch.ones(2).to_dense(torch.float64), torch.ones(2).dense_dim(), torch.ones(2).sparse_dim()
torch.use_deterministic_algorithms(True); torch.get_deterministic_debug_mode()
torch.set_deterministic_debug_mode("warn"); torch.is_deterministic_algorithms_warn_only_enabled()
torch.set_deterministic_debug_mode("x")
torch.use_deterministic_algorithms(3)
torch.set_num_threads(0)
torch.set_num_threads("a")
torch.set_float32_matmul_precision("high"); torch.get_float32_matmul_precision()
torch.set_warn_always(1)
torch.set_flush_denormal(3)
torch.zeros(size=(2, 3)), torch.ones(size=[2]), torch.empty(size=(0, 2)), torch.zeros()
torch.rand(size=(2, 3)).shape, torch.randn(size=(2,)).shape, torch.randint(1, size=(2,))
torch.randint(high=1, size=(2, 2)), torch.ones(2).new_zeros(size=(1, 2))
x = torch.arange(6.0); x.view(size=(2, 3)), x.reshape(shape=(3, 2)), torch.reshape(x, shape=(6, 1))
x = torch.ones(1, 2); x.expand(size=(2, 2)), x.repeat(repeats=(2, 1)), x.permute(dims=(1, 0))
torch.tile(torch.ones(2), dims=(2,)), torch.zeros(1).view(dtype=torch.int32)
""".strip().splitlines()


@pytest.fixture(autouse=True)
def _settings_as_before() -> Iterator[None]:
    yield
    libraries = [lazytorch]
    try:
        import torch

        libraries.append(torch)
    except ImportError:
        pass
    for library in libraries:
        library.set_default_dtype(library.float32)
        library.use_deterministic_algorithms(False)
        library.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_ends_as_in_pytorch(program: str) -> None:
    torch = pytest.importorskip("torch")
    assert outcome(lazytorch, program) == outcome(torch, program)


def test_a_stream_continues_from_its_state() -> None:
    torch = lazytorch
    stream = torch.Generator().manual_seed(3)
    state = stream.get_state()
    first = torch.rand(3, generator=stream)
    stream.set_state(state)
    assert torch.equal(first, torch.rand(3, generator=stream))
    torch.manual_seed(1)
    before = torch.rand(2)
    torch.manual_seed(1)
    with torch.random.fork_rng():
        torch.manual_seed(9)
        torch.rand(5)
    assert torch.equal(before, torch.rand(2))


@pytest.mark.parametrize(
    ("program", "advice"),
    [
        ("torch.zeros(2, layout=torch.sparse_coo)", "dense"),
        ("torch.sparse_coo_tensor([[0]], [1.0], (2,))", "index_add"),
        ("torch.ones(2).to_sparse()", "index_add"),
        ("torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)", "int8"),
        ("torch.ones(2).chalf()", "complex64"),
        ("torch.ones(2, dtype=torch.complex32)", "complex64"),
        ("torch.jit.script(lambda x: x)", "compile"),
        ("torch.nested.nested_tensor([])", "pad"),
        ("torch.ones(2).refine_names('N')", "einsum"),
    ],
)
def test_what_is_out_of_scope_says_what_to_use(program: str, advice: str) -> None:
    with pytest.raises(NotImplementedError, match=advice):
        eval(program, {"torch": lazytorch})


def test_switches_of_other_libraries_are_kept() -> None:
    backends = lazytorch.backends
    assert backends.cudnn.is_available() is False and backends.cudnn.version() is None
    assert backends.mps.is_available() == lazytorch.mps.is_available()
    assert backends.cuda.matmul.allow_tf32 is False
    backends.cudnn.benchmark = True
    assert backends.cudnn.benchmark is True
    backends.cudnn.benchmark = False


def test_parts_are_there_without_an_import_of_their_own() -> None:
    """In a process that has only imported the package, as ordinary programs do."""
    names = "utils.data.DataLoader utils.checkpoint.checkpoint optim.lr_scheduler.StepLR"
    names += " nn.utils.rnn.pad_sequence autograd.functional.jacobian func.grad"
    program = f"import lazytorch as torch\nfor name in {names.split()}: eval('torch.' + name)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
