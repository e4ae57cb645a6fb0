"""The verb: one line for bad input, results that stay, workers that may die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from popularity.__main__ import main

CONFIG = """
folds: 3
repeats: 2
models:
  mean: {baseline: mean, repeats: 1}
  linear: {baseline: linear}
  twin: {baseline: linear}
  absent: {baseline: nobody_made_this}
hits:
  cutoffs: [40, median]
  models:
    logistic: {classifier: logistic, repeats: 1}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "compare.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def arguments(config: Path, song_file: Path, tmp_path: Path) -> Callable[..., list[str]]:
    def make(*more: str, models: str = "mean,linear,twin", output: str = "out") -> list[str]:
        where = ["-c", str(config), "--data.source", str(song_file), "--output", str(tmp_path / output)]
        return ["compare", *where, "--models", models, *more]

    return make


def run(arguments: list[str]) -> int:
    try:
        return main(arguments)
    except SystemExit as stopped:
        return int(stopped.code or 0)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--models", "mean,nobody"], "--models: expected some of mean, linear, twin, absent, logistic, got 'nobody'"),
        (["--models", "absent"], "model absent: baseline: expected one of"),
        (["--models", "mean"], "--reference linear has no results in"),
        (["--reference", "nobody"], "--reference nobody: expected one of mean, linear"),
        (["--against", "nobody"], "--against nobody: expected one of mean, linear"),
        (["--reference", "logistic"], "--reference logistic: expected one of mean, linear"),
        (["--folds", "1"], "--folds: expected at least 2, got 1"),
        (["--folds", "many"], "folds"),
        (["--repeats", "0"], "--repeats: expected at least 1"),
        (["--workers", "0"], "--workers: expected at least 1"),
        (["--seed", "-1"], "--seed: expected 0 to"),
        (["--data.split", "alphabet"], "data.split"),
        (["--data.source", "nowhere.csv"], "nowhere.csv"),
        (["--folds", "1000"], "split random needs at least 1000 songs"),
        (["--hits.cutoffs", "[120]"], "hits.cutoffs: expected numbers from 1 to 100, or median or top_quarter"),
        (["--frobnicate", "1"], "frobnicate"),
        (["--output", f"{__file__}/out"], __file__),
    ],
)
def test_bad_input_is_one_line(more, told, arguments, capsys, tmp_path):
    assert run(arguments(*more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert told in error
    assert not list(tmp_path.rglob("*.npz"))


def test_flags_in_front_of_the_config_win(config, song_file, capsys):
    config.write_text(f"{CONFIG}folds: 3\ndata: {{source: {song_file}}}\n")
    for front in (["--folds", "1"], ["--folds=1"]):
        assert run(["compare", *front, "-c", str(config)]) == 2
        assert capsys.readouterr().err == "error: --folds: expected at least 2, got 1\n"
    assert run(["compare", "--source", "nowhere.csv", "-c", str(config)]) == 2
    assert "nowhere.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: {a b/c: {baseline: mean}}", "got 'a b/c'"),
        ("models: {linear: {baseline: linear, repeats: 0}}", "model linear: repeats: expected a whole number of at"),
        ("models: {linear: {baseline: linear}, a: {}}", "model a: expected one of baseline, class_path, configs, cla"),
        ("models: {linear: {baseline: linear, depth: 3}}", "model linear: expected settings among baseline"),
        ("models: {linear: {baseline: linear}, 1: {baseline: mean}}", "without commas, got 1"),
        ("models: {linear: {baseline: linear}, on: {baseline: mean}}", "without commas, got True"),
        (
            "models: {linear: {baseline: linear}, a: {classifier: lda}}",
            "model a: expected classifiers under hits.models",
        ),
        (
            "models: {linear: {baseline: linear}}\nhits: {cutoffs: [40], models: {a: {baseline: ridge}}}",
            "model a: expected classifiers under hits.models",
        ),
        (
            "models: {linear: {baseline: linear}}\nhits: {cutoffs: [40], models: {linear: {classifier: lda}}}",
            "hits.models: linear is the name of another model",
        ),
        ("models: [linear]", "models"),
        ("model: {a: {baseline: mean}}", "model"),
        ("folds: 3", "compare needs a config that describes models: -c compare"),
        (
            "models: {linear: {baseline: linear}}\nhits: {models: {a: {classifier: lda}}}",
            "expected hits.cutoffs as well",
        ),
    ],
)
def test_a_bad_config_is_one_line(text, told, config, song_file, capsys, tmp_path):
    config.write_text(text)
    command = ["compare", "-c", str(config), "--data.source", str(song_file), "--output", str(tmp_path / "out")]
    assert run(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error


def contents(folder: Path, *but: str) -> dict[str, bytes]:
    """Tables and summaries by name; runs have a folder of their own."""
    return {
        path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file() and path.name not in but
    }


def test_a_comparison_from_end_to_end(arguments, capsys, tmp_path):
    from popularity.evaluation.protocol import Run
    from popularity.evaluation.runs import Result, write_result
    from popularity.evaluation.significance import compare
    from popularity.program import code_version

    assert run(arguments(models="mean,linear,twin,logistic")) == 0
    out = capsys.readouterr().out
    assert "0 of 33 runs are done, 33 to do" in out
    assert "33/33" in out
    folder = tmp_path / "out"
    assert str(folder) in out.replace("\n", "")
    summary = pd.read_csv(folder / "summary.csv").set_index("model")
    assert summary["folds"].to_dict() == {"linear": 6, "twin": 6, "mean": 3}
    assert (summary.loc["twin", "difference"], summary.loc["twin", "p_value"]) == (0, 1)
    assert len(pd.read_csv(folder / "hit_summary.csv")) == 8
    intervals = pd.read_csv(folder / "intervals.csv").query("known == 'all'").set_index("model")
    assert intervals["predictions"].to_dict() == {"linear": 480, "twin": 480, "mean": 240}
    assert intervals["coverage_80"].between(0.7, 0.9).all()
    assert "## Intervals" in (folder / "summary.md").read_text()
    folds = pd.read_csv(folder / "folds.csv")  # enough to repeat the paired tests without the songs
    assert set(folds["code"]) == {code_version()}
    again = compare(folds, "linear").set_index("model")
    assert again["difference"].to_dict() == pytest.approx(summary["difference"].to_dict(), rel=1e-4)
    assert again["p_value"].to_dict() == pytest.approx(summary["p_value"].to_dict(), rel=1e-4, nan_ok=True)
    text = (folder / "summary.md").read_text()
    assert text in out
    assert "SHA-256" in text
    protocol = (folder / "protocol.json").read_text()
    assert str(tmp_path) not in text + protocol, "no path of a machine in what is kept"
    assert json.loads(protocol)["models"]["logistic"] == {
        "settings": {"classifier": "logistic"},
        "feature_set": "audio",
        "budget": "",
        "balance": "none",
    }
    before = contents(folder)
    stamps = {path: path.stat().st_mtime_ns for path in results(folder)}

    # nothing is missing: nothing runs, and the summaries are the same bytes
    assert run(arguments()) == 0
    assert "to do" not in capsys.readouterr().out
    assert contents(folder) == before
    assert {path: path.stat().st_mtime_ns for path in results(folder)} == stamps

    # other folds do not go into the same folder
    assert run(arguments("--seed", "1")) == 2
    assert "its results have seed 0, expected 1: give another folder" in capsys.readouterr().err

    # a run that is lost or damaged is done again, alone, and a failed one too
    lost, damaged, empty = (folder / "runs" / "mean" / f"r0-f{fold}.npz" for fold in range(3))
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:99])
    empty.write_bytes(b"")
    failed = folder / "runs" / "twin" / "r1-f2.npz"
    facts = json.loads(str(np.load(failed)["facts"]))
    write_result(Run("twin", 1, 2).path(folder), Result(facts | {"error": "bad luck"}, {}))
    (folder / "report.html").unlink()
    left = [folder / ".summary.csv.x.part", folder / "runs" / "mean" / ".r0-f0.npz.x.part"]
    left.append(folder / "runs" / "mean" / "r0-f0.running")
    for part in left:
        part.touch()
    assert run(arguments("--report", "false", "--against", "mean")) == 0
    assert not (folder / "report.html").exists()
    against = pd.read_json(folder / "against_mean.json").set_index("model")
    assert against.loc["linear", ["reference", "folds"]].tolist() == ["mean", 3]
    assert against.loc["linear", "difference"] == pytest.approx(-summary.loc["mean", "difference"], rel=1e-5)
    (folder / "against_mean.json").unlink()
    assert not [part for part in left if part.exists()], "of a process that was killed while it wrote"
    assert "26 of 30 runs are done, 4 to do, 3 of them again" in capsys.readouterr().out
    renewed = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert sorted(renewed) == sorted([lost, damaged, empty, failed])
    after = without_seconds(folder)
    assert "predictions.parquet" in after
    assert after == {name: before[name] for name in after}

    for damage in ("{", "[]", "[3]"):
        (folder / "protocol.json").write_text(damage)
        assert run(arguments()) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_a_failed_run_is_told_of_and_tried_again(arguments, config, capsys, tmp_path, monkeypatch):
    from popularity.evaluation import runs

    def refuse(*_):
        raise RuntimeError("bad\nluck")

    with monkeypatch.context() as patch:
        patch.setattr(runs, "regression_scores", refuse)
        assert run(arguments()) == 2
        assert "no run has succeeded; mean, repeat 0, fold 0: RuntimeError: bad luck" in capsys.readouterr().err
    checked, left = runs.regression_scores, [True]
    monkeypatch.setattr(runs, "regression_scores", lambda *given: refuse() if left and left.pop() else checked(*given))
    assert run(arguments("--report", "false")) == 1
    told = capsys.readouterr()
    # its hits cannot start from a prediction that is not there
    assert "2 of 30 runs failed (mean, repeat 0, fold 0: RuntimeError: bad luck)" in told.err
    assert "RuntimeError: bad luck" in (tmp_path / "out" / "summary.md").read_text()
    assert run(arguments("--report", "false")) == 0
    assert "28 of 30 runs are done, 2 to do, 2 of them again" in capsys.readouterr().out


