"""state_dict and load_state_dict, with PyTorch's error texts."""

from __future__ import annotations

from collections import OrderedDict

import pytest

import lazytorch as torch
from lazytorch import nn


def test_round_trip_copies_into_the_same_objects() -> None:
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    weight = target.weight
    result = target.load_state_dict(source.state_dict())
    assert repr(result) == "<All keys matched successfully>"
    assert target.weight is weight and torch.equal(weight, source.weight)


def test_assign_takes_the_tensors_over() -> None:
    target = nn.Linear(2, 3)
    values = {"weight": torch.ones(3, 2, dtype=torch.float64), "bias": torch.zeros(3)}
    target.load_state_dict(values, assign=True)
    assert target.weight.dtype is torch.float64 and isinstance(target.weight, nn.Parameter)


def test_everything_wrong_is_listed_at_once() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict(
            {
                "0.weight": torch.ones(2, 3),
                "0.bias": 3,
                "odd": torch.ones(2),
                "1.x.y": 1,
            }
        )
    text = str(caught.value)
    assert text.startswith("Error(s) in loading state_dict for Sequential:\n\tMissing key(s)")
    assert 'Missing key(s) in state_dict: "1.weight", "1.bias", "1.running_mean"' in text
    assert 'Unexpected key(s) in state_dict: "odd", "1.x.y". ' in text
    assert (
        "size mismatch for 0.weight: copying a param with shape torch.Size([2, 3]) from "
        "checkpoint, the shape in current model is torch.Size([4, 3])."
    ) in text
    assert 'While copying the parameter named "0.bias", expected torch.Tensor' in text


def test_not_strict_reports_keys() -> None:
    result = nn.Linear(2, 2).load_state_dict({"weight": torch.ones(2, 2), "x": 1}, strict=False)
    assert result.missing_keys == ["bias"] and result.unexpected_keys == ["x"]
    with pytest.raises(TypeError, match="dict-like"):
        nn.Linear(2, 2).load_state_dict(3)


def test_keep_vars_prefix_and_destination() -> None:
    layer = nn.Linear(2, 2)
    assert layer.state_dict(keep_vars=True)["weight"] is layer.weight
    assert not layer.state_dict()["weight"].requires_grad
    into: OrderedDict = OrderedDict()
    layer.state_dict(destination=into, prefix="a.")
    assert list(into) == ["a.weight", "a.bias"]
    assert nn.BatchNorm1d(1).state_dict()._metadata == {"": {"version": 2}}


def test_batch_norm_files_of_version_one() -> None:
    model = nn.BatchNorm1d(2)
    old = {k: v for k, v in model.state_dict().items() if k != "num_batches_tracked"}
    assert model.load_state_dict(old).missing_keys == []


def test_hooks_and_extra_state() -> None:
    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = 1

        def get_extra_state(self):
            return {"count": self.count}

        def set_extra_state(self, state) -> None:
            self.count = state["count"]

    source, target = Counted(), Counted()
    source.count = 5
    target.load_state_dict(source.state_dict())
    assert target.count == 5

    layer = nn.Linear(1, 1)
    layer.register_state_dict_post_hook(lambda m, state, prefix, meta: state.update(extra=1))
    assert layer.state_dict()["extra"] == 1
    layer.register_load_state_dict_pre_hook(lambda m, state, *rest: state.pop("extra"))
    seen = []
    layer.register_load_state_dict_post_hook(lambda m, keys: seen.append(keys.missing_keys))
    layer.load_state_dict(layer.state_dict())
    assert seen == [[]]
