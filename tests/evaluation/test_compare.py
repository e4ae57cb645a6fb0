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

import pandas as pd
import pytest

from popularity.__main__ import main

CONFIG = """
folds: 3
repeats: 2
models:
  mean: {kind: mean, repeats: 1}
  linear: {kind: linear}
  twin: {kind: linear}
  absent: {kind: nobody_made_this}
hits:
  cutoffs: [40, median]
  models:
    logistic: {kind: logistic, repeats: 1}
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
        (["--models", "absent"], "model absent: kind must be one of"),
        (["--models", "mean"], "--reference linear has no results in"),
        (["--reference", "nobody"], "--reference nobody: expected one of mean, linear"),
        (["--against", "nobody"], "--against nobody: expected one of mean, linear"),
        (["--reference", "logistic"], "--reference logistic: expected one of mean, linear"),
        (["--folds", "1"], "--folds must be at least 2, got 1"),
        (["--folds", "many"], "folds"),
        (["--repeats", "0"], "--repeats must be at least 1"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--seed", "-1"], "--seed must be from 0 to"),
        (["--data.split", "alphabet"], "data.split"),
        (["--data.source", "nowhere.csv"], "'nowhere.csv' is neither a file nor"),
        (["--folds", "1000"], "split random needs at least 1000 songs"),
        (["--hits.cutoffs", "[120]"], "hits.cutoffs: expected numbers from 1 to 100, or median or top_quarter"),
        (["--hits.cutoffs", "[0.5]"], "hits.cutoffs: expected numbers from 1 to 100"),
        (["--frobnicate", "1"], "frobnicate"),
        (["--output", f"{__file__}/out"], "is no folder"),
    ],
)
def test_bad_input_is_one_line(more, told, arguments, capsys, tmp_path):
    assert run(arguments(*more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert told in error
    assert not list(tmp_path.rglob("*.json")) or "no results" in error


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: {a b/c: {kind: mean}}", "got 'a b/c'"),
        ("models: {linear: {kind: linear, repeats: 0}}", "model linear: repeats must be a number of at least 1, got 0"),
        ("models: {a: {}}", "model a: expected a kind, got None"),
        ("models: {linear: {kind: linear, depth: 3}}", "model linear"),
        ("models: {linear: {kind: linear}, mix: {kind: stack, of: [linear, no]}}", "model mix: of: expected a list of"),
        ("models: {linear: {kind: linear}, mix: {kind: stack, of: [[linear]]}}", "model mix: of: expected a list of"),
        ("models: {linear: {kind: linear}, a: {kind: network, configs: 3}}", "configs must be a list of YAML files"),
        ("models: {linear: {kind: linear}, a: {kind: network, configs: x.yaml}}", "but is 'x.yaml'"),
        (
            "models: {linear: {kind: linear}, a: {kind: network, configs: [], overrides: 5}}",
            "model a: overrides must be a mapping of settings, but is 5",
        ),
        ("models: {linear: {kind: linear}, 1: {kind: mean}}", "without commas, got 1"),
        ("models: {linear: {kind: linear}, on: {kind: mean}}", "without commas, got True"),
        ("models: {linear: {kind: linear}, a: {kind: logistic}}", "model a: kind logistic predicts hits alone"),
        (
            "models: {linear: {kind: linear}}\nhits: {cutoffs: [40], models: {a: {kind: ridge}}}",
            "hits.models: model a: kind ridge gives no chances, expected a classifier or a network",
        ),
        ("models: [linear]", "models"),
        ("model: {a: {kind: mean}}", "model"),
        ("folds: 3", "give -c configs/compare.yaml"),
        ("models: {linear: {kind: linear}}\nhits: {models: {a: {kind: logistic}}}", "expected hits.cutoffs beside it"),
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
    """Tables and summaries by name; jobs have a folder of their own."""
    return {
        path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file() and path.name not in but
    }


def test_a_comparison_from_end_to_end(arguments, capsys, tmp_path):
    from popularity.evaluation.jobs import code_version
    from popularity.evaluation.paired import compare

    assert run(arguments("--workers", "2", models="mean,linear,twin,logistic")) == 0
    out = capsys.readouterr().out
    assert "0 of 21 jobs are done, 21 to do" in out
    assert "21/21" in out
    folder = tmp_path / "out"
    assert str(folder) in out.replace("\n", "")
    summary = pd.read_csv(folder / "summary.csv").set_index("model")
    assert summary["folds"].to_dict() == {"linear": 6, "twin": 6, "mean": 3}
    assert (summary.loc["twin", "difference"], summary.loc["twin", "p_value"]) == (0, 1)
    assert len(pd.read_csv(folder / "hit_summary.csv")) == 2
    folds = pd.read_csv(folder / "folds.csv")  # enough to repeat the paired tests without the songs
    assert set(folds["code"]) == {code_version()}
    again = compare(folds, "linear").set_index("model")
    assert again["difference"].to_dict() == pytest.approx(summary["difference"].to_dict(), rel=1e-4)
    assert again["p_value"].to_dict() == pytest.approx(summary["p_value"].to_dict(), rel=1e-4, nan_ok=True)
    text = (folder / "summary.md").read_text()
    assert text in out
    assert "3 folds × 2 repeats" in text
    assert "SHA-256" in text
    assert str(tmp_path) not in text + (folder / "protocol.json").read_text(), "no path of a machine in what is kept"
    before = contents(folder)
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "jobs").rglob("*.json")}

    # nothing is missing: nothing runs, and the summaries are the same bytes
    assert run(arguments()) == 0
    assert "to do" not in capsys.readouterr().out
    assert contents(folder) == before
    assert {path: path.stat().st_mtime_ns for path in (folder / "jobs").rglob("*.json")} == stamps

    # other folds do not go into the same folder
    assert run(arguments("--seed", "1")) == 2
    assert "its results have seed 0, now it is 1; give another folder" in capsys.readouterr().err

    # a job that is lost or damaged is run again, alone, and a failed one too
    lost, damaged = (folder / "jobs" / "mean" / f"r0-f{fold}.json" for fold in (1, 2))
    lost.unlink()
    damaged.write_text(damaged.read_text()[:40])
    alone, halved, empty = (folder / "jobs" / "linear" / f"r1-f{fold}.json" for fold in range(3))
    alone.with_suffix(".npz").unlink()
    halved.with_suffix(".npz").write_bytes(halved.with_suffix(".npz").read_bytes()[:99])
    empty.write_text("{}")
    failed = folder / "jobs" / "twin" / "r1-f2.json"
    failed.write_text(json.dumps(json.loads(failed.read_text()) | {"error": "bad luck"}))
    (folder / "report.html").unlink()
    left = [folder / ".summary.csv.x.part", folder / "jobs" / "mean" / ".r0-f0.json.x.part"]
    for part in left:
        part.touch()
    assert run(arguments("--report", "false", "--against", "mean")) == 0
    assert not (folder / "report.html").exists()
    against = pd.read_json(folder / "against_mean.json").set_index("model")
    assert against.loc["linear", ["reference", "folds"]].tolist() == ["mean", 3]
    assert against.loc["linear", "difference"] == pytest.approx(-summary.loc["mean", "difference"], rel=1e-5)
    (folder / "against_mean.json").unlink()
    assert not [part for part in left if part.exists()], "of a process that was killed while it wrote"
    assert "9 of 15 jobs are done, 6 to do, 5 of them again" in capsys.readouterr().out
    renewed = [path for path, stamp in stamps.items() if path.stat().st_mtime_ns != stamp]
    assert sorted(renewed) == sorted([lost, damaged, alone, halved, empty, failed])
    after = without_seconds(folder)
    assert after == {name: before[name] for name in after}
    assert "predictions.parquet" in after

    for damage in ("{", "[]", "[3]"):
        (folder / "protocol.json").write_text(damage)
        assert run(arguments()) == 2
        assert capsys.readouterr().err.count("\n") == 1


def without_seconds(folder: Path) -> dict[str, bytes]:
    """The files that hold no measured time; of the report, which shows the seconds, nothing."""
    timed = ("summary.csv", "summary.md", "folds.csv", "hit_summary.csv", "report.html")
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
            # what a shell starts in the background ignores SIGINT, and so would what it starts in turn
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


def results(folder: Path) -> list[Path]:
    return sorted((folder / "jobs").glob("*/*.json"))


def wait_for(condition: Callable[[], object], process: subprocess.Popen, log: Path) -> None:
    for _ in range(6000):
        if condition():
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.01)
    pytest.fail(f"nothing happened: {log.read_text()}")


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


LONG = ["--repeats", "16", "--workers", "2", "--report", "false"]  # 96 jobs of linear and twin, 3 of mean
TOTAL = 99
#: A model that draws from a generator of its own, one that is searched, and a network with a scan.
MORE = """
  forest: {kind: forest, trials: 2, repeats: 1}
  little: {kind: network, configs: [configs/audio.yaml, FEW], repeats: 1}
