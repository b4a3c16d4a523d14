"""Packed operands kept between calls: how often they are packed, and that results stay right."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import lazytorch as torch
from lazytorch import config, nn
from lazytorch.runtime import BoundLaunch, Device, get_device
from lazytorch.tensor.tensor import Tensor
from tests.graphs import DEVICES as PLACES

DEVICES = [name for name in PLACES if "/" not in name]
SHAPE = (2, 19, 9, 10)


def values(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def copied(tensor: Tensor) -> np.ndarray:
    """The value, without memory that NumPy shares."""
    return torch.clone(tensor.detach()).cpu().numpy().copy()


def product(name: str, x: Tensor, weight: Tensor) -> Tensor:
    if name == "convolution":
        return nn.functional.conv2d(x, weight, padding=1)
    return weight.t() @ x


class Case:
    """A weight and what it is multiplied by."""

    def __init__(self, name: str, device: str) -> None:
        self.name, self.device = name, device
        self.place: Device = get_device(torch.device(device).runtime)
        self.place.packed.drop()
        if name == "convolution":
            self.shape: tuple[int, ...] = (35, 19, 3, 3)
            self.x = torch.tensor(values(1, *SHAPE), device=device)
        else:
            # Read with strides of 1,600 bytes along the sum: packed in panels.
            self.shape = (300, 400)
            self.x = torch.tensor(values(1, 300, 310), device=device)
        self.weight = torch.tensor(values(2, *self.shape), device=device)

    def product(self) -> Tensor:
        return product(self.name, self.x, self.weight)

    def packings(self) -> int:
        """Launches that pack for one product."""
        explained = torch.explain(self.product())
        reasons = [reason for kernel in explained.kernels for reason in kernel.reasons]
        return sum(reason.startswith("contract: packed") for reason in reasons)

    def call(self) -> int:
        """Compute the product, check it, and give the number of packings left out."""
        before = torch.stats()
        found = self.product().realize()
        after = torch.stats()
        assert after["kernels_launched"] > before["kernels_launched"]
        fresh = torch.tensor(copied(self.weight), device=self.device)
        # Behind a pending write the product is another kernel, which may add in another order.
        wanted = copied(product(self.name, self.x, fresh))
        np.testing.assert_allclose(copied(found), wanted, rtol=1e-4, atol=1e-4)
        return int(after["packings_kept"] - before["packings_kept"])

    def check_again(self) -> None:
        """New contents are packed twice, then never."""
        self.weight.realize()
        each = self.packings()
        assert each == (0 if self.device == "numpy" else 1)
        for _ in range(2):
            assert self.call() == 0
        for _ in range(2):
            assert self.call() == each


@pytest.fixture(params=[(name, device) for device in DEVICES for name in ("convolution", "panels")])
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    made = Case(*request.param)
    yield made
    made.place.packed.drop()


def of_the_optimizer(weight: Tensor) -> None:
    weight.grad = torch.ones_like(weight)
    torch.optim.SGD([weight], 0.5, momentum=0.9).step()
    weight.grad = None


WRITES: dict[str, Callable[[Tensor], Any]] = {
    "in place": lambda w: w.mul_(2),
    "copied": lambda w: w.copy_(torch.ones_like(w)),
    "through a view": lambda w: w[3:5].add_(1),
    "an element": lambda w: w.view(-1).__setitem__(7, 3.0),
    "through data": lambda w: w.data.neg_(),
    "new data": lambda w: setattr(w, "data", w.detach() + 1),
    "by an optimizer": of_the_optimizer,
    "scattered": lambda w: w.view(-1).index_add_(
        0, torch.tensor([1, 1], device=w.device), torch.ones(2, device=w.device)
    ),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_after_a_write_the_new_content_is_packed(case: Case, write: Callable[..., Any]) -> None:
    case.check_again()
    before = copied(case.weight)
    write(case.weight)
    assert case.call() == 0
    assert not np.array_equal(copied(case.weight), before)
    write(case.weight)
    case.check_again()


def test_a_write_between_two_packings(case: Case) -> None:
    for number in range(4):
        case.weight.add_(number)
        case.weight.realize()
        assert case.call() == 0
        assert case.place.packed.nbytes == 0


@pytest.mark.parametrize("device", DEVICES)
def test_a_module_that_loads_a_state(device: str) -> None:
    case = Case("convolution", device)
    layer = nn.Conv2d(19, 35, 3, padding=1, bias=False).to(device).requires_grad_(False)
    case.weight = layer.weight
    case.check_again()
    for seed in (7, 8):
        layer.load_state_dict({"weight": torch.tensor(values(seed, *case.shape))})
        assert layer.weight is case.weight
        assert case.call() == 0
        np.testing.assert_array_equal(copied(case.weight), values(seed, *case.shape))
    case.weight.mul_(1)
    case.check_again()


@pytest.mark.parametrize("name", ["convolution", "panels"])
def test_memory_that_numpy_sees_is_packed_each_time(name: str) -> None:
    case = Case(name, "cpu")
    array = case.weight.numpy()
    for number in range(4):
        array[number] = number
        assert case.call() == 0
    array = values(5, *case.shape)
    case.weight = torch.from_numpy(array)
    for number in range(4):
        array[:, number] = number
        assert case.call() == 0
    assert case.place.packed.nbytes == 0


def test_memory_that_numpy_saw_is_kept_again() -> None:
    case = Case("panels", "cpu")
    case.weight.numpy()[:, 0] = 5
    place = case.place
    kept = []
    for _ in range(4):
        before = torch.stats()["packings_kept"]
        case.product().realize()
        kept.append(torch.stats()["packings_kept"] - before)
    packs = place.kind != "numpy"
    assert kept == [0, 0, int(packs), int(packs)]
    found = case.product().numpy().copy()
    case.weight.numpy()[:, 0] = 6
    np.testing.assert_array_equal(found[1:], case.product().numpy()[1:])
    assert not np.array_equal(found[0], case.product().numpy()[0])


def test_copies_count_as_memory_and_go_with_their_operand(case: Case) -> None:
    gc.collect()
    before, copies = case.place.memory_allocated(), case.place.packed.nbytes
    case.product().realize()
    # The arena stays.
    first = case.place.memory_allocated()
    for _ in range(3):
        case.product().realize()
    held = case.place.packed.nbytes - copies
    assert held >= case.packings() * case.weight.nbytes
    assert case.place.memory_allocated() == first + held
    case.weight = case.x
    gc.collect()
    assert case.place.packed.nbytes == copies
    assert case.place.memory_allocated() <= first < before + first


def test_copies_make_room_when_memory_is_short(case: Case) -> None:
    case.check_again()
    gc.collect()
    place = case.place
    place.pool.empty()
    limit = place.pool.reserved() + (1 << 20)
    with config.override(MEMORY_LIMIT=limit):
        held = place.packed.nbytes
        room = place.allocate((1 << 20) + held // 2)
        assert place.packed.nbytes == 0
        del room
    case.check_again()
    place.empty_cache()
    assert place.packed.nbytes == 0
    case.check_again()


def test_no_more_than_allowed_is_kept(case: Case) -> None:
    for allowed in (0, case.weight.nbytes // 2):
        with config.override(KEEP_PACKED=allowed):
            for _ in range(4):
                assert case.call() == 0
    assert case.place.packed.nbytes == 0


def test_plans_that_pack_alike_share_a_copy(case: Case) -> None:
    case.check_again()
    before = torch.stats()["packings_kept"]
    found = (case.product().relu() - 1).realize()
    assert torch.stats()["packings_kept"] - before == case.packings()
    wanted = np.maximum(case.product().cpu().numpy(), 0) - np.float32(1)
    np.testing.assert_array_equal(found.cpu().numpy(), wanted)


def test_compiled_functions_leave_packings_out(case: Case) -> None:
    name, x, weight = case.name, case.x, case.weight
    function = torch.compile(lambda: product(name, x, weight) * 2)
    wanted = 2 * copied(case.product())
    before = torch.stats()
    for _ in range(6):
        np.testing.assert_array_equal(function().cpu().numpy(), wanted)
    after = torch.stats()
    assert after["packings_kept"] - before["packings_kept"] >= 4 * case.packings()
    case.weight.neg_()
    for _ in range(4):
        np.testing.assert_array_equal(function().cpu().numpy(), -wanted)


@pytest.mark.parametrize("device", DEVICES)
def test_training_keeps_no_copies(device: str) -> None:
    case = Case("convolution", device)
    layer = nn.Conv2d(19, 35, 3, padding=1).to(device)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    for _ in range(4):
        optimizer.zero_grad()
        layer(case.x).square().mean().backward()
        optimizer.step()
        layer.weight.realize()
        assert case.place.packed.nbytes == 0


def test_a_run_that_failed_leaves_no_copy(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    if case.device == "numpy":
        pytest.skip("nothing is launched")
    assert case.call() == 0

    def fails(self: BoundLaunch) -> None:
        raise RuntimeError("not launched")

    with monkeypatch.context() as patch:
        patch.setattr(BoundLaunch, "launch", fails)
        with pytest.raises(RuntimeError, match="not launched"):
            case.product().realize()
    case.check_again()


def test_recurrent_weights_are_kept() -> None:
    for device in DEVICES:
        layer = nn.LSTM(24, 40).to(device)
        x = torch.tensor(values(3, 5, 2, 24), device=device)
        outputs = []
        with torch.no_grad():
            for _ in range(5):
                before = torch.stats()["packings_kept"]
                outputs.append(layer(x)[0].cpu().numpy().copy())
                kept = torch.stats()["packings_kept"] - before
        assert bool(kept) is (device != "numpy")
        assert all(np.array_equal(outputs[0], other) for other in outputs)


def test_explain_and_profile_tell_of_packings_left_out(case: Case) -> None:
    case.check_again()
    each = case.packings()
    explanation = torch.explain(case.product())
    assert sum(kernel.kept for kernel in explanation.kernels) == each
    assert explanation.summary().count("left out") == each
    with torch.profile() as profile:
        for _ in range(2):
            case.product().realize()
    assert sum(kernel.kept for kernel in profile.kernels) == 2 * each
    assert sum(kernel.launches for kernel in profile.kernels) == 2
    assert ("launches left out" in str(profile)) is bool(each)
