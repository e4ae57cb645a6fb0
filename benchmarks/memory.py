"""Peak memory of one block's forward + backward, each in a process of its own: ``python benchmarks/memory.py``."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import torch
from block import OURS, candidates
from common import SHAPES, save, short, table
from peers import PEERS

TIMEOUT = 120  # seconds for one block


def peak() -> float:
    """Largest resident size so far in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def growth(name: str, shape: tuple[int, ...]) -> float:
    """MiB that training a block takes on top of the libraries, the block and its input."""
    batch, length, d_model, _ = shape
    torch.set_num_threads(1)
    block = candidates(shape, only={name})[name]
    block(torch.randn(1, 2, d_model)).sum().backward()  # libraries load what they need
    u, dout = torch.randn(batch, length, d_model, requires_grad=True), torch.randn(batch, length, d_model)
    before = peak()
    block(u).backward(dout)
    return peak() - before


def main() -> None:
    """Start a process for each block and shape; print and save what they say."""
    if len(sys.argv) == 3:
        print(growth(sys.argv[1], SHAPES[int(sys.argv[2])]))
        return
    figures: dict[str, dict[str, float]] = {}
    for name in (*OURS, *PEERS):
        for number in (0, 2):
            command = [sys.executable, __file__, name, str(number)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
            if done.returncode:
                print(f"left out: {name}: {done.stderr.strip().splitlines()[-1]}")
                continue
            figures.setdefault(name, {})[short(SHAPES[number])] = round(json.loads(done.stdout.split()[-1]), 1)
    columns = [short(SHAPES[number]) for number in (0, 2)]
    rows = [[name, *(times.get(column, "-") for column in columns)] for name, times in figures.items()]
    save("memory", figures, "peak memory growth, forward + backward, MiB\n\n" + table(["block", *columns], rows))


if __name__ == "__main__":
    main()
