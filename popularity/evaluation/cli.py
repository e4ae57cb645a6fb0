"""``compare``: many models on identical folds, with a result per fold and tables at the end."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from popularity.errors import InputError
from popularity.evaluation.entries import check_use
from popularity.evaluation.jobs import read_result
from popularity.evaluation.markdown import summary_text
from popularity.evaluation.options import Comparison, read_command
from popularity.evaluation.paired import compare as paired
from popularity.evaluation.progress import Board
from popularity.evaluation.protocol import Job, Protocol
from popularity.evaluation.summary import Tables, check_folds, done, tabulate
from popularity.evaluation.workers import run_jobs
from popularity.io import folder_lock, write_atomically


def compare(comparison: Comparison) -> int:
    """Run the jobs that are missing and write the tables; the exit code, 1 where a job failed.

    Raises:
        InputError: whatever cannot work.
        KeyboardInterrupt: finished jobs are kept.
    """
    options, protocol, songs = comparison.options, comparison.protocol, comparison.songs
    folder = Path(options.output)
    jobs, every = protocol.jobs(comparison.chosen, hits=comparison.hits), protocol.jobs()
    for fold in {fold for name in protocol.models for _, fold in protocol.folds_of(name)}:
        protocol.draw(songs, 0, fold)  # songs that cannot be split so shall be refused now
    for job in {(job.model, bool(job.cutoff)): job for job in jobs}.values():
        check_use(job.model, protocol.settings(job)["kind"], protocol.build(job), hits=bool(job.cutoff))
        protocol.config_hash(job)
    with folder_lock(folder):
        _record(protocol, folder)
        for part in [*folder.glob(".*.part"), *folder.glob("jobs/*/.*.part")]:  # of a process killed while it wrote
            part.unlink()
        _check_reference(comparison, folder)
        finished = done(protocol, jobs, folder)
        missing = [job for job in jobs if job not in finished]
        again = [job for job in missing if job.path(folder).exists()]
        console = Console()
        if missing:
            note = (
                f", {len(again)} of them again: they failed or are damaged, or their settings have changed"
                if again
                else ""
            )
            console.print(f"{len(finished)} of {len(jobs)} jobs are done, {len(missing)} to do{note}", highlight=False)
            with Board(jobs, finished, options.workers, console) as board:
                run_jobs(protocol, songs, missing, folder, options.workers, board.ended)
        tables = tabulate(protocol, songs, every, folder, options.reference, options.against)
        if tables.folds.empty and tables.hit_folds.empty:
            raise InputError(f"{folder}: no job has succeeded; {_first_error(protocol, jobs, folder)}")
        write_tables(comparison, tables, every, folder)
        failed = [job for job in jobs if (result := read_result(protocol, job, folder)) is None or result["error"]]
    console.print((folder / "summary.md").read_text(encoding="utf-8"), highlight=False, markup=False, soft_wrap=True)
    console.print(f"results: {folder}", highlight=False)
    if failed:
        print(
            f"{len(failed)} of {len(jobs)} jobs failed ({_first_error(protocol, failed, folder)}); "
            "the same command tries them again",
            file=sys.stderr,
        )
    return 1 if failed else 0


def _check_reference(comparison: Comparison, folder: Path) -> None:
    protocol, reference = comparison.protocol, comparison.options.reference
    if reference in comparison.chosen or not comparison.chosen & protocol.models.keys():
        return
    jobs = [Job(reference, repeat, fold) for repeat, fold in protocol.folds_of(reference)]
    if not done(protocol, jobs, folder):
        raise InputError(f"--reference {reference} has no results in {folder}: add it to --models")


def write_tables(comparison: Comparison, tables: Tables, jobs: Sequence[Job], folder: Path) -> None:
    """Write the tables, summary.md and, if asked for, differences to another model and the report.

    Raises:
        InputError: models were tested on other songs than each other.
    """
    protocol, reference = comparison.protocol, comparison.options.reference
    check_folds(tables.predictions)
    tables.write(folder)
    found = {job: result for job in jobs if (result := read_result(protocol, job, folder)) is not None}
    versions = [result["versions"] for result in found.values() if not result["error"]]
    failed = {job: " ".join(str(result["error"]).split()) for job, result in found.items() if result["error"]}
    with write_atomically(folder / "summary.md") as file:
        file.write(summary_text(protocol, tables, reference, comparison.songs, versions, failed))
    against = comparison.options.against
    if against is not None and against in set(tables.folds["model"]):
        with write_atomically(folder / f"against_{against}.json") as file:
            paired(tables.folds, against).to_json(file, orient="records", indent=1, double_precision=6)
    if comparison.options.report:
        from popularity.evaluation.report.page import report  # draws: matplotlib is slow to import

        report(
            folder,
            comparison.songs,
            split=protocol.split,
            reference=reference if reference in set(tables.folds["model"]) else None,
            title=f"{protocol.source}: models compared",
            protocol=protocol.record() | {"repeats": protocol.repeats, "reference": reference},
        )
    elif (folder / "report.html").exists():
        print(f"{folder / 'report.html'} and its pictures are of an earlier run: --report false", file=sys.stderr)


def _record(protocol: Protocol, folder: Path) -> None:
    """Note what all results of the folder share, or compare with the note that is there."""
    path = folder / "protocol.json"
    wanted = protocol.record()
    if path.is_file():
        try:
            found = dict(json.loads(path.read_text(encoding="utf-8")))
        except (UnicodeDecodeError, json.JSONDecodeError, TypeError, ValueError) as error:
            raise InputError(f"{path}: expected the record of a comparison in JSON, but {error}") from error
        for key, value in wanted.items():
            if key != "source" and found.get(key) != value:
                raise InputError(
                    f"--output {folder}: its results have {key} {found.get(key)}, now it is {value}; "
                    "give another folder"
                )
        return
    with write_atomically(path) as file:
        json.dump(wanted, file, indent=1)


def _first_error(protocol: Protocol, jobs: Sequence[Job], folder: Path) -> str:
    for job in jobs:
        result = read_result(protocol, job, folder)
        if result is not None and result["error"]:
            return f"{job}: {' '.join(str(result['error']).split())}"
    return "none has a result"


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str]) -> None:
    """Run ``compare``."""
    comparison = read_command(argv)
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        code = compare(comparison)
    except KeyboardInterrupt:
        print("stopped: finished jobs are kept, the same command goes on from here", file=sys.stderr)
        code = 130
    finally:
        signal.signal(signal.SIGTERM, before)
    if code:
        sys.exit(code)
