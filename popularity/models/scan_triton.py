"""Selective scan in Triton: float32 on a GPU, same interface as ``scan_torch.py`` (shapes: ``scan_inputs.py``).

One program reads a sequence token by token, for a block of channels whose states (n, block) stay in its registers. The
backward pass recomputes them one segment at a time from the states kept at the segments' starts; the states before each
token of a segment lie in scratch memory that belongs to the program. A program takes several sequences in turn and adds
up their gradients of the parameters, so that nothing of size b x l x n x d ever exists and no order of additions
depends on chance.

Import this module only where Triton is installed; ``TRITON_INTERPRET=1`` runs it on a CPU, slowly, for tests.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

from popularity.models.scan_inputs import ParameterGradients, ScanGradients, ScanInputs

SEGMENT = 16  # tokens between two kept states
TILE = 512  # states of a program at most, where 8 channels do not take more: 16 registers of each thread of a warp
STAGES = 1  # tokens whose inputs are fetched ahead; 3 gains a quarter at 1,024 tokens and loses one at 14 (H100)
PROGRAMS = 1024  # of the backward pass at most, more or less: what a large GPU runs at a time

# Sizes that differ from batch to batch: no kernel is built anew for one that happens to be 1 or divisible by 16.
SIZES = ["length", "x_batch", "x_row", "delta_batch", "delta_row", "z_batch", "z_row"]
SIZES += ["b_batch", "b_row", "c_batch", "c_row"]
BACKWARD_SIZES = ["batch", *SIZES, "dout_batch", "dout_row", "dx_batch", "dx_row"]
BACKWARD_SIZES += ["ddelta_batch", "ddelta_row", "dz_batch", "dz_row"]


@triton.jit
def _softplus(x):
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|), with log1p(t) = t P(t) on [0, 1] to a relative error of 3e-8."""
    t = tl.exp(-tl.abs(x))
    p = 0.005232693567162261
    p = p * t - 0.02950523596296856
    p = p * t + 0.07822594732451496
    p = p * t - 0.13663245408015293
    p = p * t + 0.19106006578421386
    p = p * t - 0.2484298216687181
    p = p * t + 0.333190968016123
    p = p * t - 0.49999493140189116
    p = p * t + 1.0
    return tl.maximum(x, 0.0) + p * t


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit(do_not_specialize=SIZES)
def _forward(
    x_ptr, delta_ptr, z_ptr, b_ptr, c_ptr, A_ptr, D_ptr, bias_ptr, y_ptr, starts_ptr,
    length, channels, states, x_batch, x_row, delta_batch, delta_row, z_batch, z_row, b_batch, b_row, c_batch, c_row,
    SOFTPLUS: tl.constexpr, GATED: tl.constexpr, SAVE: tl.constexpr, SEGMENT: tl.constexpr, N: tl.constexpr,
    BLOCK: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """y, and the states before every token whose number is a positive multiple of SEGMENT."""
    row = tl.program_id(0).to(tl.int64)
    d, n = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, N)
    real_d, real_n = d < channels, n < states
    real, at = real_n[:, None] & real_d[None, :], n[:, None] * channels + d[None, :]
    A = tl.load(A_ptr + at, mask=real, other=0.0)
    D = tl.load(D_ptr + d, mask=real_d, other=0.0)
    bias = tl.load(bias_ptr + d, mask=real_d, other=0.0)
    kept = starts_ptr + row * ((length - 1) // SEGMENT) * states * channels + at
    h = tl.zeros([N, BLOCK], tl.float32)
    for t in tl.range(0, length, num_stages=STAGES):
        if SAVE:
            starts = real & (t > 0) & (t % SEGMENT == 0)
            tl.store(kept + (t // SEGMENT - 1) * states * channels, h, mask=starts)
        x = tl.load(x_ptr + row * x_batch + t * x_row + d, mask=real_d, other=0.0)
        dt = tl.load(delta_ptr + row * delta_batch + t * delta_row + d, mask=real_d, other=0.0) + bias
        if SOFTPLUS:
            dt = _softplus(dt)
        b = tl.load(b_ptr + row * b_batch + t * b_row + n, mask=real_n, other=0.0)
        c = tl.load(c_ptr + row * c_batch + t * c_row + n, mask=real_n, other=0.0)
        h = tl.exp(dt[None, :] * A) * h + b[:, None] * (dt * x)[None, :]
        y = tl.sum(h * c[:, None], 0) + D * x
        if GATED:
            z = tl.load(z_ptr + row * z_batch + t * z_row + d, mask=real_d, other=0.0)
            y = y * z * _sigmoid(z)
        tl.store(y_ptr + (row * length + t) * channels + d, y, mask=real_d)


@triton.jit(do_not_specialize=BACKWARD_SIZES)
def _backward(
    x_ptr, delta_ptr, z_ptr, b_ptr, c_ptr, A_ptr, D_ptr, bias_ptr, starts_ptr, dout_ptr, scratch_ptr,
    dx_ptr, ddelta_ptr, dz_ptr, db_ptr, dc_ptr, sums_ptr,
    batch, length, channels, states, x_batch, x_row, delta_batch, delta_row, z_batch, z_row, b_batch, b_row, c_batch,
    c_row, dout_batch, dout_row, dx_batch, dx_row, ddelta_batch, ddelta_row, dz_batch, dz_row,
    SOFTPLUS: tl.constexpr, GATED: tl.constexpr, SEGMENT: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """Gradients of the inputs; those of B and C by block of channels, those of the parameters by program."""
    first, programs, block = tl.program_id(0), tl.num_programs(0), tl.program_id(1)
    d, n = block * BLOCK + tl.arange(0, BLOCK), tl.arange(0, N)
    real_d, real_n = d < channels, n < states
    real, at = real_n[:, None] & real_d[None, :], n[:, None] * channels + d[None, :]
    A = tl.load(A_ptr + at, mask=real, other=0.0)
    D = tl.load(D_ptr + d, mask=real_d, other=0.0)
    bias = tl.load(bias_ptr + d, mask=real_d, other=0.0)
    tile = tl.arange(0, N)[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    scratch = scratch_ptr + (first * tl.num_programs(1) + block).to(tl.int64) * SEGMENT * N * BLOCK + tile
    dA = tl.zeros([N, BLOCK], tl.float32)
    dD = tl.zeros([BLOCK], tl.float32)
    dbias = tl.zeros([BLOCK], tl.float32)
    segments = (length + SEGMENT - 1) // SEGMENT
    for index in range(first, batch, programs):
        row = tl.cast(index, tl.int64)
        kept = starts_ptr + row * (segments - 1) * states * channels + at
        by_block = (block.to(tl.int64) * batch + row) * length * states + n
        dh = tl.zeros([N, BLOCK], tl.float32)
        for number in range(segments):
            segment = segments - 1 - number
            begin = segment * SEGMENT
            end = tl.minimum(begin + SEGMENT, length)
            h = tl.load(kept + (segment - 1) * states * channels, mask=real & (segment > 0), other=0.0)
            for t in tl.range(begin, end, num_stages=STAGES):
                tl.store(scratch + (t - begin) * N * BLOCK, h)
                x = tl.load(x_ptr + row * x_batch + t * x_row + d, mask=real_d, other=0.0)
                dt = tl.load(delta_ptr + row * delta_batch + t * delta_row + d, mask=real_d, other=0.0) + bias
                if SOFTPLUS:
                    dt = _softplus(dt)
                b = tl.load(b_ptr + row * b_batch + t * b_row + n, mask=real_n, other=0.0)
                h = tl.exp(dt[None, :] * A) * h + b[:, None] * (dt * x)[None, :]
            tl.debug_barrier()  # what one thread has written, another may read
            for back in tl.range(begin, end, num_stages=STAGES):
                t = end - 1 - (back - begin)
                x = tl.load(x_ptr + row * x_batch + t * x_row + d, mask=real_d, other=0.0)
                raw = tl.load(delta_ptr + row * delta_batch + t * delta_row + d, mask=real_d, other=0.0) + bias
                dt = raw
                if SOFTPLUS:
                    dt = _softplus(raw)
                b = tl.load(b_ptr + row * b_batch + t * b_row + n, mask=real_n, other=0.0)
                c = tl.load(c_ptr + row * c_batch + t * c_row + n, mask=real_n, other=0.0)
                dy = tl.load(dout_ptr + row * dout_batch + t * dout_row + d, mask=real_d, other=0.0)
                before = tl.load(scratch + (t - begin) * N * BLOCK)
                decay = tl.exp(dt[None, :] * A)
                dtx = dt * x
                h = decay * before + b[:, None] * dtx[None, :]
                if GATED:
                    z = tl.load(z_ptr + row * z_batch + t * z_row + d, mask=real_d, other=0.0)
                    gate = _sigmoid(z)
                    y = tl.sum(h * c[:, None], 0) + D * x
                    dz = dy * y * gate * (1.0 + z * (1.0 - gate))
                    tl.store(dz_ptr + row * dz_batch + t * dz_row + d, dz, mask=real_d)
                    dy = dy * z * gate
                dh += c[:, None] * dy[None, :]
                tl.store(dc_ptr + by_block + t * states, tl.sum(h * dy[None, :], 1), mask=real_n)
                tl.store(db_ptr + by_block + t * states, tl.sum(dh * dtx[None, :], 1), mask=real_n)
                ddtx = tl.sum(dh * b[:, None], 0)
                dh = dh * decay  # what the token before inherits
                grad = dh * before  # of delta A
                dA += grad * dt[None, :]
                ddelta = tl.sum(grad * A, 0) + ddtx * x
                if SOFTPLUS:
                    ddelta = ddelta * _sigmoid(raw)
                tl.store(dx_ptr + row * dx_batch + t * dx_row + d, ddtx * dt + dy * D, mask=real_d)
                tl.store(ddelta_ptr + row * ddelta_batch + t * ddelta_row + d, ddelta, mask=real_d)
                dD += dy * x
                dbias += ddelta
            tl.debug_barrier()  # before the next segment takes the place of this one
    sums = sums_ptr + first.to(tl.int64) * (states + 2) * channels
    tl.store(sums + at, dA, mask=real)
    tl.store(sums + states * channels + d, dD, mask=real_d)
    tl.store(sums + (states + 1) * channels + d, dbias, mask=real_d)


def _tile(states: int, channels: int) -> tuple[int, int, int]:
    """States and channels of a program, both powers of two, and its warps."""
    n = triton.next_power_of_2(states)
    block = min(max(8, TILE // n), max(8, triton.next_power_of_2(channels)))
    return n, block, max(1, n * block // TILE)


def _on_device_of(tensor: Tensor) -> AbstractContextManager[object]:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _strides(*tensors: Tensor | None) -> list[int]:
    """Strides from sequence to sequence and from token to token; 0 for a tensor that is not there."""
    return [stride for tensor in tensors for stride in ((0, 0) if tensor is None else tensor.stride()[:2])]


def prepare(inputs: ScanInputs) -> ScanInputs:
    """The same inputs with the channels, and the states, of a token in a row."""
    x, delta, A, B, C, D, z, bias, softplus = inputs
    x, delta, A, B, C = (tensor.contiguous() for tensor in (x, delta, A, B, C))
    return ScanInputs(x, delta, A, B, C, D, None if z is None else z.contiguous(), bias, softplus)


def _as_read(inputs: ScanInputs) -> tuple[Tensor | None, ...]:
    """The tensors in the kernels' order, zeros for a missing skip or bias."""
    x, delta, A, B, C, D, z, bias, _ = inputs
    zeros = x.new_zeros(x.shape[2])
    return x, delta, z, B, C, A, zeros if D is None else D, zeros if bias is None else bias


def scan_forward(inputs: ScanInputs, save: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """As ``scan_torch.scan_forward``; ``inputs`` are as ``prepare`` makes them, but for the strides of tokens."""
    (batch, length, channels), states = inputs.x.shape, inputs.A.shape[0]
    read = _as_read(inputs)
    n, block, warps = _tile(states, channels)
    y = inputs.x.new_empty(batch, length, channels)
    starts = y.new_empty(batch, (length - 1) // SEGMENT if save else 0, states, channels)
    with _on_device_of(y):
        _forward[(batch, triton.cdiv(channels, block))](
            *read, y, starts, length, channels, states, *_strides(*read[:5]),
            SOFTPLUS=inputs.softplus, GATED=inputs.z is not None, SAVE=save, SEGMENT=SEGMENT, N=n, BLOCK=block,
            STAGES=STAGES, num_warps=warps,
        )  # fmt: skip
    return y, (starts,) if save else ()


def scan_backward(
    inputs: ScanInputs, saved: tuple[Tensor, ...], dout: Tensor, grads: ScanGradients
) -> ParameterGradients:
    """As ``scan_torch.scan_backward``; ``inputs`` and ``grads`` have the channels of a token in a row."""
    (batch, length, channels), states = inputs.x.shape, inputs.A.shape[0]
    read, dout = _as_read(inputs), dout.contiguous()
    n, block, warps = _tile(states, channels)
    blocks = triton.cdiv(channels, block)
    programs = min(batch, triton.cdiv(PROGRAMS, blocks))
    scratch = dout.new_empty(programs * blocks, SEGMENT, n, block)
    db, dc = dout.new_empty(2, blocks, batch, length, states)
    sums = dout.new_empty(programs, states + 2, channels)
    with _on_device_of(dout):
        _backward[(programs, blocks)](
            *read, saved[0], dout, scratch, grads.x, grads.delta, grads.z, db, dc, sums,
            batch, length, channels, states, *_strides(*read[:5], dout, grads.x, grads.delta, grads.z),
            SOFTPLUS=inputs.softplus, GATED=inputs.z is not None, SEGMENT=SEGMENT, N=n, BLOCK=block,
            STAGES=STAGES, num_warps=warps,
        )  # fmt: skip
    grads.B.copy_(db.sum(0))
    grads.C.copy_(dc.sum(0))
    total = sums.sum(0)
    return ParameterGradients(
        total[:states],
        None if inputs.D is None else total[states],
        None if inputs.bias is None else total[states + 1],
    )


def try_out() -> None:
    """Build and run both kernels on one token, on the current GPU or in the interpreter.

    Raises:
        Exception: Whatever Triton raises where it cannot, for example without a C compiler.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, A = torch.zeros(1, 1, 1, device=device), torch.zeros(1, 1, device=device)
    inputs = ScanInputs(x, x, A, x, x, None, None, None, True)
    y, saved = scan_forward(inputs, True)
    dx, ddelta, dB, dC = torch.empty(4, 1, 1, 1, device=device)
    scan_backward(inputs, saved, y, ScanGradients(dx, ddelta, dB, dC, None))
