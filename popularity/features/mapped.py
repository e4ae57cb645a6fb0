"""Tensors of millions of rows, made part by part, in files mapped into memory: see `popularity.data.mapped`."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from popularity.data.mapped import temporary_files

#: Songs that are encoded at once: what encoding needs beside its result does not grow with the number of songs.
CHUNK = 1 << 16
#: Tensors of more bytes are mapped.
MAPPED = 1 << 28


def in_chunks(
    encode: Callable[[slice], dict[str, Tensor]], songs: int, chunk: int | None = None, *, scattered: bool = True
) -> dict[str, Tensor]:
    """Encode songs part by part.

    Args:
        encode: gives the named tensors of some rows, each of which depends on its own song alone.
        songs: ``n``.
        chunk: songs of a part, if not `CHUNK`.
        scattered: songs will be read here and there rather than one after another.

    Returns:
        The tensors of all rows; large ones lie in files of the folder for temporary files, gone with the tensor.

    Raises:
        InputError: there is no space for the files.
    """
    chunk = chunk or CHUNK
    found = encode(slice(0, min(chunk, songs)))
    if songs <= chunk:
        return found
    large = [name for name, value in found.items() if songs * value[0].nbytes > MAPPED]
    together = {name: value.new_empty((songs, *value.shape[1:])) for name, value in found.items() if name not in large}
    with temporary_files(len(large)) as opened:
        files = dict(zip(large, opened, strict=True))
        for start in range(0, songs, chunk):
            part = slice(start, min(start + chunk, songs))
            for name, value in (encode(part) if start else found).items():
                if name in files:
                    files[name].write(value.contiguous().numpy().data)
                else:
                    together[name][part] = value
        for name, file in files.items():
            file.flush()
            together[name] = _mapped(file, (songs, *found[name].shape[1:]), found[name].dtype, scattered)
    return {name: together[name] for name in found}


def read_ahead(rows: Tensor, part: slice) -> None:
    """Have the system read some rows, one after another, of a tensor that it otherwise reads here and there."""
    whole: mmap.mmap | None = getattr(rows, "mapping", None)
    if whole is not None:
        start = part.start * rows[0].nbytes // mmap.PAGESIZE * mmap.PAGESIZE
        whole.madvise(mmap.MADV_WILLNEED, start, part.stop * rows[0].nbytes - start)


def _mapped(file: Any, shape: Sequence[int], dtype: torch.dtype, scattered: bool) -> Tensor:
    whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    found = torch.frombuffer(whole, dtype=dtype).view(*shape)
    # what lies around a song in the file would be read in vain, 128 KB for each; Windows takes no such advice
    if scattered and hasattr(whole, "madvise"):
        whole.madvise(mmap.MADV_RANDOM)
        found.mapping = whole  # type: ignore[attr-defined]  # for `read_ahead`
    return found
