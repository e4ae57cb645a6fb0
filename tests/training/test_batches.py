"""Batches: each row once, equal global batches for any number of processes, and no padding that no row needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Lazy

if TYPE_CHECKING:
    from torch import Tensor

    from popularity.training.batches import SongBatches

torch = Lazy("torch")
module = Lazy("popularity.training.batches")


def batches_of(table: dict[str, list[Any]], size: int, *, histories: str = "", **order: Any) -> SongBatches:
    """Batches of a table by an encoder that passes its columns on.

    With ``histories`` it samples histories ``(n, 2, 12)`` as long as the column ``songs`` says, padded in front with
    -1, or with ``random`` by chance one song longer.
    """
    from popularity.features.base import Encoder, Inputs

    class Columns(Encoder):
        padded = ("history",)
        inputs = Inputs()

        def fit(self, songs, folds=(), *, earlier=False):
            raise NotImplementedError

        def encode(self, songs, *, training=False):
            return {str(name): torch.tensor(column.to_list()) for name, column in songs.items()}

        def sample(self, rows, generator, *, training, samples):
            if not histories:
                return rows
            length = rows["songs"]
            if histories == "random":
                length = length + torch.randint(0, 2, length.shape, generator=generator)
            place = torch.arange(12)
            history = torch.where(place >= 12 - length[:, None], place, -1)[:, None].expand(-1, 2, -1)
            return {**rows, "history": history, "length": length}

        def state(self):
            raise NotImplementedError

        def load_state(self, state):
            raise NotImplementedError

    return module.SongBatches(Columns(), pd.DataFrame(table), size, order=module.Order(**order))


def numbered(count: int, size: int, **order: Any) -> SongBatches:
    return batches_of({"row": [*range(count)]}, size, **order)


def rows(batches: SongBatches) -> list[Tensor]:
    return [batch["row"] for batch in batches]


@given(
    count=st.integers(1, 200),
    size=st.integers(1, 40),
    world=st.integers(1, 4),
    shuffle=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_every_row_once_over_all_processes(count, size, world, shuffle, epoch):
    def loader(rank: int) -> SongBatches:
        return numbered(count, size, shuffle=shuffle, epoch=lambda: epoch, rank=rank, world_size=world)

    parts = [torch.cat([torch.empty(0, dtype=torch.long), *rows(loader(rank))]) for rank in range(world)]
    assert torch.cat(parts).sort().values.tolist() == list(range(count))
    # no process may get an empty batch in training: with a batch size of 1 a batch may then hold 2
    largest = max(size, 2) if shuffle else size
    assert count < world or all(len(batch) <= largest for rank in range(world) for batch in rows(loader(rank)))
    if shuffle:  # gradients are exchanged at each step: all processes need as many steps, none of them empty
        assert {len(rows(loader(rank))) for rank in range(world)} == {len(loader(0))}
        assert count < world or all(len(batch) for rank in range(world) for batch in rows(loader(rank)))


def test_two_processes_see_the_global_batches_of_one():
    one = rows(numbered(100, 20, shuffle=True, seed=3))
    two = [rows(numbered(100, 10, shuffle=True, seed=3, rank=rank, world_size=2)) for rank in (0, 1)]
    for whole, *halves in zip(one, *two, strict=True):
        assert sorted(whole.tolist()) == sorted(torch.cat(halves).tolist())


@given(count=st.integers(4, 60), size=st.integers(2, 9), world=st.integers(2, 4))
def test_the_average_over_processes_of_shared_means_is_the_mean_over_rows(count, size, world):
    loaders = [numbered(count, size, shuffle=True, rank=rank, world_size=world) for rank in range(world)]
    for batches in zip(*loaders, strict=True):
        means = [batch["row"].double().mean() * batch["share"] for batch in batches]
        expected = torch.cat([batch["row"] for batch in batches]).double().mean()
        torch.testing.assert_close(sum(means) / world, expected)


def test_one_process_has_no_share():
    assert all("share" not in batch for batch in numbered(20, 6, shuffle=True))


def test_order_depends_on_seed_and_epoch_alone():
    epoch = 0
    loader = numbered(50, 10, shuffle=True, seed=1, epoch=lambda: epoch)
    first = torch.cat(rows(loader)).tolist()
    torch.manual_seed(99)
    assert torch.cat(rows(loader)).tolist() == first
    epoch = 1
    assert torch.cat(rows(loader)).tolist() != first
    epoch = 0
    assert torch.cat(rows(numbered(50, 10, shuffle=True, seed=2))).tolist() != first


def test_without_shuffling_rows_come_in_order():
    assert [batch.tolist() for batch in rows(numbered(5, 2))] == [[0, 1], [2, 3], [4]]


def test_training_batches_are_of_nearly_equal_size():
    """Rows are spread evenly: there is no short last batch."""
    assert sorted(len(batch) for batch in rows(numbered(50, 16, shuffle=True))) == [12, 12, 13, 13]


def test_batches_keep_rows_together():
    for batch in batches_of({"row": [*range(30)], "popularity": [2.0 * i for i in range(30)]}, 7, shuffle=True):
        assert torch.equal(batch["popularity"], batch["row"] * 2.0)


@given(
    count=st.integers(1, 120),
    size=st.integers(1, 20),
    world=st.integers(1, 3),
    shuffle=st.booleans(),
    chance=st.booleans(),
)
def test_histories_are_cut_to_the_longest_of_a_batch(count, size, world, shuffle, chance):
    """No row is lost, none loses a song, and as many processes as there may be see the same global batches."""
    lengths = torch.randint(0, 11, (count,), generator=torch.Generator().manual_seed(count))
    table = {"row": [*range(count)], "songs": lengths.tolist()}
    histories = "random" if chance else "as the column says"

    def batches(rank: int, world: int, size: int) -> list[dict[str, Tensor]]:
        return list(batches_of(table, size, histories=histories, shuffle=shuffle, rank=rank, world_size=world))

    whole = batches(0, 1, size * world)
    seen = torch.cat([batch["row"] for batch in whole])
    assert seen.sort().values.tolist() == list(range(count))
    assert shuffle or seen.tolist() == list(range(count))
    for batch in whole:
        songs = (batch["history"] >= 0).sum(-1)
        extra = songs - batch["songs"][:, None]
        assert ((extra == 0) | (extra == 1 if chance else False)).all()
        assert batch["history"].shape == (len(batch["row"]), 2, songs.max())
        assert "length" not in batch
    parts = [batches(rank, world, size) for rank in range(world)]
    if shuffle and len(parts[0]) != len(whole):
        return  # so few rows that one process makes more batches of them
    for i, batch in enumerate(whole):
        shares = [part[i]["row"] for part in parts if i < len(part)]
        assert torch.cat(shares).sort().values.tolist() == batch["row"].sort().values.tolist()


def test_training_batches_hold_histories_of_similar_length():
    lengths = torch.randint(0, 11, (400,), generator=torch.Generator().manual_seed(0))
    table = {"row": [*range(400)], "songs": lengths.tolist()}
    padding = [
        sum(int((batch["history"] < 0).sum()) for batch in batches_of(table, 20, histories="yes", shuffle=shuffle))
        for shuffle in (True, False)
    ]
    assert padding[0] < 0.25 * padding[1]


def test_batches_of_similar_length_come_in_random_order():
    lengths = torch.randint(0, 11, (400,), generator=torch.Generator().manual_seed(0))
    table = {"row": [*range(400)], "songs": lengths.tolist()}
    longest = [batch["history"].shape[-1] for batch in batches_of(table, 20, histories="yes", shuffle=True)]
    assert longest[:8] != sorted(longest[:8])


@pytest.mark.parametrize("shuffle", [True, False])
def test_histories_are_sampled_anew_each_epoch(shuffle):
    """In training. Elsewhere two passes give the same histories: a prediction can be repeated."""
    epoch = 0
    table = {"row": [*range(100)], "songs": [5] * 100}
    loader = batches_of(table, 10, histories="random", shuffle=shuffle, epoch=lambda: epoch)

    def sampled() -> list[list[int]]:
        return sorted(
            [int(row), *map(int, one.flatten())]
            for b in loader
            for row, one in zip(b["row"], b["history"], strict=True)
        )

    first = [(row[0], row.count(-1)) for row in sampled()]
    epoch = 1
    assert ([(row[0], row.count(-1)) for row in sampled()] != first) == shuffle
