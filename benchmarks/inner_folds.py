"""Settings compared without a look at test songs: python benchmarks/inner_folds.py --source FILE CONFIG[,CONFIG...] ...

Each argument is a stack of config files, later ones over earlier ones. All are fitted on the same inner folds: the test
songs of fold 0 (split seed 0) are put away, and the rest is split again by the same rule, five times. Printed are the
mean MSE over the inner folds, its ratio to linear regression on the 13 audio columns, and the paired difference to the
first stack with its folds won.
"""

from __future__ import annotations

import argparse

import numpy as np

from popularity.data.songs import load_songs
from popularity.evaluation.entries import build
from popularity.evaluation.task import draw_fold


def main() -> None:
    """Fit and print, one line per stack as it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+")
    parser.add_argument("--source", default="spotify-4771")
    parser.add_argument("--split", default="random")
    parser.add_argument("--folds", type=int, default=5)
    options = parser.parse_args()
    task = draw_fold(load_songs(options.source).songs, options.split, folds=5, repeat=0, fold=0, seed=0).task
    entries = {"linear": build("linear", "linear", {})}
    for stack in options.configs:
        entries[stack] = build(stack, "network", {"configs": stack.split(",")})
    errors: dict[str, np.ndarray] = {}
    for name, entry in entries.items():
        found = []
        for fitted, held_out in task.inner(options.folds):
            inner = task.part(fitted, held_out)
            truth = task.train["popularity"].to_numpy()[held_out]
            found.append(float(np.mean((entry.fit_predict(inner).prediction - truth) ** 2)))
        errors[name] = np.array(found)
        difference = errors[name] - errors[options.configs[0] if name != "linear" else "linear"]
        print(
            f"{name}: MSE {errors[name].mean():.2f}, ratio {errors[name].mean() / errors['linear'].mean():.4f}, "
            f"difference {difference.mean():+.2f}, better in {int((difference < 0).sum())} of {len(difference)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
