"""Sequences of different lengths in one tensor: padded, or packed step by step.

A packed batch holds the first elements of all sequences, then all second ones, and so on, longest
sequence first; ``batch_sizes`` says how many there are of each. Nothing is computed for padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

import lazytorch as torch
from lazytorch.tensor.attach import functions
from lazytorch.tensor.tensor import Tensor

__all__ = [
    "PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence",
    "pad_packed_sequence", "pad_sequence", "unpack_sequence", "unpad_sequence",
]  # fmt: skip


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Fields):
    """A batch of sequences packed step by step; made by :func:`pack_padded_sequence`.

    ``data`` (elements, *), ``batch_sizes`` (steps,) int64 on the CPU, ``sorted_indices`` and
    ``unsorted_indices`` (batch,) or ``None`` when the batch was sorted already.

    >>> pack_sequence([torch.tensor([1., 2.]), torch.tensor([3.])]).data
    tensor([1., 3., 2.])
    """

    __slots__ = ()

    def __new__(
        cls,
        data: Tensor,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        if batch_sizes is None:
            raise ValueError(
                "PackedSequence: batch_sizes must be given; make packed sequences with "
                "pack_padded_sequence or pack_sequence"
            )
        if batch_sizes.device.type != "cpu":
            raise ValueError(
                "batch_sizes should always be on CPU. Instances of PackedSequence should never "
                "be created manually. They should be instantiated by functions like "
                "pack_sequence and pack_padded_sequence in nn.utils.rnn."
            )
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The data converted or moved; the indices follow to its device."""
        data = self.data.to(*args, **kwargs)  # type: ignore[attr-defined]
        if data is self.data:
            return self
        place = {"device": data.device}
        indices = [
            None if index is None else index.to(**place)  # type: ignore[attr-defined]
            for index in (self.sorted_indices, self.unsorted_indices)
        ]
        return type(self)(data, self.batch_sizes, *indices)

    def cpu(self) -> PackedSequence:
        return self.to(device="cpu")

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        return self.to(*(args or ("cuda",)), **kwargs)

    def double(self) -> PackedSequence:
        return self.to(dtype=torch.double)

    def float(self) -> PackedSequence:
        return self.to(dtype=torch.float)

    def half(self) -> PackedSequence:
        return self.to(dtype=torch.half)

    def long(self) -> PackedSequence:
        return self.to(dtype=torch.long)

    def int(self) -> PackedSequence:
        return self.to(dtype=torch.int)

    @property
    def is_cuda(self) -> bool:
        return bool(self.data.is_cuda)  # type: ignore[attr-defined]


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """Where each position went: ``result[permutation] == arange``."""
    if permutation is None:
        return None
    inverse = np.argsort(np.asarray(permutation.cpu().numpy()), kind="stable")  # type: ignore[attr-defined]
    return functions.tensor(inverse, device=permutation.device)  # type: ignore[attr-defined, no-any-return]


def _lengths_of(lengths: Any) -> np.ndarray:
    if isinstance(lengths, Tensor):
        if lengths.device.type != "cpu":  # type: ignore[attr-defined]
            raise RuntimeError(
                "'lengths' argument should be a 1D CPU int64 tensor, but got "
                f"{lengths.dim()}D {lengths.device} tensor"  # type: ignore[attr-defined]
            )
        lengths = lengths.numpy()  # type: ignore[attr-defined]
    return np.asarray(lengths, np.int64)