def test_hits_can_be_left_out(arguments, tmp_path):
    assert run(arguments("--hits.run", "false", "--report", "false", models="linear,logistic")) == 0
    assert not (tmp_path / "out" / "hits.parquet").exists()
    assert len(results(tmp_path / "out")) == 6


def without_seconds(folder: Path) -> dict[str, bytes]:
    """The files that hold no measured time; of the report, which shows the seconds, nothing."""
    timed = ("summary.csv", "summary.md", "folds.csv", "hit_summary.csv", "report.html", "protocol.json")
    return contents(folder, *timed, "folds.parquet", "hit_folds.parquet")


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(log, "wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "popularity", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=Path(__file__).parents[2],
            start_new_session=True,
            # what a shell starts in the background ignores SIGINT, under nohup SIGHUP too, and so would what it starts
            preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in (signal.SIGINT, signal.SIGHUP)],
        )


def results(folder: Path) -> list[Path]:
    return sorted((folder / "runs").glob("*/*.npz"))


def wait_for(condition: Callable[[], object], process: subprocess.Popen, log: Path) -> None:
    while not condition():
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)


def workers_of(pid: int) -> list[int]:
    found = [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
    return [child for child in found if "LokyProcess" in command_line(child)]


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


# 96 runs of linear and twin, 3 of mean
LONG = ["--repeats", "16", "--workers", "2", "--report", "false", "--hits.run", "false"]
TOTAL = 99
#: A model that samples from a generator of its own, one that is searched, and a network with a scan.
MORE = """
  forest: {baseline: forest, trials: 2, repeats: 1}
  little: {configs: [audio], overrides: {trainer.max_epochs: 2}, repeats: 1}
hits:"""


@pytest.mark.slow
def test_a_killed_command_goes_on_and_ends_the_same(arguments, config, tmp_path):
    """SIGKILL in the middle: what was done stays, the rest is done, the tables are those of an uninterrupted command.

    Seconds are measured, so they differ between two runs; a finished run keeps those that it took. Everything else is
    the same to the last byte.
    """
    whole, folder, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    config.write_text(CONFIG.replace("\nhits:", MORE))
    models, total = "mean,linear,twin,forest,little", TOTAL + 6
    command = arguments(*LONG, models=models, output="killed")
    process = start(command, log)
    try:
        wait_for(lambda: len(results(folder)) >= 10, process, log)
        workers = workers_of(process.pid)
        assert len(workers) == 2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.time() + 120
    while any(Path(f"/proc/{pid}").exists() and "loky" in command_line(pid) for pid in workers):
        assert time.time() < deadline, "workers outlived their parent"
        time.sleep(0.05)
    kept = {path: path.read_bytes() for path in results(folder)}
    assert 10 <= len(kept) < total, "killed too late to show anything"
    assert not (folder / "summary.csv").exists()

    assert start(command, log).wait() == 0, log.read_text()
    assert f"{len(kept)} of {total} runs are done" in log.read_text()
    assert len(results(folder)) == total
    assert {path: path.read_bytes() for path in kept} == kept
    assert not [*folder.rglob("*.part"), *folder.rglob("*.running")]

    assert start(arguments(*LONG, models=models, output="whole"), log).wait() == 0, log.read_text()
    assert without_seconds(whole) == without_seconds(folder)
    texts = [cut_seconds((place / "summary.csv").read_text()) for place in (whole, folder)]
    assert texts[0] == texts[1]
    tables = [pd.read_parquet(place / "folds.parquet").drop(columns="seconds") for place in (whole, folder)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def cut_seconds(text: str) -> str:
    """The text of a table without its last column, which are the seconds."""
    return "\n".join(line.rpartition(",")[0] for line in text.splitlines())


@pytest.mark.slow
def test_a_worker_that_dies_loses_only_the_runs_in_progress(arguments, config, capsys, tmp_path):
    settings = f"{{class_path: tests.evaluation.helpers.Deadly, init_args: {{folder: {tmp_path}}}, prepare: false}}"
    config.write_text(CONFIG.replace("\nhits:", f"\n  deadly: {settings}\nhits:"))
    (tmp_path / "die-1").touch()
    (tmp_path / "die-2").touch()
    command = arguments("--workers", "2", "--hits.run", "false", "--report", "false", models="linear,twin,deadly")
    assert run(command) == 1
    told = capsys.readouterr()
    found = json.loads((tmp_path / "out" / "protocol.json").read_text())["failed"]
    assert 2 <= len(found) <= 4, "each death takes its own run, and at most that of its neighbour"
    assert set(found.values()) == {"a worker process died during this run"}
    assert sum("deadly" in name for name in found) >= 2
    assert f"{len(found)} of 18 runs failed" in told.err
    assert run(command) == 0, "the next command tries them again"
    assert f"{18 - len(found)} of 18 runs are done, {len(found)} to do, {len(found)} of them again" in (
        capsys.readouterr().out
    )
    assert pd.read_csv(tmp_path / "out" / "summary.csv")["folds"].tolist() == [6, 6, 6]


def test_workers_that_cannot_start_are_one_line(arguments, capsys, monkeypatch):
    from popularity.evaluation import workers

    def refuse(*_):
        raise workers.TerminatedWorkerError("died")

    monkeypatch.setattr(workers, "_pool", refuse)
    assert run(arguments()) == 2
    assert "worker processes cannot start" in capsys.readouterr().err


def test_no_second_command_into_the_same_folder_meanwhile(arguments, tmp_path, capsys):
    from popularity.io import folder_lock

    with folder_lock(tmp_path / "out"):
        assert run(arguments()) == 2
    assert "another command is running" in capsys.readouterr().err


def test_there_must_be_a_command_to_join(arguments, capsys):
    assert run(arguments("--join", "true")) == 2
    assert "--join: expected the folder of a comparison that has begun" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["", "one is killed"])
def test_two_commands_share_the_runs_of_a_folder(killed, arguments, config, tmp_path):
    """As two machines would: each run is done once, and the tables are those of one command."""

    def noted(name: str, seconds: float) -> None:
        settings = f"{{file: {tmp_path / name}, seconds: {seconds}}}"
        model = f"{{class_path: tests.evaluation.helpers.Noted, init_args: {settings}, prepare: false}}"
        config.write_text(CONFIG.replace("\nhits:", f"\n  noted: {model}\nhits:"))

    noted("alone.txt", 0)
    (tmp_path / "alone.txt.go").touch()
    plain, shared, log = (
        ["--report", "false", "--hits.cutoffs", "[40]", "--hits.models", "null"],
        tmp_path / "shared",
        tmp_path / "log",
    )
    assert run(arguments(*plain, models="linear,noted", output="alone")) == 0
    noted("together.txt", 0.1)
    command = arguments(*plain, models="linear,noted", output="shared")
    first, second = start(command, log), None
    try:
        wait_for(lambda: results(shared), first, log)
        second_log, notes = tmp_path / "second", tmp_path / "together.txt"
        second = start([*command, "--join", "true"], second_log)
        wait_for(lambda: "runs are done" in second_log.read_text(), second, second_log)
        (tmp_path / "together.txt.go").touch()
        if killed:
            wait_for(lambda: notes.exists() and str(second.pid) in notes.read_text(), second, second_log)
            second.kill()
        assert (first.wait(), second.wait()) == (0, -signal.SIGKILL if killed else 0), log.read_text()
    finally:
        for process in (first, second):
            if process is not None:
                process.kill()
                process.wait()
    fits = (tmp_path / "together.txt").read_text().splitlines()
    assert set(fits) == {str(first.pid), str(second.pid)}, "both had their share"
    if not killed:
        assert len(fits) == len((tmp_path / "alone.txt").read_text().splitlines()), "nothing was done twice"
    assert without_seconds(shared).keys() == without_seconds(tmp_path / "alone").keys()
    tables = [(tmp_path / name / "predictions.parquet").read_bytes() for name in ("alone", "shared")]
    assert tables[0] == tables[1]
    assert not [*shared.rglob("*.running")]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopping_is_clean(number, arguments, tmp_path):
    folder, log = tmp_path / "out", tmp_path / "log"
    process = start(arguments(*LONG), log)
    try:
        wait_for(lambda: len(results(folder)) >= 5, process, log)
        workers = workers_of(process.pid)
        if number == signal.SIGTERM:
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)  # as a terminal does
        assert process.wait(timeout=120) == 128 + number, log.read_text()
    finally:
        process.kill()
    text = log.read_text()
    assert "stopped: finished runs are kept, the same command continues from here" in text
    assert "Traceback" not in text
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists() and "loky" in command_line(pid)]
    assert all(json.loads(str(np.load(path)["facts"]))["error"] is None for path in results(folder))


