"""What every test shares: stage verifiers on, caches apart from the user's, fixed randomness."""

from __future__ import annotations

import os
from pathlib import Path

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
