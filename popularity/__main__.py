"""Front door: ``python -m popularity VERB``. Heavy packages are imported by the verb that needs them."""

from __future__ import annotations

import sys
from importlib import import_module

from popularity.errors import InputError

#: verb -> (module with ``main(argv)``, what it does)
VERBS = {
    "fit": ("popularity.cli", "train a model, test the best checkpoint and print a table"),
    "validate": ("popularity.cli", "score a checkpoint on the validation songs"),
    "test": ("popularity.cli", "score a checkpoint on the test songs"),
    "predict": ("popularity.cli", "write the predicted popularity of new songs to a CSV file"),
    "tune": ("popularity.tuning.cli", "search hyper-parameters with Optuna, in any number of processes"),
    "compare": ("popularity.evaluation.compare", "compare models on identical folds, with intervals"),
    "data": ("popularity.data.describe", "show what the loader understands of a data set"),
}


def usage() -> str:
    """The help text."""
    verbs = "\n".join(f"  {name:10}{what}" for name, (_, what) in VERBS.items())
    return (
        "usage: python -m popularity VERB [options]\n\n"
        "Predict a song's Spotify popularity with Mamba.\n\n"
        f"verbs:\n{verbs}\n\n"
        "`python -m popularity VERB --help` lists the options of a verb.\n"
        "Start with: python -m popularity fit --config configs/mamba.yaml"
    )


def main(argv: list[str] | None = None) -> int:
    """Run a verb; returns the exit code. Bad input ends in one line on standard error and code 2."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] not in VERBS:
        print(f"error: unknown verb {argv[0]!r}, expected one of: {', '.join(VERBS)}", file=sys.stderr)
        return 2
    try:
        if VERBS[argv[0]][0] == "popularity.cli":
            import_module("popularity.cli").main(argv)
        else:
            import_module(VERBS[argv[0]][0]).main(argv[1:])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
