"""What every test shares: stage verifiers on, caches apart from the user's, fixed randomness."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before lazytorch reads its settings. Programs are kept between runs, but not in the user's
# own cache folder.
os.environ.setdefault("LAZYTORCH_VERIFY", "1")
# The machine is busy with other tests.
os.environ.setdefault("LAZYTORCH_BUILD_PROCESSES", "1")
os.environ.setdefault(
    "LAZYTORCH_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "lazytorch")
)

try:
    import hypothesis

    hypothesis.settings.register_profile("lazytorch", deadline=None, max_examples=60)
    hypothesis.settings.load_profile("lazytorch")
except ImportError:
    pass

import lazytorch
from lazytorch.runtime import available_devices

# What is about kernels and builds is compiled as users get it.
AS_USERS_GET_IT = {"codegen", "devices", "runtime"}


# Runs of one graph in a test; none is worth compiling again.
MANY = 1000


@pytest.fixture(autouse=True)
def compile_cheaply(request: pytest.FixtureRequest) -> Iterator[None]:
    """Most tests run a graph a few times, and optimizing it would be most of their time."""
    if request.path.parent.name in AS_USERS_GET_IT:
        yield
    else:
        with lazytorch.config.override(TRIAL_BUILDS=MANY):
            yield


@pytest.fixture(params=available_devices())
def each_device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a device, which is the default one while the test runs."""
    before = lazytorch.get_default_device()
    lazytorch.set_default_device(request.param)
    yield request.param
    lazytorch.set_default_device(before)
