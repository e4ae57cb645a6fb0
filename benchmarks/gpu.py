"""The blocks on a GPU, right and how fast, in a few minutes: ``PYTHONPATH=. python benchmarks/gpu.py``.

Needs PyTorch for CUDA, its Triton and NumPy; the package need not be installed. mamba-ssm's kernels and its Mamba-2 are
measured too where they import. Times are medians by CUDA events, launches included, in float32 without TF32. A part
that fails is named, the others go on, and the exit code is 1.

``--try`` runs every part with tiny shapes on the CPU under Triton's interpreter and saves nothing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from gpu_check import DEVICE, SCANS, TRY, check, exact_scan, force, implementations, scan_inputs, worst  # isort: skip
import torch
from common import SHAPES, save, short, table
from torch import Tensor, nn

from popularity.models import scan
from popularity.models.mamba import Mamba
from popularity.models.mamba2 import Mamba2
from popularity.models.scan_inputs import ScanInputs

# batch, length, d_model, d_state, headdim
MAMBA2_SHAPES: tuple[tuple[int, ...], ...] = (
    (256, 17, 48, 16, 16),
    (1024, 17, 64, 16, 16),
    (256, 32, 128, 64, 64),
    (32, 256, 128, 64, 64),
    (4, 1024, 256, 128, 64),
)
WARM_UP, ROUNDS, PATIENCE = 3, 30, 4.0  # PATIENCE: seconds for the rounds of one measurement
TILES, STAGES = (128, 256, 512), (1, 2, 3)  # tried for the Triton kernels
if TRY:
    SHAPES, MAMBA2_SHAPES = ((2, 3, 4, 2),), ((2, 3, 4, 2, 4),)
    WARM_UP, ROUNDS, TILES, STAGES = 1, 1, (16,), (1,)


def milliseconds(run: Callable[[], object]) -> float:
    """Median time of a call on the device, from the end of the one before to its own end."""
    for _ in range(WARM_UP):
        run()
    times, start = [], time.perf_counter()
    for _ in range(ROUNDS):
        if DEVICE == "cpu":
            before = time.perf_counter()
            run()
            times.append((time.perf_counter() - before) * 1e3)
            continue
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
        if time.perf_counter() - start > PATIENCE:
            break
    return statistics.median(times)


def train(block: nn.Module, u: Tensor, dout: Tensor) -> Callable[[], object]:
    """Forward and backward."""

    def run() -> None:
        u.grad = None
        block.zero_grad()
        block(u).backward(dout)

    return run


def predict(block: nn.Module, u: Tensor) -> Callable[[], object]:
    """Forward alone."""

    def run() -> None:
        with torch.no_grad():
            block(u)

    return run


def memory(run: Callable[[], object]) -> float:
    """MiB that a call takes at its peak."""
    if DEVICE == "cpu":
        return 0.0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def measure(block: nn.Module, batch: int, length: int, width: int) -> dict[str, float]:
    """Times and memory of a block."""
    u = torch.randn(batch, length, width, device=DEVICE, requires_grad=True)
    both = train(block, u, torch.randn(batch, length, width, device=DEVICE))
    return {
        "forward + backward, ms": milliseconds(both),
        "forward, ms": milliseconds(predict(block, u)),
        "peak memory, MiB": memory(both),
    }


def as_tables(figures: dict[str, dict[str, dict[str, float]]], base: str, shape: str) -> str:
    """One table for each kind of figure, by implementation and shape, with the ratio of ``base`` to it."""
    names = list(dict.fromkeys(name for by_name in figures.values() for name in by_name))
    parts = []
    for kind in ("forward + backward, ms", "forward, ms", "peak memory, MiB"):
        rows = []
        for name in names:
            cells = []
            for by_name in figures.values():
                if name not in by_name:
                    cells.append("refused")
                    continue
                value, reference = by_name[name][kind], by_name[base][kind]
                ratio = f" ({reference / value:.1f})" if name != base and value else ""
                cells.append(f"{value:.3g}{ratio}")
            rows.append([name, *cells])
        parts.append(f"{kind}, and in brackets how many times less than {base}\n\n" + table([shape, *figures], rows))
    return "\n\n".join(parts)


def s6() -> tuple[dict[str, Any], str]:
    """The S6 block by implementation."""
    figures: dict[str, Any] = {}
    for batch, length, width, states in SHAPES:
        block = Mamba(width, states).to(DEVICE)
        found = {}
        for name in implementations():
            force(name)
            found[name] = measure(block, batch, length, width)
        figures[short((batch, length, width, states))] = found
    return figures, "S6 block: " + as_tables(figures, "torch", "batch,length,d_model,d_state")


def mamba2() -> tuple[dict[str, Any], str]:
    """The Mamba-2 block in plain PyTorch, and mamba-ssm's where it imports."""
    try:
        from mamba_ssm import Mamba2 as Theirs
    except ImportError:
        Theirs = None
    figures: dict[str, Any] = {}
    force("torch")
    for batch, length, width, states, headdim in MAMBA2_SHAPES:
        found = {"plain PyTorch": measure(Mamba2(width, states, headdim=headdim).to(DEVICE), batch, length, width)}
        if Theirs is not None:
            theirs = Theirs(width, d_state=states, headdim=headdim).to(DEVICE)
            try:
                found["mamba_ssm"] = measure(theirs, batch, length, width)
            except RuntimeError as error:  # its convolution wants strides that are multiples of 8
                print(f"mamba_ssm, {width}, {states}, {headdim}: {error}", file=sys.stderr)
        figures[short((batch, length, width, states, headdim))] = found
    return figures, "Mamba-2 block: " + as_tables(figures, "plain PyTorch", "batch,length,d_model,d_state,headdim")


