"""Datasets, samplers, collation and the loader."""

from __future__ import annotations

import itertools
from collections import namedtuple

import numpy as np
import pytest

import lazytorch as torch
from lazytorch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    random_split,
)


class Squares(Dataset):
    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int):
        return np.float32(index), index**2


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(5))


def pairs() -> TensorDataset:
    return TensorDataset(torch.arange(10), torch.arange(10) * 2)


def test_datasets() -> None:
    assert [value.item() for value in pairs()[3]] == [3, 6]
    joined = Squares(3) + Squares(2)
    assert len(joined) == 5 and joined[4] == (1, 1) and joined[-1] == (1, 1)
    with pytest.raises(ValueError, match="should not exceed dataset length"):
        joined[-6]
    assert Subset(Squares(5), [4, 2])[1] == (2, 4)
    assert StackDataset(a=Squares(2), b=Squares(2))[1] == {"a": (1, 1), "b": (1, 1)}
    with pytest.raises(AssertionError, match="Size mismatch"):
        TensorDataset(torch.ones(2), torch.ones(3))
    with pytest.raises(AssertionError, match="empty iterable"):
        ConcatDataset([])


def test_random_split() -> None:
    parts = random_split(range(10), [0.7, 0.3], generator=torch.Generator().manual_seed(1))
    assert [len(part) for part in parts] == [7, 3]
    assert sorted(sample for part in parts for sample in part) == list(range(10))
    with pytest.raises(ValueError, match="does not equal the length"):
        random_split(range(10), [3, 3])


def test_samplers() -> None:
    data = range(6)
    assert list(SequentialSampler(data)) == [0, 1, 2, 3, 4, 5]
    generator = torch.Generator().manual_seed(3)
    first = list(RandomSampler(data, generator=generator))
    second = list(RandomSampler(data, generator=generator))
    assert sorted(first) == sorted(second) == list(data) and first != second
    assert first == list(RandomSampler(data, generator=torch.Generator().manual_seed(3)))
    assert len(list(RandomSampler(data, num_samples=15))) == 15
    drawn = list(RandomSampler(data, replacement=True, num_samples=50))
    assert len(drawn) == 50 and set(drawn) <= set(data)
    assert sorted(SubsetRandomSampler([5, 7, 9])) == [5, 7, 9]
    weighted = list(WeightedRandomSampler([0.0, 1.0, 3.0], 4000))
    assert 0 not in weighted and 0.7 < weighted.count(2) / 4000 < 0.8
    once = list(WeightedRandomSampler([0.0, 1.0, 3.0], 2, replacement=False))
    assert sorted(once) == [1, 2]
    assert list(BatchSampler(range(5), 2, True)) == [[0, 1], [2, 3]]
    assert len(BatchSampler(range(5), 2, False)) == 3
    with pytest.raises(ValueError, match="batch_size should be a positive integer"):
        BatchSampler(range(5), 0, False)


def test_collate() -> None:
    point = namedtuple("point", "x y")
    batch = default_collate([{"a": 1, "b": "s", "p": point(1.0, np.ones(2))}] * 3)
    assert batch["a"].tolist() == [1, 1, 1] and batch["a"].dtype is torch.int64
    assert batch["b"] == ["s"] * 3
    assert batch["p"].x.dtype is torch.float64 and tuple(batch["p"].y.shape) == (3, 2)
    rows = torch.arange(6).reshape(3, 2)
    assert default_collate([rows[2], rows[0]]).tolist() == [[4, 5], [0, 1]]
    assert default_collate([torch.ones(2, dtype=torch.bfloat16)] * 2).dtype is torch.bfloat16
    with pytest.raises(RuntimeError, match="equal size"):
        default_collate([[1], [1, 2]])
    with pytest.raises(RuntimeError, match="equal size"):
        default_collate([torch.ones(2), torch.ones(3)])
    with pytest.raises(TypeError, match="must contain tensors"):
        default_collate([object()])


def test_types_of_the_users_own(monkeypatch) -> None:
    from lazytorch.utils.data._utils.collate import default_collate_fn_map

    class Box(list):
        """A list that knows more than its entries."""

        color = "red"

    class Money:
        def __init__(self, cents: int) -> None:
            self.cents = cents

    def add(batch, *, collate_fn_map=None):
        assert collate_fn_map is default_collate_fn_map
        return Money(sum(money.cents for money in batch))

    boxes = [Box([1, 2.0]), Box([3, 4.0])]
    boxes[0].color = "blue"
    made = default_collate(boxes)
    assert type(made) is Box and made.color == "blue" and made[0].tolist() == [1, 3]
    monkeypatch.setitem(default_collate_fn_map, Money, add)
    made = default_collate([{"m": Money(3), "r": range(2)}, {"m": Money(4), "r": range(2)}])
    assert made["m"].cents == 7 and [entry.tolist() for entry in made["r"]] == [[0, 0], [1, 1]]
    converted = default_convert({"a": Box([np.ones(2)]), "b": (np.int16(3), "x", np.array("s"))})
    assert type(converted["a"]) is Box and converted["a"][0].dtype is torch.float64
    assert converted["b"][0].dtype is torch.int16 and converted["b"][1:] == ["x", np.array("s")]
    # Whole batches are taken from tensors at once only while nothing else is wanted of tensors.
    monkeypatch.setitem(default_collate_fn_map, torch.Tensor, lambda batch, **_: len(batch))
    assert next(iter(DataLoader(pairs(), 4))) == [4, 4]


