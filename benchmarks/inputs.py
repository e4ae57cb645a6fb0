"""What LightGBM gains from each thing it reads of a song: python benchmarks/inputs.py --source FILE

LightGBM with its default parameters and three seeds, on the folds of `compare`. One group of columns is left out at a
time; `credits as one` merges the three ways of sharing a credited name. Printed are the mean MSE, its ratio to linear
regression, and the paired difference to all columns with its corrected 95 % interval (Nadeau and Bengio, 2003). With
--keep FOLDER, folds that were measured before are not measured again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from common import save, table

from popularity.data.schema import AUDIO
from popularity.data.songs import load_songs
from popularity.evaluation.baselines import BASELINES
from popularity.evaluation.folds import Fold, make_fold
from popularity.evaluation.models import build_model
from popularity.io import write_atomically
from popularity.metrics import regression_scores
from popularity.metrics.intervals import corrected_t_test
from popularity.program import code_version

SONGS = ("artist_effect", "artist_known", "artist_max", "artist_min", "artist_std")
CREDITS = tuple(f"{way}_{what}" for way in ("guests", "guest_on", "credits") for what in ("effect", "known"))
LETTERS = ("title_ngrams", "name_ngrams")
#: what is left out -> is this column
GROUPS = {
    "nothing": lambda name: False,
    "audio": lambda name: name in AUDIO,
    "the artist's known songs": lambda name: name in SONGS,
    "the sound of the artist's known songs": lambda name: name.startswith("artist_") and name not in SONGS,
    "credits": lambda name: name in CREDITS,
    "credits as one": lambda name: name in CREDITS[:-2],
    "letters and words of titles and names": lambda name: name in LETTERS,
    "title statistics": lambda name: name.startswith("title_") and name not in LETTERS,
}


def measure(fold: Fold) -> dict[str, float]:
    """MSE of linear regression and of LightGBM without each group."""
    linear = build_model("linear", {"baseline": "linear"}).fit_predict
    assert linear is not None
    found = {"linear": regression_scores(linear(fold.task).prediction, fold.answers)["mse"]}
    row, features = BASELINES["lightgbm"], fold.task.features("everything")
    train, test = features.fit_transform(fold.task.train), features.transform(fold.task.test)
    for group, belongs in GROUPS.items():
        columns = [name for name in train if not belongs(name)]
        members = [
            row.make(dict(row.defaults), seed).fit(train[columns], fold.task.popularity).predict(test[columns])
            for seed in fold.task.seeds(row.members)
        ]
        prediction = np.clip(np.mean(members, axis=0), 0, 100)
        found[group] = regression_scores(prediction, fold.answers)["mse"]
    return found


def main() -> None:
    """Measure fold by fold, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="spotify-4771")
    parser.add_argument("--split", default="random")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    loaded = load_songs(options.source)
    errors: list[dict[str, float]] = []
    for repeat in range(options.repeats):
        for fold in range(options.folds):
            name = f"{loaded.fingerprint[:8]}-{code_version()[-8:]}-{options.split}-{options.folds}-r{repeat}-f{fold}"
            kept = options.keep / f"{name}.json" if options.keep else None
            if kept and kept.exists():
                errors.append(json.loads(kept.read_text()))
                continue
            drawn = make_fold(loaded.songs, options.split, folds=options.folds, repeat=repeat, fold=fold, seed=0)
            errors.append(measure(drawn))
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                with write_atomically(kept) as file:
                    json.dump(errors[-1], file)
            print(f"repeat {repeat}, fold {fold}: MSE {errors[-1]['nothing']:.2f} with all columns", flush=True)
    mse = {name: np.array([one[name] for one in errors]) for name in errors[0]}
    rows = []
    for name in GROUPS:
        paired = corrected_t_test(mse[name] - mse["nothing"], 1 / (options.folds - 1))
        more = "" if name == "nothing" else f"{paired.difference:+.2f} ({paired.low:+.2f} to {paired.high:+.2f})"
        ratio = mse[name].mean() / mse["linear"].mean()
        rows.append([name, f"{mse[name].mean():.2f}", f"{ratio:.3f}", more])
    header = ["left out", "MSE", "of linear", f"more, {len(errors)} folds (95 %)"]
    save(f"inputs_{options.split}", errors, table(header, rows))


if __name__ == "__main__":
    main()
