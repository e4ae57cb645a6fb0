"""``compare``: many models on identical folds, with a result file per run and tables at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from popularity.errors import InputError
from popularity.evaluation.coverage import interval_table
from popularity.evaluation.progress import Progress
from popularity.evaluation.protocol import Comparison, Protocol, Run, read_command
from popularity.evaluation.runs import Result, results_of
from popularity.evaluation.significance import compare as paired
from popularity.evaluation.tables import tabulate, write_tables
from popularity.evaluation.workers import run_all
from popularity.io import folder_lock, remove_left_over, write_atomically
from popularity.program import stopped
from popularity.reports.report import write_report, write_summary


def compare(comparison: Comparison) -> int:
    """Do the runs that are missing and write the tables; the exit code, 1 where a run failed.

    Several commands may share the runs of one folder (``join``): each run is done by the first that claims it. One of
    them holds the lock of the folder and writes the tables.

    Raises:
        InputError: whatever cannot work.
        KeyboardInterrupt: finished runs are kept.
    """
    protocol, songs = comparison.protocol, comparison.table.songs
    folder, console = Path(protocol.output), Console(highlight=False, markup=False, soft_wrap=True)
    runs = protocol.runs(comparison.chosen, hits=comparison.hits)
    for fold in {run.fold for run in runs}:
        protocol.make_fold(songs, 0, fold)  # songs that cannot be split are refused now
    for name in comparison.chosen:
        protocol.config_hash(Run(name, 0, 0))  # and settings that no model can have
    if protocol.join:
        if not (folder / "protocol.json").is_file():
            raise InputError(f"--join: expected the folder of a comparison that has begun, got {folder}")
        _record(protocol, folder)
        failed = [run for run, facts in _do(comparison, runs, folder, console).items() if facts["error"]]
        return 1 if failed else 0
    with folder_lock(folder):
        _record(protocol, folder)
        for stale in [*folder.glob(".*.part"), *folder.glob("runs/*/.*.part"), *folder.glob("runs/*/*.running")]:
            remove_left_over(stale)
        _check_reference(comparison, folder)
        _do(comparison, runs, folder, console)
        results = _write(protocol, songs, folder)
    console.print(write_summary(folder).read_text(encoding="utf-8"))
    if protocol.report:
        write_report(folder)
    elif (folder / "report.html").exists():
        print(f"{folder / 'report.html'} and its pictures are of an earlier run: --report false", file=sys.stderr)
    console.print(f"results: {folder}")
    failed = [run for run in runs if run not in results or results[run].error]
    if failed:
        first = f"{len(failed)} of {len(runs)} runs failed ({_first_error(results)})"
        print(f"{first}; the same command tries them again", file=sys.stderr)
    return 1 if failed else 0


def _do(comparison: Comparison, runs: list[Run], folder: Path, console: Console) -> dict[Run, dict[str, Any]]:
    """Do the runs that are missing, or wait until another command has; the facts of all runs."""
    protocol, songs = comparison.protocol, comparison.table.songs
    found = {run: one.facts for run, one in results_of(protocol, runs, folder).items() if not one.error}
    missing = [run for run in runs if run not in found]
    if not missing:
        return found
    console.print("\n".join(comparison.table.report.lines()))
    again = sum(run.path(folder).exists() for run in missing)
    why = f", {again} of them again: they failed or are damaged, or their settings have changed"
    console.print(f"{len(found)} of {len(runs)} runs are done, {len(missing)} to do{why if again else ''}")
    progress = Progress(protocol, runs, found, len(songs), console)
    for of_hits in (False, True):  # hits start from predictions of popularity
        for run, facts in run_all(protocol, songs, [run for run in missing if run.hits == of_hits], folder):
            progress.ended(run, facts)
            found[run] = facts
    return found


def _record(protocol: Protocol, folder: Path) -> None:
    """Note what all results of the folder share, or compare with the note that is there."""
    path, wanted = folder / "protocol.json", protocol.shared()
    if not path.is_file():
        _write_json(wanted, path)
        return
    try:
        found = dict(json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected the protocol of a comparison in JSON, got {error}") from error
    for key, value in wanted.items():
        if key != "source" and found.get(key) != value:
            raise InputError(
                f"--output {folder}: its results have {key} {found.get(key)}, expected {value}: give another folder"
            )


def _check_reference(comparison: Comparison, folder: Path) -> None:
    protocol, reference = comparison.protocol, comparison.protocol.reference
    if reference in comparison.chosen or not comparison.chosen & protocol.models.keys():
        return
    found = results_of(protocol, protocol.runs({reference}, hits=False), folder)
    if all(result.error for result in found.values()):
        raise InputError(f"--reference {reference} has no results in {folder}: add it to --models")


def _write(protocol: Protocol, songs: pd.DataFrame, folder: Path) -> Mapping[Run, Result]:
    """Write the tables of all results in the folder, and what the report needs beside them; the results.

    Raises:
        InputError: no run has succeeded, or models were tested on different songs.
    """
    results = results_of(protocol, protocol.runs(), folder)
    done = {run: result for run, result in results.items() if not result.error}
    if not done:
        raise InputError(f"{folder}: no run has succeeded; {_first_error(results)}")
    tables = tabulate(done, songs, protocol)
    tables["intervals"] = interval_table(done, songs, tables["predictions"], protocol)
    write_tables(tables | {"songs": songs}, folder)
    if protocol.against is not None and protocol.against in set(tables["folds"]["model"]):
        with write_atomically(folder / f"against_{protocol.against}.json") as file:
            paired(tables["folds"], protocol.against).to_json(file, orient="records", indent=1, double_precision=6)
    versions = pd.DataFrame([result.facts.get("versions", {}) for result in results.values()])
    about = protocol.shared() | {
        **{key: getattr(protocol, key) for key in ("repeats", "cutoffs", "reference", "against")},
        "models": protocol.described({run.model for run in results}),
        "versions": {name: sorted(versions[name].dropna().unique()) for name in sorted(versions)},
        "failed": {str(run): result.error for run, result in results.items() if result.error},
        "songs": len(songs),
    }
    _write_json(about, folder / "protocol.json")
    return results


def _write_json(content: dict[str, Any], path: Path) -> None:
    with write_atomically(path) as file:
        json.dump(content, file, indent=1)


def _first_error(results: Mapping[Run, Result]) -> str:
    return next((f"{run}: {result.error}" for run, result in results.items() if result.error), "none has a result")


def main(argv: Sequence[str]) -> None:
    """Run ``compare``."""
    comparison = read_command(argv)
    try:
        code = compare(comparison)
    except (KeyboardInterrupt, SystemExit) as error:  # Lightning turns the first into the second
        print("stopped: finished runs are kept, the same command continues from here", file=sys.stderr)
        code = stopped(error).code
    if code:
        sys.exit(code)
