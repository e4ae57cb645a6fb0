"""The S6 block of an earlier version and of this one: ``PYTHONPATH=. python benchmarks/block_versions.py [COMMIT]``.

Both versions are checked out and built in a temporary folder, and run their own ``benchmarks/block.py`` in turn, with
one thread and without other packages. A ratio is the median over rounds, of two runs that follow each other.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import save, table
from versions import check_out

#: The version that `results/block.md` was first measured with.
COMMIT = "d9689ee"
ROUNDS = 5
KINDS = {"forward": "forward", "both": "forward + backward"}
KERNELS = "C++ kernels"


def run(version: Path, this: bool) -> dict[str, dict[str, float]]:
    """Milliseconds of our kernels by shape, forward and both."""
    command = [sys.executable, "benchmarks/block.py", "--rounds", "9", "--only", "none"]
    command += ["--blocks", "mamba"] if this else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(version)}
    subprocess.run(command, cwd=version, env=environment, check=True, stdout=subprocess.DEVNULL)
    found = json.loads((version / "benchmarks" / "results" / "block.json").read_text())
    return {shape: blocks[KERNELS] for shape, blocks in found["figures"].items()}


def main() -> None:
    """Measure, print, save."""
    commit = sys.argv[1] if len(sys.argv) > 1 else COMMIT
    with tempfile.TemporaryDirectory() as name:
        folders = [check_out(one, Path(name) / place) for place, one in (("then", commit), ("now", "HEAD"))]
        rounds = [(run(folders[0], False), run(folders[1], True)) for _ in range(ROUNDS)]
    ratios: dict[str, dict[str, float]] = {label: {} for label in KINDS.values()}
    for kind, label in KINDS.items():
        for shape in rounds[0][0]:
            ratios[label][shape] = statistics.median(then[shape][kind] / now[shape][kind] for then, now in rounds)
    rows = [[label, *(f"{ratio:.2f}" for ratio in found.values())] for label, found in ratios.items()]
    text = f"times as fast as {commit}\n\n" + table(["S6 block", *ratios["forward"]], rows)
    save("block_versions", {"rounds": rounds, "ratios": ratios}, text)


if __name__ == "__main__":
    main()
