"""``lazytorch.explain(tensor)``: the kernels behind a tensor, and the reason of each boundary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lazytorch.viz.model import KernelInfo, Operation, picture_of

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


@dataclass(frozen=True)
class Explanation:
    """What computing a tensor would launch.

    ``kernels`` lists the launches in order, each with ``operations``, ``reasons``, ``bytes``,
    ``flops``, ``launch`` and ``source``. As text, all of them.
    """

    kernels: tuple[KernelInfo, ...]
    ready: bool = False

    @property
    def bytes(self) -> int:
        """Bytes read and written by all kernels."""
        return sum(kernel.bytes for kernel in self.kernels)

    @property
    def flops(self) -> int:
        """Arithmetic operations of all kernels."""
        return sum(kernel.flops for kernel in self.kernels)

    def __len__(self) -> int:
        return len(self.kernels)

    def summary(self) -> str:
        """The text without kernel sources."""
        return self._text(sources=False)

    def __str__(self) -> str:
        return self._text(sources=True)

    def _text(self, sources: bool) -> str:
        if not self.kernels:
            state = "already computed" if self.ready else "nothing to compute"
            return f"{state}: no kernels"
        count = len(self.kernels)
        lines = [
            f"{count} kernel{'s' if count > 1 else ''}, {_size(self.bytes)} read and written, "
            f"{_count(self.flops)} operations"
        ]
        for number, kernel in enumerate(self.kernels):
            lines += ["", *_kernel_lines(number, kernel, sources)]
        return "\n".join(lines)


def explain(tensor: Any) -> Explanation:
    """Which kernels computing ``tensor`` would launch, and why they are cut as they are.

    Nothing is computed. A tensor whose value is known already has no kernels.

    >>> x = torch.ones(4, 4)
    >>> explanation = lazytorch.explain((x.exp() + 1).sum())
    >>> [kernel.title for kernel in explanation.kernels]
    ['exp, add, sum']
    """
    picture = picture_of([tensor])
    return Explanation(tuple(picture.kernels), ready=picture.ready > 0)


def _kernel_lines(number: int, kernel: KernelInfo, sources: bool) -> list[str]:
    groups, items = kernel.launch
    lines = [
        f"{number}. {kernel.name} on {kernel.device}: {_size(kernel.bytes)}, "
        f"{_count(kernel.flops)} operations, {groups} work-groups of {items}"
    ]
    if kernel.operations:
        lines.append("   computes")
        texts = [str(operation) for operation in kernel.operations]
        width = min(max(map(len, texts)), 60)
        lines += [
            f"     {_marked(text, operation, kernel):{width + 2}}  {operation.site}"
            for text, operation in zip(texts, kernel.operations)
        ]
    else:
        lines.append("   prepares operands for the next kernel")
    if kernel.reasons:
        lines.append("   because")
        lines += [f"     {reason}" for reason in kernel.reasons]
    if sources and kernel.source:
        lines.append("   source")
        lines += [f"     {line}" for line in kernel.source.rstrip().splitlines()]
    return lines


def _marked(text: str, operation: Operation, kernel: KernelInfo) -> str:
    """A star marks what the kernel decided on as a value of its own."""
    return ("* " if operation.number in kernel.stored else "  ") + text


def _size(count: int) -> str:
    for unit, name in _UNITS:
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"


def _count(count: int) -> str:
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return str(count)
