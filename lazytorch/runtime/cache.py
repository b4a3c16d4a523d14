"""Files that outlive a process: compiled programs, probe verdicts.

Knows how to keep a file that may be damaged, truncated or written by several processes at once.
A file is written beside its place, flushed to the disk and renamed; it carries a checksum, and
whatever cannot be read is deleted and counts as missing. Without a usable folder everything
works, only slower, after one warning (LT002).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import time
import warnings
from pathlib import Path

from lazytorch import config, logs
from lazytorch.errors import LazytorchWarning

MAGIC = b"lazytor1"
_HEADER = len(MAGIC) + hashlib.sha256().digest_size
_STALE_SECONDS = 3600.0
_WRITES_BETWEEN_PRUNES = 64
_warned = False


def default_folder() -> Path:
    """Where the cache lives: the setting CACHE_DIR, or the user's cache folder."""
    chosen = config.get("CACHE_DIR")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    if base and os.path.isabs(base):
        return Path(base) / "lazytorch"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "lazytorch"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "lazytorch"
    return Path.home() / ".cache" / "lazytorch"


def usable_folder(name: str) -> Path | None:
    """A private subfolder of the cache, made when missing; None when there can be none."""
    if not config.get("CACHE"):
        return None
    try:
        root = default_folder()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = root / name
        folder.mkdir(mode=0o700, exist_ok=True)
        _refuse_foreign(folder)
    except (OSError, RuntimeError) as error:
        warn_once(f"cannot use the cache folder: {error}")
        return None
    if not os.access(folder, os.W_OK | os.X_OK):
        warn_once(f"the cache folder {folder} is not writable")
        return None
    return folder


def _refuse_foreign(folder: Path) -> None:
    """A compiled program is code: never run one that somebody else could have put there."""
    if not hasattr(os, "geteuid"):
        return
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user")
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)


def warn_once(reason: str) -> None:
    """Say that the cache does not work, the first time."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"LT002: {reason}. lazytorch works without it, but compiles again in every process. "
            "Set LAZYTORCH_CACHE_DIR to a folder you own, or LAZYTORCH_CACHE=0.",
            LazytorchWarning,
            stacklevel=2,
        )


class FileCache:
    """Checksummed byte strings by key, bounded in size, oldest used removed first.

    Every method works, as a miss, when the folder is missing or broken.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._folder: Path | None = None
        self._opened_for: tuple[bool, str] | None = None
        self._writes = 0

    @property
    def folder(self) -> Path | None:
        """The folder for the current settings."""
        settings = (config.get("CACHE"), config.get("CACHE_DIR"))
        if settings != self._opened_for:
            self._folder = usable_folder(self.name)
            self._opened_for = settings
            self._writes = 0
        return self._folder

    @staticmethod
    def key(*parts: str) -> str:
        """One name for a list of texts; different lists get different names."""
        digest = hashlib.sha256()
        for part in parts:
            encoded = part.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(encoded))
            digest.update(encoded)
        return digest.hexdigest()

    def read(self, key: str) -> bytes | None:
        """The stored bytes, or None; a damaged file is removed."""
        folder = self.folder
        if folder is None:
            return None
        path = folder / key
        try:
            content = path.read_bytes()
        except OSError:
            return None
        payload = content[_HEADER:]
        if content[:_HEADER] != MAGIC + hashlib.sha256(payload).digest():
            logs.write("cache", lambda: f"{path} is damaged; removed")
            self.remove(key)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return payload

    def has(self, key: str) -> bool:
        """Whether there is something to read, damaged or not."""
        return self.folder is not None and (self.folder / key).exists()

    def write(self, key: str, payload: bytes) -> None:
        """Store bytes; whoever reads sees all of them or none."""
        folder = self.folder
        if folder is None:
            return
        temporary = folder / f"{key}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
        try:
            with open(temporary, "xb") as file:
                file.write(MAGIC + hashlib.sha256(payload).digest() + payload)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, folder / key)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            warn_once(f"cannot write to the cache folder {folder}: {error}")
            self._folder = None
            return
        if self._writes % _WRITES_BETWEEN_PRUNES == 0:
            self.prune(config.get("CACHE_LIMIT"))
        self._writes += 1

    def remove(self, key: str) -> None:
        """Forget a key, if it is there."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                (self.folder / key).unlink()

    def prune(self, limit: int) -> None:
        """Remove the oldest files until the rest takes at most ``limit`` bytes."""
        folder = self.folder
        if folder is None:
            return
        files: list[tuple[float, int, str]] = []
        now = time.time()
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    abandoned = now - status.st_mtime > _STALE_SECONDS
                    if entry.name.endswith(".tmp"):
                        if abandoned:
                            os.unlink(entry.path)
                        continue
                    files.append((status.st_mtime, status.st_size, entry.path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= limit:
                return
            with contextlib.suppress(OSError):
                os.unlink(path)
            total -= size