hits:"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_the_same(arguments, config, tmp_path):
    """SIGKILL in the middle: what was done stays, the rest is run, the summaries are those of an uninterrupted run.

    Seconds are measured, so they differ between two runs; a finished job keeps those that it took. Everything else is
    the same to the last byte.
    """
    whole, folder, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log"
    (few := tmp_path / "few.yaml").write_text("trainer: {max_epochs: 2}")
    config.write_text(CONFIG.replace("\nhits:", MORE.replace("FEW", str(few))))
    models, total = "mean,linear,twin,forest,little", TOTAL + 6
    command = arguments(*LONG, models=models, output="killed")
    process = start(command, log)
    try:
        wait_for(lambda: len(results(folder)) >= 10, process, log)
        workers = [pid for pid in children(process.pid) if "spawn_main" in command_line(pid)]
        assert len(workers) == 2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.time() + 20
    while any(Path(f"/proc/{pid}").exists() and "spawn_main" in command_line(pid) for pid in workers):
        assert time.time() < deadline, "workers outlived their parent"
        time.sleep(0.05)
    kept = {path: path.read_bytes() for path in results(folder)}
    assert 10 <= len(kept) < total, "killed too late to show anything"
    assert not (folder / "summary.csv").exists()

    assert start(command, log).wait() == 0, log.read_text()
    assert f"{len(kept)} of {total} jobs are done" in log.read_text()
    assert len(results(folder)) == total
    assert {path: path.read_bytes() for path in kept} == kept
    assert not list(folder.rglob("*.part"))

    assert start(arguments(*LONG, models=models, output="whole"), log).wait() == 0, log.read_text()
    assert without_seconds(whole) == without_seconds(folder)
    for name in ("summary.csv", "summary.md"):
        texts = [cut_seconds((place / name).read_text()) for place in (whole, folder)]
        assert texts[0] == texts[1]
    tables = [pd.read_parquet(place / "folds.parquet").drop(columns="seconds") for place in (whole, folder)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def cut_seconds(text: str) -> str:
    """The text of a table without its last column, which are the seconds."""
    lines = [line.removesuffix(" |") for line in text.splitlines()]
    mark = {True: "|", False: ","}
    return "\n".join(
        line.rpartition(mark[line.startswith("|")])[0] if line.startswith("|") or text.startswith("model,") else line
        for line in lines
    )


def kill_in_the_middle(parent: int, folder: Path) -> bool:
    """Kill a worker that is caught at a job whose result is not there yet; False if none is."""
    for pid in [pid for pid in children(parent) if "spawn_main" in command_line(pid)]:
        os.kill(pid, signal.SIGSTOP)
        while Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "T":
            time.sleep(0.001)
        log = Path(os.readlink(f"/proc/{pid}/fd/1"))  # its parent's as long as it is starting
        begun = [line[4:] for line in log.read_text().splitlines() if line.startswith("--- ")]
        done = {f"{path.parent.name}, repeat {path.stem[1:].replace('-f', ', fold ')}" for path in results(folder)}
        if begun and begun[-1] not in done:
            os.kill(pid, signal.SIGKILL)
            return True
        os.kill(pid, signal.SIGCONT)
    return False


@pytest.mark.slow
def test_a_worker_that_dies_loses_its_running_job_alone(arguments, tmp_path):
    folder, log = tmp_path / "out", tmp_path / "log"
    process = start(arguments(*LONG), log)
    try:
        wait_for(lambda: len(results(folder)) >= 10, process, log)
        wait_for(lambda: kill_in_the_middle(process.pid, folder), process, log)
        assert process.wait(timeout=120) == 1, log.read_text()
    finally:
        process.kill()
    found = [json.loads(path.read_text()) for path in results(folder)]
    failed = [result for result in found if result["error"]]
    assert len(found) == TOTAL
    assert [result["error"] for result in failed] == ["its process was killed by signal 9"]
    assert f"1 of {TOTAL} jobs failed" in log.read_text()
    assert pd.read_csv(folder / "summary.csv")["folds"].sum() == TOTAL - 1
    assert start(arguments(*LONG), log).wait() == 0, "the next command tries it again"
    assert f"{TOTAL - 1} of {TOTAL} jobs are done, 1 to do, 1 of them again" in log.read_text()
    assert pd.read_csv(folder / "summary.csv")["folds"].sum() == TOTAL


def test_no_second_command_into_the_same_folder_meanwhile(arguments, song_file, tmp_path, capsys):
    from filelock import FileLock

    (tmp_path / "out" / "jobs").mkdir(parents=True)
    claims = ["claims", "--source", str(song_file), "--output", str(tmp_path / "out")]
    with FileLock(tmp_path / "out" / "jobs" / ".lock"):
        for command in (arguments(), claims):
            assert run(command) == 2
            assert "another command is running there" in capsys.readouterr().err


def test_jobs_that_cannot_be_written_are_one_line(arguments, capsys, tmp_path, monkeypatch):
    from filelock import FileLock

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(FileLock, "acquire", refused)
        assert run(arguments()) == 2
    assert capsys.readouterr().err == f"error: --output {tmp_path / 'out'}: cannot write there: Permission denied\n"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "jobs").touch()
    assert run(arguments(output="other")) == 2
    error = capsys.readouterr().err
    assert "is no folder" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_is_clean(number, arguments, tmp_path):
    folder, log = tmp_path / "out", tmp_path / "log"
    process = start(arguments(*LONG), log)
    try:
        wait_for(lambda: len(results(folder)) >= 5, process, log)
        workers = children(process.pid)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        assert process.wait(timeout=30) == 130, log.read_text()
    finally:
        process.kill()
    text = log.read_text()
    assert "stopped: finished jobs are kept, the same command goes on from here" in text
    assert "Traceback" not in text
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists() and "spawn_main" in command_line(pid)]
    assert all(json.loads(path.read_text())["error"] is None for path in results(folder))


