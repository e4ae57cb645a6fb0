"""Tensors of millions of rows, in files that are mapped into memory: see `popularity.data.mapped`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from popularity.data.mapped import temporary_files

#: Songs that are encoded at once: what encoding needs beside its result does not grow with the number of songs.
CHUNK = 1 << 16
#: Tensors of more bytes are mapped.
MAPPED = 1 << 28


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor of this shape; a large one lies in a file of the folder for temporary files, gone with the tensor.

    Raises:
        InputError: there is no space for the file.
    """
    count = torch.Size(shape).numel()
    size = count * dtype.itemsize
    if size <= MAPPED:
        return torch.empty(*shape, dtype=dtype)
    with temporary_files(1) as (file,):
        os.posix_fallocate(file.fileno(), 0, size)  # a disk that is full later would kill the process
        return torch.from_file(file.name, shared=True, size=count, dtype=dtype).view(*shape)


def in_chunks(encode: Callable[[slice], dict[str, Tensor]], songs: int) -> dict[str, Tensor]:
    """Encode songs part by part.

    Args:
        encode: gives the named tensors of some rows, each of which depends on its own song alone.
        songs: ``n``.

    Returns:
        The tensors of all rows.

    Raises:
        InputError: as :func:`empty`.
    """
    found = encode(slice(0, CHUNK))
    if songs <= CHUNK:
        return found
    together = {name: empty((songs, *value.shape[1:]), value.dtype) for name, value in found.items()}
    for start in range(0, songs, CHUNK):
        part = slice(start, start + CHUNK)
        for name, value in (encode(part) if start else found).items():
            together[name][part] = value
    return together