def variants() -> tuple[dict[str, Any], str]:
    """The Triton scan alone, forward and backward, with other tiles and depths of its pipeline, checked as well."""
    from popularity.models import scan_triton

    force("triton")
    figures: dict[str, Any] = {}
    kept = scan_triton.TILE, scan_triton.STAGES
    for tile in TILES:
        for stages in STAGES:
            scan_triton.TILE, scan_triton.STAGES = tile, stages
            name = f"tile {tile}, stages {stages}{' (chosen)' if (tile, stages) == kept else ''}"
            errors = worst(lambda *t: scan.selective_scan(*t, True), exact_scan, scan_inputs(*SCANS[-1]))
            figures[name] = {"error": max(errors)}
            for batch, length, width, states in SHAPES:
                figures[name][short((batch, length, width, states))] = scan_time(batch, length, 2 * width, states)
    scan_triton.TILE, scan_triton.STAGES = kept
    header = list(next(iter(figures.values())))
    rows = [[name, *(f"{values[column]:.2g}" for column in header)] for name, values in figures.items()]
    return figures, "Triton scan alone, forward + backward, ms\n\n" + table(["", *header], rows)


def scan_time(batch: int, length: int, dim: int, states: int) -> float:
    """Milliseconds of the scan's two kernels on token-major inputs, as the block calls them."""
    from popularity.models import scan_triton
    from popularity.models.scan_inputs import ScanGradients

    u, delta, A, B, C, D, z, bias = scan_inputs(batch, length, dim, states)
    x, delta, B, C, z = (tensor.transpose(1, 2).contiguous() for tensor in (u, delta, B, C, z))
    inputs = ScanInputs(x, delta, A.t().contiguous(), B, C, D, z, bias, True)
    grads = ScanGradients(*(torch.empty_like(tensor) for tensor in (x, delta, B, C, z)))

    def run() -> None:
        y, saved = scan_triton.scan_forward(inputs, True)
        scan_triton.scan_backward(inputs, saved, y, grads)

    return milliseconds(run)


def main() -> None:
    """Run all parts, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--try", action="store_true", help="tiny shapes on the CPU under Triton's interpreter")
    parser.parse_args()
    if not TRY and not torch.cuda.is_available():
        raise SystemExit("gpu.py: PyTorch finds no CUDA device; --try runs it on the CPU")
    torch.manual_seed(0)
    figures, texts, failed = {}, [], []
    for part in (check, s6, mamba2, variants):
        start = time.perf_counter()
        try:
            figures[part.__name__], text = part()
        except Exception:
            failed.append(part.__name__)
            text = f"{part.__name__}: failed\n\n```\n{traceback.format_exc()}```"
        texts.append(text)
        print(f"{part.__name__}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        if TRY:
            print(text)
        else:  # after each part: what is measured is kept if the next one is interrupted
            save("gpu", figures, "\n\n".join(texts))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
