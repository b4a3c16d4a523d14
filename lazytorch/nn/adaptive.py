"""A softmax over very many classes that computes most of them only for few samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import lazytorch as torch
from lazytorch.nn import functional as F
from lazytorch.nn.container import ModuleList, Sequential
from lazytorch.nn.linear import Linear
from lazytorch.nn.module import Module
from lazytorch.tensor.tensor import Tensor


class _ASMoutput(NamedTuple):
    output: Tensor
    loss: Tensor


class AdaptiveLogSoftmaxWithLoss(Module):
    """Classes in clusters by frequency: a head for the frequent ones and one entry for each
    cluster, and a smaller tail for each cluster (Grave et al., Efficient softmax approximation for
    GPUs, 2017).

    ``cutoffs`` are ascending class numbers where clusters begin; classes are ordered by falling
    frequency. Tail number i works in ``in_features / div_value ** (i + 1)`` features. Here the
    tails are computed for all samples, and the graph takes what belongs to each: what a sample's
    class is need not be known on the host.

    >>> layer = nn.AdaptiveLogSoftmaxWithLoss(8, 20, cutoffs=[5, 10], div_value=2.0)
    >>> layer(torch.ones(3, 8), torch.tensor([1, 7, 19])).output.shape
    torch.Size([3])
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if (
            cutoffs != sorted(set(cutoffs))
            or min(cutoffs) <= 0
            or max(cutoffs) > n_classes - 1
            or any(int(cutoff) != cutoff for cutoff in cutoffs)
        ):
            raise ValueError(
                "cutoffs should be a sequence of unique, positive integers sorted in an "
                f"increasing order, where each value is between 1 and n_classes-1, got {cutoffs}"
            )
        options = {"device": device, "dtype": dtype}
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*cutoffs, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, bias=head_bias, **options)
        self.tail = ModuleList()
        for number in range(self.n_clusters):
            width = int(in_features // div_value ** (number + 1))
            classes = self.cutoffs[number + 1] - self.cutoffs[number]
            self.tail.append(
                Sequential(
                    Linear(in_features, width, bias=False, **options),
                    Linear(width, classes, bias=False, **options),
                )
            )

    def reset_parameters(self) -> None:
        self.head.reset_parameters()
        for first, second in self.tail:
            first.reset_parameters()
            second.reset_parameters()

    def forward(self, input_: Tensor, target_: Tensor) -> _ASMoutput:
        """``(output, loss)``: each sample's log-probability of its target, and their negative mean.

        ``input_`` is (N, in_features) or (in_features), ``target_`` (N) or a number, from 0 to
        ``n_classes - 1``; another raises ``RuntimeError``.
        """
        self._check(input_, target_)
        if target_.dim() == 0:
            input_, targets = input_.unsqueeze(0), target_.unsqueeze(0)
        else:
            targets = target_
        head = F.log_softmax(self.head(input_), dim=1)
        place = targets.clamp(max=self.shortlist_size - 1).unsqueeze(1)
        output = head.gather(1, place).squeeze(1)
        for number, layers in enumerate(self.tail):
            low, high = self.cutoffs[number], self.cutoffs[number + 1]
            own = (targets - low).clamp(0, high - low - 1).unsqueeze(1)
            inside = F.log_softmax(layers(input_), dim=1).gather(1, own).squeeze(1)
            cluster = head[:, self.shortlist_size + number]
            output = torch.where((targets >= low) & (targets < high), cluster + inside, output)
        if target_.dim() == 0:
            output = output.squeeze(0)
        return _ASMoutput(output, -output.mean())

    def _check(self, input_: Tensor, target_: Tensor) -> None:
        if target_.dim() == 1:
            if input_.size(0) != target_.size(0):
                raise RuntimeError(
                    "Input and target should have the same size in the batch dimension."
                )
            if input_.dim() != 2:
                raise RuntimeError(
                    "1D target tensor expects 2D input tensors, but found inputs with size",
                    input_.size(),
                )
        elif target_.dim() != 0:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        elif input_.dim() != 1:
            raise RuntimeError(
                "0D target tensor expects 1D input tensors, but found inputs with size",
                input_.size(),
            )
        if target_.numel():
            lowest, highest = int(target_.min()), int(target_.max())
            if lowest < 0 or highest >= self.n_classes:
                raise RuntimeError(
                    f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                    f"[{lowest}, {highest}] were found. "
                )

    def log_prob(self, input: Tensor) -> Tensor:
        """(N, n_classes): the log-probability of every class."""
        head = F.log_softmax(self.head(input), dim=1)
        parts = [head[:, : self.shortlist_size]]
        for number, layers in enumerate(self.tail):
            cluster = head[:, self.shortlist_size + number].unsqueeze(1)
            parts.append(F.log_softmax(layers(input), dim=1) + cluster)
        return torch.cat(parts, dim=1)

    def predict(self, input: Tensor) -> Tensor:
        """(N): the most probable class of each sample."""
        return self.log_prob(input).argmax(dim=1)