def test_the_shipped_config_names_what_it_should(song_file, monkeypatch):
    from popularity.evaluation.entries import completed
    from popularity.evaluation.options import read_command

    monkeypatch.chdir(Path(__file__).parents[2])
    comparison = read_command(
        ["-c", "configs/compare.yaml", "--data.source", str(song_file), "--models", "linear,stack"]
    )
    wanted = "mean artist_mean linear ridge lasso forward splines knn svr forest extra_trees adaboost mlp tabm realmlp "
    wanted += "ridge_everything forest_everything "
    wanted += "lightgbm lightgbm_audio xgboost xgboost_audio catboost catboost_audio single_token mamba stack "
    ablations = {path.stem for path in Path("configs/ablations").glob("*.yaml")}
    protocol = comparison.protocol
    assert set(protocol.models) == {*wanted.split(), "mamba_audio", *ablations}
    assert comparison.chosen == {"linear", "stack"}
    assert protocol.models["stack"]["of"] == {name: protocol.models[name] for name in ("mamba", "lightgbm")}
    assert protocol.cutoffs == ("50", "60", "70", "75", "80", "90", "top_quarter", "median")
    assert len(protocol.folds_of("linear")) == 25
    assert len(protocol.folds_of("mamba")) == 25
    assert len(protocol.folds_of("tabm")) == 25
    assert len(protocol.folds_of("single_token")) == 10
    assert [job.cutoff for job in protocol.jobs({"mamba"}, hits=False)] == [""] * 25
    assert len(protocol.jobs({"mamba"})) == 50  # hits are asked of every fold too
    every = [settings for models in (protocol.models, protocol.hits) for settings in models.values()]
    assert all("repeats" not in settings for settings in every)
    for settings in every:
        budget = {"trials", "epochs"} & completed(settings).keys()
        assert budget <= settings.keys(), "a budget is named where people look for it"
    files = [path for settings in every for path in settings.get("configs", [])]
    assert files
    assert all(Path(path).is_file() for path in files)
