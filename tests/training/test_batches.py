from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture(scope="module", autouse=True)
def _imports() -> None:
    """What is slow to import: with the first of these tests, not while tests are collected."""
    global torch, TensorBatches
    import torch

    from popularity.training.batches import TensorBatches


def rows(batches: TensorBatches) -> list[torch.Tensor]:
    return [batch["row"] for batch in batches]


@given(
    count=st.integers(1, 200),
    size=st.integers(1, 40),
    world=st.integers(1, 4),
    shuffle=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_every_row_once_over_all_processes(count, size, world, shuffle, epoch):
    def loader(rank: int) -> TensorBatches:
        return TensorBatches(
            {"row": torch.arange(count)},
            size,
            shuffle=shuffle,
            epoch=lambda: epoch,
            rank=rank,
            world_size=world,
        )

    parts = [torch.cat([torch.empty(0, dtype=torch.long), *rows(loader(rank))]) for rank in range(world)]
    assert torch.cat(parts).sort().values.tolist() == list(range(count))
    # no process may get an empty batch in training: with a batch size of 1 a batch may then hold 2
    largest = max(size, 2) if shuffle else size
    assert count < world or all(len(batch) <= largest for rank in range(world) for batch in rows(loader(rank)))
    if shuffle:  # gradients are exchanged at each step: all processes need as many steps, none of them empty
        assert {len(rows(loader(rank))) for rank in range(world)} == {len(loader(0))}
        assert count < world or all(len(batch) for rank in range(world) for batch in rows(loader(rank)))


def test_two_processes_see_the_global_batches_of_one():
    data = {"row": torch.arange(100)}
    one = rows(TensorBatches(data, 20, shuffle=True, seed=3))
    two = [rows(TensorBatches(data, 10, shuffle=True, seed=3, rank=rank, world_size=2)) for rank in (0, 1)]
    for whole, *halves in zip(one, *two, strict=True):
        assert sorted(whole.tolist()) == sorted(torch.cat(halves).tolist())


@given(count=st.integers(4, 60), size=st.integers(2, 9), world=st.integers(2, 4))
def test_the_average_over_processes_of_shared_means_is_the_mean_over_rows(count, size, world):
    data = {"row": torch.arange(count, dtype=torch.float64)}
    loaders = [TensorBatches(data, size, shuffle=True, rank=rank, world_size=world) for rank in range(world)]
    for batches in zip(*loaders, strict=True):
        rows = torch.cat([batch["row"] for batch in batches])
        average = sum((batch["row"].mean() if len(batch["row"]) else 0.0) * batch["share"] for batch in batches) / world
        torch.testing.assert_close(average, rows.mean())


def test_order_depends_on_seed_and_epoch_alone():
    epoch = 0
    loader = TensorBatches({"row": torch.arange(50)}, 10, shuffle=True, seed=1, epoch=lambda: epoch)
    first = torch.cat(rows(loader)).tolist()
    torch.manual_seed(99)
    assert torch.cat(rows(loader)).tolist() == first
    epoch = 1
    assert torch.cat(rows(loader)).tolist() != first


def test_batches_keep_rows_together():
    data = {"row": torch.arange(30), "double": torch.arange(30) * 2}
    for batch in TensorBatches(data, 7, shuffle=True):
        assert torch.equal(batch["double"], batch["row"] * 2)


def lengths_as(generator_used: bool):
    """Histories of the length that a row's number says, padded in front; optionally one more or less by chance."""

    def prepare(rows, generator):
        more = torch.randint(0, 2, rows["length"].shape, generator=generator) if generator_used else 0
        length = rows["length"] + more
        place = torch.arange(12)
        history = torch.where(place >= 12 - length[:, None], place, -1)[:, None].expand(-1, 2, -1)
        return {"row": rows["row"], "history": history, "length": length}

    return prepare


@given(
    count=st.integers(1, 120),
    size=st.integers(1, 20),
    world=st.integers(1, 3),
    shuffle=st.booleans(),
    chance=st.booleans(),
)
def test_histories_are_cut_to_the_longest_of_a_batch(count, size, world, shuffle, chance):
    """No row is lost, none loses a song, and as many processes as there may be see the same global batches."""
    generator = torch.Generator().manual_seed(count)
    tensors = {"row": torch.arange(count), "length": torch.randint(0, 11, (count,), generator=generator)}

    def batches(rank: int, world: int, size: int) -> list:
        options = {"shuffle": shuffle, "rank": rank, "world_size": world, "prepare": lengths_as(chance)}
        return list(TensorBatches(tensors, size, **options))

    whole = batches(0, 1, size * world)
    seen = torch.cat([batch["row"] for batch in whole])
    assert seen.sort().values.tolist() == list(range(count))
    assert shuffle or seen.tolist() == list(range(count))
    for batch in whole:
        songs = (batch["history"] >= 0).sum(-1)
        extra = songs - tensors["length"][batch["row"]][:, None]
        assert ((extra == 0) | (extra == 1 if chance else False)).all()
        assert batch["history"].shape == (len(batch["row"]), 2, songs.max())
        assert "length" not in batch
    parts = [batches(rank, world, size) for rank in range(world)]
    if shuffle and len(parts[0]) != len(whole):
        return  # so few rows that one process makes more batches of them
    for i, batch in enumerate(whole):
        shares = [part[i]["row"] for part in parts if i < len(part)]
        assert torch.cat(shares).sort().values.tolist() == batch["row"].sort().values.tolist()


def test_in_training_like_goes_with_like():
    tensors = {"row": torch.arange(400), "length": torch.randint(0, 11, (400,), generator=torch.Generator())}
    prepare = lengths_as(False)
    padding = [
        sum(int((batch["history"] < 0).sum()) for batch in TensorBatches(tensors, 20, prepare=prepare, shuffle=shuffle))
        for shuffle in (True, False)
    ]
    assert padding[0] < 0.25 * padding[1]