def pack_padded_sequence(
    input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack a padded batch (steps, batch, *), or (batch, steps, *) with ``batch_first``.

    ``lengths`` (batch,) are the sequences' own lengths, on the CPU, falling unless
    ``enforce_sorted`` is false.
    """
    sizes = _lengths_of(lengths)
    if batch_first:
        input = input.transpose(0, 1)  # type: ignore[attr-defined]
    steps, batch = input.shape[0], input.shape[1]
    if sizes.ndim != 1 or len(sizes) != batch:
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {sizes.size} "
            f"(batch_size={batch})"
        )
    if not sizes.size or sizes.min() <= 0:
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' "
            "that is <= 0"
        )
    if sizes.max() > steps:
        raise RuntimeError(
            f"pack_padded_sequence: lengths go up to {sizes.max()}, but the input has only "
            f"{steps} steps"
        )
    order = None
    if not enforce_sorted:
        order = np.argsort(-sizes, kind="stable")
        sizes = sizes[order]
    elif (np.diff(sizes) > 0).any():
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. "
            "You can pass `enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to "
            "sidestep this requirement if you do not need ONNX exportability."
        )
    batch_sizes = (sizes[None, :] > np.arange(sizes.max())[:, None]).sum(1)
    rows = np.arange(batch) if order is None else order
    places = np.concatenate([step * batch + rows[:size] for step, size in enumerate(batch_sizes)])
    device = input.device  # type: ignore[attr-defined]
    flat = input.reshape(steps * batch, *input.shape[2:])  # type: ignore[attr-defined]
    data = flat.index_select(0, functions.tensor(places, device=device))
    sorted_indices = None if order is None else functions.tensor(order, device=device)
    return PackedSequence(data, functions.tensor(batch_sizes), sorted_indices)


def lengths_of_batches(batch_sizes: np.ndarray) -> np.ndarray:
    """The length of each sequence, longest first, from the batch sizes of the steps."""
    return (batch_sizes[:, None] > np.arange(batch_sizes[0])[None, :]).sum(0)


def padded_places(batch_sizes: np.ndarray, fill: int) -> np.ndarray:
    """(steps, batch): the row of packed data at each place, ``fill`` where there is none."""
    starts = np.concatenate([[0], np.cumsum(batch_sizes)[:-1]])
    columns = np.arange(batch_sizes[0])
    return np.where(columns < batch_sizes[:, None], starts[:, None] + columns, fill)


def packed_places(batch_sizes: np.ndarray) -> np.ndarray:
    """(elements,): the flat place in (steps, batch) of each row of packed data."""
    return np.concatenate(
        [step * batch_sizes[0] + np.arange(size) for step, size in enumerate(batch_sizes)]
    )


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(padded, lengths): the inverse of :func:`pack_padded_sequence`.

    ``padded`` has as many steps as the longest sequence, or ``total_length``.
    """
    batch_sizes = sequence.batch_sizes.numpy()  # type: ignore[attr-defined]
    longest = len(batch_sizes)
    if total_length is not None and total_length < longest:
        raise ValueError(
            "Expected total_length to be at least the length of the longest sequence in input, "
            f"but got total_length={total_length} and max sequence length being {longest}"
        )
    data: Any = sequence.data
    rows = data.shape[0]
    places = padded_places(batch_sizes, rows)
    if total_length is not None:
        places = np.pad(places, ((0, total_length - longest), (0, 0)), constant_values=rows)
    lengths = lengths_of_batches(batch_sizes)
    if sequence.unsorted_indices is not None:
        back = sequence.unsorted_indices.cpu().numpy()  # type: ignore[attr-defined]
        places, lengths = places[:, back], lengths[back]
    if batch_first:
        places = places.T
    filler = torch.full((1, *data.shape[1:]), padding_value, dtype=data.dtype, device=data.device)
    flat = functions.tensor(places.reshape(-1), device=data.device)
    padded = torch.cat([data, filler]).index_select(0, flat)
    return padded.reshape(*places.shape, *data.shape[1:]), functions.tensor(lengths)


def pad_sequence(
    sequences: Any,
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Tensor:
    """Sequences (length, *) as one padded tensor (longest, batch, *), or batch first.

    >>> pad_sequence([torch.tensor([1., 2.]), torch.tensor([3.])], batch_first=True)
    tensor([[1., 2.],
            [3., 0.]])
    """
    if isinstance(sequences, Tensor):
        sequences = list(sequences.unbind(0))  # type: ignore[attr-defined]
    if not isinstance(sequences, (list, tuple)):
        raise RuntimeError(
            "pad_sequence: Expected iterable for input sequences, but got arg of type: "
            f"{type(sequences)}"
        )
    if padding_side not in ("left", "right"):
        raise RuntimeError(
            "pad_sequence: padding_side should be either 'right' or 'left' but got "
            f"{padding_side!r}"
        )
    if not sequences:
        raise RuntimeError("received an empty list of sequences")
    longest = max(sequence.shape[0] for sequence in sequences)
    rows = []
    for sequence in sequences:
        missing = longest - sequence.shape[0]
        if missing:
            filler = torch.full(
                (missing, *sequence.shape[1:]), padding_value, dtype=sequence.dtype,
                device=sequence.device,
            )  # fmt: skip
            pair = [sequence, filler] if padding_side == "right" else [filler, sequence]
            sequence = torch.cat(pair)
        rows.append(sequence)
    return torch.stack(rows, 0 if batch_first else 1)  # type: ignore[no-any-return]


def unpad_sequence(
    padded_sequences: Tensor, lengths: Any, batch_first: bool = False
) -> list[Tensor]:
    """The sequences of a padded tensor, cut to their lengths."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)  # type: ignore[attr-defined]
    return [
        padded_sequences[number, :length]  # type: ignore[index]
        for number, length in enumerate(_lengths_of(lengths).tolist())
    ]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences (length, *), longest first unless ``enforce_sorted`` is false."""
    lengths = [sequence.shape[0] for sequence in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a packed batch, in their own order."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)
