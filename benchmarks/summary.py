"""The ratios for the README, from what the benchmarks saved: ``python benchmarks/summary.py``."""

from __future__ import annotations

import json
from typing import Any

from common import RESULTS, table

OURS = ("C++ kernels", "plain PyTorch")


def saved(name: str) -> Any:
    """Figures of one benchmark, or None."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["figures"] if path.exists() else None


def main() -> None:
    """Print what is there."""
    block, rows = saved("block"), []
    if block is not None:
        for kind, title in (("both", "forward + backward"), ("forward", "forward")):
            for name in OURS:
                cells = []
                for times in block.values():
                    best = min(value[kind] for peer, value in times.items() if peer not in OURS)
                    cells.append(f"{best / times[name][kind]:.1f}")
                rows.append([f"{name}, {title}", *cells])
        print("times as fast as the best of the others\n\n" + table(["batch,length,d_model,d_state", *block], rows))
    for name, key in (("epoch", "ratio"), ("overhead", "overhead %")):
        if (figures := saved(name)) is not None:
            print(f"\n{name}: {key} {figures[key]:.1f}")
    if (memory := saved("memory")) is not None:
        print("\nmemory, MiB: " + json.dumps(memory))
    if (libraries := saved("libraries")) is not None:
        print("\nCPU s of an epoch: " + ", ".join(f"{name} {value:.2f}" for name, value in libraries.items()))
    if (roofline := saved("roofline")) is not None:
        print("\ntimes the roofline: " + ", ".join(f"{shape}: {row['ratio']:.2f}" for shape, row in roofline.items()))


if __name__ == "__main__":
    main()
