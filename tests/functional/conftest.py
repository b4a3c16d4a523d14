"""What tests of functions share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import lazytorch
from lazytorch.runtime import available_devices


@pytest.fixture(params=available_devices())
def each_device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a device, which is the default one while the test runs."""
    before = lazytorch.get_default_device()
    lazytorch.set_default_device(request.param)
    yield request.param
    lazytorch.set_default_device(before)