@pytest.mark.slow
def test_the_shipped_config_from_any_folder(song_file, tmp_path, monkeypatch):
    """It is found by its name, and so are the config files that it names."""
    from popularity.evaluation.baselines import BASELINES
    from popularity.evaluation.classifiers import CLASSIFIERS
    from popularity.evaluation.models import build_model
    from popularity.evaluation.protocol import read_command

    monkeypatch.chdir(tmp_path)
    comparison = read_command(["-c", "compare", "--data.source", str(song_file), "--models", "linear,stack"])
    protocol = comparison.protocol
    assert comparison.chosen == {"linear", "stack"}
    pretrained = {name for name, row in BASELINES.items() if row.weights}  # nobody has their weights unasked
    assert set(BASELINES) - pretrained == {one.get("baseline") for one in protocol.models.values()} - {None}
    assert set(CLASSIFIERS) == {one["classifier"] for one in protocol.classifiers.values()}
    ablations = {path.stem for path in (Path(__file__).parents[2] / "configs" / "ablations").glob("*.yaml")}
    networks = {name for name, one in protocol.models.items() if "configs" in one}
    assert networks == {"mamba", "mamba_audio", "single_token", "stack", *ablations}
    assert protocol.cutoffs == ("50", "60", "70", "75", "80", "90", "top_quarter", "median")
    assert len(protocol.folds_of("linear")) == len(protocol.folds_of("mamba")) == 25
    assert len(protocol.folds_of("single_token")) == 10
    assert len(protocol.runs({"mamba"}, hits=False)) == 25
    assert len(protocol.runs({"mamba"})) == 50  # hits are asked of every fold too
    for name, settings in {**protocol.models, **protocol.classifiers}.items():
        assert "repeats" not in settings
        model = build_model(name, settings)
        budget = model.settings.get("trials")
        assert not budget or budget in settings.values(), "a budget is named where people look for it"
