"""torch.version: whose interface this is, and of which libraries it is made.

``torch.__version__`` names the PyTorch whose interface is offered, since that is what programs
compare it for, with the version of lazytorch behind the plus sign.
"""

from __future__ import annotations

from typing import Any

RELEASE = "0.1.0"


class Version(str):
    """A version that is compared by its numbers, with texts, tuples and other versions.

    >>> Version("2.13.0+x") >= "2.4", Version("2.13.0") < (3, 0)
    (True, True)
    """

    @staticmethod
    def _numbers(version: Any) -> tuple[int, ...]:
        parts = str(version).split("+")[0].split(".") if isinstance(version, str) else version
        found = []
        for part in parts:
            digits = "".join(c for c in str(part) if c.isdigit())
            if not digits:
                break
            found.append(int(digits))
        while found and not found[-1]:
            found.pop()
        return tuple(found)

    def __lt__(self, other: Any) -> bool:
        return self._numbers(self) < self._numbers(other)

    def __le__(self, other: Any) -> bool:
        return self._numbers(self) <= self._numbers(other)

    def __gt__(self, other: Any) -> bool:
        return self._numbers(self) > self._numbers(other)

    def __ge__(self, other: Any) -> bool:
        return self._numbers(self) >= self._numbers(other)


__version__ = Version(f"2.13.0+lazytorch.{RELEASE}")
debug = False
cuda = hip = xpu = git_version = None
