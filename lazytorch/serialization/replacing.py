"""Putting a file in the place of another in one step.

A process that is killed while it writes leaves its unfinished file behind, under a hidden name
beside the target. Writers hold a lock on theirs, so the next one to write the same target knows
which are nobody's any more, and removes them: there are never more than saves were killed since.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows removes no file that is open, which serves as well.
    fcntl = None

_SUFFIX = ".tmp"


@contextlib.contextmanager
def replacing(path: Any) -> Iterator[BinaryIO]:
    """A file that takes the place of ``path`` when everything has been written to it, and is on
    the disk then. After an exception the old file is as it was."""
    target = Path(os.path.realpath(path))
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        # Devices and pipes cannot be replaced.
        with open(target, "wb") as stream:
            yield stream
        return
    # Names have a limit, and a random part is added.
    prefix = f".{target.name[:200]}."
    _remove_left_behind(target.parent, prefix)
    number, temporary = _new_file(target.parent, prefix)
    try:
        with os.fdopen(number, "wb") as stream:
            yield stream
            stream.flush()
            os.chmod(temporary, _permissions(target))
            os.fsync(stream.fileno())
            # Before the lock goes: nobody else may take the file for one left behind.
            if fcntl is not None:
                os.replace(temporary, target)
        if fcntl is None:
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(target.parent)


def _new_file(folder: Path, prefix: str) -> tuple[int, str]:
    while True:
        number, path = tempfile.mkstemp(prefix=prefix, suffix=_SUFFIX, dir=folder)
        if fcntl is None or not _locked(number):
            return number, path
        # Between its making and its locking somebody may have removed it.
        if os.path.exists(path):
            return number, path
        os.close(number)


def _remove_left_behind(folder: Path, prefix: str) -> None:
    """Remove unfinished files of this target whose writers are dead."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name.endswith(_SUFFIX):
                with contextlib.suppress(OSError):
                    _remove_if_nobodys(entry.path)


def _remove_if_nobodys(path: str) -> None:
    if fcntl is None:
        os.unlink(path)
        return
    number = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if _locked(number):
            os.unlink(path)
    finally:
        os.close(number)


def _locked(number: int) -> bool:
    """Whether the file is locked by this process now; some file systems know no locks."""
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _permissions(target: Path) -> int:
    """The mode of the file to be replaced, or what a new file would get."""
    with contextlib.suppress(OSError):
        return stat.S_IMODE(target.stat().st_mode)
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable, where folders can be opened."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
