"""Tensors in mapped files: what is read ahead of them."""

from __future__ import annotations

import mmap

import pytest


class Advised:
    """Stands for a mapping, and keeps what it is told of which bytes."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, int]] = []

    def madvise(self, option: int, start: int, length: int) -> None:
        self.told.append((option, start, length))


@pytest.fixture
def mapped_rows(monkeypatch):
    import torch

    from popularity.features import mapped

    monkeypatch.setattr(mapped, "MAPPED", 1000)

    def rows(**more):
        return mapped.in_chunks(lambda part: {"x": torch.arange(100.0)[part, None].repeat(1, 77)}, 100, 30, **more)["x"]

    return rows


def test_rows_are_read_ahead_from_the_page_where_they_begin(mapped_rows):
    from popularity.features.mapped import read_ahead

    rows = mapped_rows()
    read_ahead(rows, slice(90, 100))  # the system takes it: pages within the file
    assert rows[:, 5].tolist() == list(map(float, range(100)))
    rows.mapping = Advised()
    read_ahead(rows, slice(30, 60))
    ((option, start, length),) = rows.mapping.told
    assert option == mmap.MADV_WILLNEED
    assert start % mmap.PAGESIZE == 0
    assert start <= 30 * 77 * 4 < start + mmap.PAGESIZE
    assert start + length == 60 * 77 * 4


def test_nothing_is_read_ahead_of_what_is_in_memory_or_in_order(mapped_rows):
    import torch

    from popularity.features.mapped import read_ahead

    read_ahead(torch.zeros(5, 2), slice(0, 5))
    assert not hasattr(mapped_rows(scattered=False), "mapping")


def test_a_checkpoint_reads_the_vectors_of_known_songs_ahead(mapped_rows, monkeypatch):
    import torch

    from popularity.features import mapped, vectors
    from popularity.features.song import NUMERIC_FEATURES

    monkeypatch.setattr(mapped, "CHUNK", 40)
    count = len(NUMERIC_FEATURES)
    song = mapped.in_chunks(lambda part: {"x": torch.ones(100, count * 4)[part]}, 100)["x"]
    song.mapping = Advised()
    known = {"song": song, "category": torch.zeros(100, 6, dtype=torch.long)}
    short = vectors.shortened(known, 1)
    assert len(song.mapping.told) == 3
    assert short["numeric"].shape == (100, count)