def test_shares_of_several_processes() -> None:
    data = range(11)
    for drop_last in (False, True):
        shares = [
            DistributedSampler(data, 3, rank, seed=5, drop_last=drop_last) for rank in range(3)
        ]
        passes = []
        for epoch in range(2):
            for share in shares:
                share.set_epoch(epoch)
            lists = [list(share) for share in shares]
            assert (
                {len(one) for one in lists} == {len(share) for share in shares} == {4 - drop_last}
            )
            passes.append(sorted(itertools.chain(*lists)))
            assert set(passes[-1]) <= set(data) and len(set(passes[-1])) == 11 - 2 * drop_last
        assert list(shares[0]) == list(shares[0])
    with pytest.raises(ValueError, match="Invalid rank 3"):
        DistributedSampler(data, 3, 3)
    with pytest.raises(RuntimeError, match="give num_replicas and rank"):
        DistributedSampler(data)


def test_several_samples_at_once() -> None:
    class Together(Squares):
        def __getitems__(self, indices):
            return [f"{index}!" for index in indices]

    stacked = StackDataset(Together(4), Squares(4))
    assert stacked.__getitems__([1, 3]) == [("1!", (1, 1)), ("3!", (3, 9))]
    named = StackDataset(a=Together(4))
    assert next(iter(DataLoader(named, 2))) == {"a": ["0!", "1!"]}


@pytest.mark.parametrize("data", [pairs(), Subset(pairs(), list(range(10)))])
def test_loader_over_tensors(data) -> None:
    loader = DataLoader(data, batch_size=4)
    assert len(loader) == 3
    assert [batch[0].tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [len(batch[1]) for batch in DataLoader(data, 4, drop_last=True)] == [4, 4]
    generator = torch.Generator().manual_seed(0)
    shuffled = DataLoader(data, batch_size=4, shuffle=True, generator=generator)
    for _ in range(2):
        batches = list(shuffled)
        assert sorted(n for b in batches for n in b[0].tolist()) == list(range(10))
        assert all((b[1] == b[0] * 2).all().item() for b in batches)


def test_loader_over_anything() -> None:
    first = next(iter(DataLoader(Squares(5), batch_size=2)))
    assert first[0].dtype is torch.float32 and first[1].tolist() == [0, 1]
    assert [b.tolist() for b in DataLoader(Stream(), batch_size=2)] == [[0, 1], [2, 3], [4]]
    assert list(DataLoader(Stream(), batch_size=None)) == [0, 1, 2, 3, 4]
    assert list(DataLoader(Squares(2), batch_size=2, collate_fn=len)) == [2]
    chosen = DataLoader(Squares(9), batch_sampler=[[1, 2], [8]])
    assert [b[1].tolist() for b in chosen] == [[1, 4], [64]]
    assert next(iter(DataLoader(Squares(3), batch_size=None, sampler=[2])))[1] == 4


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"num_workers": 2, "prefetch_factor": 0}, ValueError, "should be positive"),
        ({"num_workers": 2, "multiprocessing_context": "x"}, ValueError, "valid start method"),
        ({"multiprocessing_context": "fork"}, ValueError, "num_workers > 0"),
        ({"num_workers": -1}, ValueError, "non-negative"),
        ({"sampler": [1], "shuffle": True}, ValueError, "mutually exclusive with shuffle"),
        ({"batch_sampler": [[1]], "batch_size": 2}, ValueError, "mutually exclusive"),
        ({"batch_size": None, "drop_last": True}, ValueError, "disables auto-batching"),
        ({"persistent_workers": True}, ValueError, "num_workers > 0"),
        ({"prefetch_factor": 2}, ValueError, "prefetch_factor"),
        ({"batch_size": 0}, ValueError, "batch_size should be a positive integer"),
        ({"timeout": -1}, ValueError, "timeout"),
    ],
)
def test_loader_mistakes(options: dict, error, text: str) -> None:
    with pytest.raises(error, match=text):
        DataLoader(Squares(3), **options)
    with pytest.raises(ValueError, match="expected unspecified shuffle"):
        DataLoader(Stream(), shuffle=True)
    with pytest.raises(ValueError, match="should not be set after"):
        DataLoader(Squares(3)).batch_size = 3


def test_batches_of_one_size_are_one_plan() -> None:
    images = torch.tensor(np.arange(40, dtype=np.float32).reshape(10, 4))
    loader = DataLoader(TensorDataset(images), batch_size=2, shuffle=True)
    missed = []
    for (batch,) in loader:
        before = torch.stats()["plans_missed"]
        (batch * 2 + 1).realize()
        missed.append(torch.stats()["plans_missed"] - before)
    assert sum(missed[1:]) == 0


def test_rows_of_a_bare_tensor_wait_once() -> None:
    rows = torch.arange(40.0).reshape(10, 4)
    loader = DataLoader(rows, batch_size=4)
    before = torch.stats()["syncs"]
    batches = list(loader)
    assert torch.stats()["syncs"] - before <= 1
    assert [batch.shape[0] for batch in batches] == [4, 4, 2]
    assert torch.cat(batches).tolist() == rows.tolist()
