"""A plan's program cut into programs that are compiled apart."""

from __future__ import annotations

import pytest

import lazytorch as torch
from lazytorch import nn
from lazytorch.engine import binding, execution


def test_parts_hold_every_kernel_once_and_cut_no_short_program(monkeypatch):
    if torch.tensor(0.0)._node.device == "numpy":
        pytest.skip("nothing is compiled")
    layers = nn.Sequential(nn.Linear(64, 32), nn.Softmax(-1), nn.Linear(32, 8))
    out = layers(torch.randn(16, 64))
    plan = execution.plan_for([out._node]).plan
    monkeypatch.setattr(binding, "PART_CHARACTERS", len(plan.source) + 1)
    assert binding.program_parts(plan) == [(plan.source, list(plan.sources))]
    monkeypatch.setattr(binding, "PART_CHARACTERS", 1)
    parts = binding.program_parts(plan)
    assert len(parts) == len(plan.sources) > 1
    assert [name for _, names in parts for name in names] == list(plan.sources)
    for source, (name,) in parts:
        assert source.count("__kernel") == 1 and plan.sources[name] in source
        assert source.startswith(plan.source[: plan.source.index("__kernel")])
