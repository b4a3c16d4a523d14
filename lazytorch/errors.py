"""Every exception and warning class of lazytorch.

Mistakes that PyTorch answers with a builtin class (``RuntimeError``, ``IndexError``,
``TypeError``, ``ValueError``) raise that class here too; the classes below are subclasses of
what PyTorch raises, so ``except RuntimeError`` written for PyTorch keeps working.
"""

from __future__ import annotations


class LazytorchError(RuntimeError):
    """Base of the errors that only lazytorch raises."""


class DeviceError(LazytorchError):
    """A device is missing, broken, or used from a place that cannot use it."""


class UnsupportedDtypeError(LazytorchError, TypeError):
    """The device cannot compute in the requested dtype."""


class BuildError(LazytorchError):
    """A generated kernel did not compile.

    ``log`` holds the driver's text and ``source_path`` the dumped source.
    """

    def __init__(self, message: str, log: str = "", source_path: str | None = None) -> None:
        super().__init__(message)
        self.log = log
        self.source_path = source_path


class VerificationError(LazytorchError):
    """An internal stage produced something its grammar does not allow: a bug in lazytorch."""


class CheckpointError(LazytorchError):
    """A file is not a checkpoint, is damaged, or asks for something that is refused."""


class OutOfMemoryError(LazytorchError):
    """The device has no room for a buffer, also after caches were dropped."""


class LinAlgError(RuntimeError):
    """A matrix is singular, not positive definite, or an algorithm did not converge on it."""


class LazytorchWarning(UserWarning):
    """A warning with a stable code (``LT001`` ...) at its start."""
