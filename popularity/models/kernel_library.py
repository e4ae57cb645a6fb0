"""The C++ kernels' shared library: find it, check that it fits this version of the package, call it.

The kernels (``kernels/``) know neither Python nor PyTorch, so one build serves every version of both. They are optional
extension modules, one for each instruction set, which are never imported, only loaded; without a compiler at
installation there are none. PyTorch is imported first, so that both use the OpenMP runtime that it brings.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

logger = logging.getLogger(__name__)

VERSION = 3  # the interface's: raised with the number of the same name in kernels/scan.cpp
CHANNELS = 16  # the kernels take whole vectors of channels: a multiple of this
TAPS_MAX = 8
STATES_MAX = 64  # of the S6 kernels
SEGMENT = 16  # tokens whose states the S6 kernels hold at once
CHUNK = 32  # tokens between two states that the Mamba-2 kernels keep
INSTRUCTION_SETS = {"AVX512": ("avx512", "avx2", "portable"), "AVX2": ("avx2", "portable")}

_forked = False


def _after_fork() -> None:
    # OpenMP's threads do not survive a fork and its runtime waits for them forever: one thread from then on
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_after_fork)


class ScanCall(ctypes.Structure):
    """The structure of the same name in ``kernels/scan.cpp``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "length", "channels", "states")),
        *((name, ctypes.c_int64) for name in ("softplus", "interval", "threads")),
        *((name, ctypes.c_void_p) for name in ("x", "delta", "z", "b", "c", "A", "D", "bias", "y", "kept")),
        *((name, ctypes.c_void_p) for name in ("dy", "dx", "ddelta", "dz", "db", "dc", "sums")),
    )  # fmt: skip


class BlockCall(ctypes.Structure):
    """The structure of the same name in ``kernels/block.h``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "length", "width", "channels", "states")),
        *((name, ctypes.c_int64) for name in ("rank", "taps", "interval", "threads")),
        *((name, ctypes.c_void_p) for name in ("u", "w_in", "conv", "conv_bias", "w_x", "w_dt", "bias")),
        *((name, ctypes.c_void_p) for name in ("A", "D", "w_out")),
        *((name, ctypes.c_void_p) for name in ("out", "xz", "projected", "kept", "dout", "du", "sums")),
    )  # fmt: skip


class Mamba2Call(ctypes.Structure):
    """The structure of the same name in ``kernels/mamba2.h``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "length", "width", "heads", "headdim", "states", "steps")),
        *((name, ctypes.c_int64) for name in ("taps", "threads", "channels")),
        *((name, ctypes.c_void_p) for name in ("u", "keep", "w_in", "conv", "conv_bias", "dt_bias", "A", "D", "w_out")),
        *((name, ctypes.c_void_p) for name in ("out", "projected", "kept", "dout", "du", "sums")),
    )  # fmt: skip


class EmbeddingCall(ctypes.Structure):
    """The structure of the same name in ``kernels/embedding.h``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("known", "rows", "size", "categories", "hidden", "width", "threads")),
        *((name, ctypes.c_void_p) for name in ("known_song", "song", "codes", "role", "song_bits", "hidden_bits")),
        *((name, ctypes.c_int64) for name in ("song_threshold", "hidden_threshold")),
        *((name, ctypes.c_float) for name in ("song_scale", "hidden_scale")),
        *((name, ctypes.c_void_p) for name in ("w_in", "b_in", "table", "w_out", "b_out")),
        *((name, ctypes.c_void_p) for name in ("kept", "out", "dout", "sums")),
        ("codes_of_all", ctypes.c_int64),
    )  # fmt: skip


class NormCall(ctypes.Structure):
    """The structure of the same name in ``kernels/norm.h``."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "width", "threads")),
        ("epsilon", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("x", "weight", "out", "dout", "dx", "sums")),
    )


#: What the library exports as ``popularity_abi``: it is used only if these are equal.
ABI = (
    VERSION, *(ctypes.sizeof(structure) for structure in (ScanCall, BlockCall, Mamba2Call, EmbeddingCall, NormCall)),
    CHANNELS, TAPS_MAX, STATES_MAX, SEGMENT, CHUNK,
)  # fmt: skip


def _find(instruction_set: str) -> Path | None:
    """The library beside this module, else in another ``popularity`` on ``sys.path``.

    A checkout that is the working folder hides an installed package: Python runs the checkout's modules, and only the
    installed package has the kernels.
    """
    here = Path(__file__).parent
    folders = [here, *(Path(entry, "popularity", "models") for entry in sys.path)]
    spec = PathFinder.find_spec(f"_scan_{instruction_set}", [str(folder) for folder in folders])
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin)
    if path.parent.resolve() != here.resolve():
        logger.info("C++ kernels: found none in %s, using those of the installed package in %s", here, path.parent)
    return path


@cache
def load(instruction_set: str) -> ctypes.CDLL | None:
    """The kernels built for ``avx512``, ``avx2`` or ``portable``; None if there are none that fit and load."""
    path = _find(instruction_set)
    if path is None:
        return None
    try:
        library = ctypes.CDLL(str(path))
    except OSError:
        return None
    try:
        found = tuple((ctypes.c_int64 * len(ABI)).in_dll(library, "popularity_abi"))
    except ValueError:
        found = None  # from before there was one
    if found != ABI:
        logger.warning("%s: built from another version of popularity, not used; install popularity again", path)
        return None
    return library


@cache
def instruction_set() -> str | None:
    """The best instruction set for which there are kernels that this machine can run."""
    names = INSTRUCTION_SETS.get(torch.backends.cpu.get_cpu_capability(), ("portable",))
    return next((name for name in names if load(name) is not None), None)


def takes(tensor: Tensor, states: int, taps: int = 1) -> bool:
    """Whether the kernels can take inputs like ``tensor`` with this many states and taps of the convolution."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype in (torch.float32, torch.bfloat16, torch.float16)
        and 1 <= states <= STATES_MAX
        and 1 <= taps <= TAPS_MAX
        and tensor.numel() > 0
        and instruction_set() is not None
    )


def call(function: str, arguments: ctypes.Structure) -> None:
    """Call a kernel.

    Raises:
        MemoryError: A thread got no memory for its buffers.
    """
    library = load(instruction_set() or "portable")
    if getattr(library, function)(ctypes.byref(arguments)):
        raise MemoryError(f"{function}: no memory for a thread's buffers")


def threads(batch: int) -> int:
    """Threads to use: PyTorch's number, one in a forked process, no more than there are sequences."""
    return 1 if _forked else max(1, min(torch.get_num_threads(), batch))


def interval(states: int) -> int:
    """Tokens between two kept states: at least as many as states, so that what is kept is no larger than the input."""
    return SEGMENT * -(-states // SEGMENT)


def pointer(tensor: Tensor | None) -> int | None:
    """Address of a tensor's first element."""
    return None if tensor is None else tensor.data_ptr()


def round_up(size: int) -> int:
    """The next multiple of ``CHANNELS``."""
    return size + -size % CHANNELS


def pad(tensor: Tensor, dim: int) -> Tensor:
    """Zeros behind ``tensor`` along ``dim`` up to a multiple of ``CHANNELS``; the result is contiguous."""
    missing = -tensor.shape[dim] % CHANNELS
    if missing:
        tensor = F.pad(tensor, (0, 0) * (tensor.dim() - 1 - dim) + (0, missing))
    return tensor.contiguous()
