"""``python -m lazytorch``: see :mod:`lazytorch.cli`."""

from __future__ import annotations

import sys

from lazytorch.cli import main

if __name__ == "__main__":
    sys.exit(main())
