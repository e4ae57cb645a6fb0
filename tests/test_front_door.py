"""The table of verbs, exit codes, and one line for whatever is wrong with a command line."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys

import pytest

import popularity
from popularity.__main__ import VERBS, main
from popularity.__main__ import run as run_program
from popularity.help import FLAGS
from popularity.parsing import Parser
from popularity.parsing.short_flags import SHORT


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "popularity", *arguments], capture_output=True, text=True, timeout=120, **options
    )


def test_help_lists_the_verbs_in_a_blink():
    """The best of three: two processes on one core slow each other down."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = run("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert result.returncode == 0
        for verb in VERBS:
            assert f"  {verb} " in result.stdout
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.3


def test_version(capsys):
    for flag in ("-v", "--version"):
        assert main([flag]) == 0
        assert capsys.readouterr().out == f"popularity {popularity.__version__}\n"


@pytest.mark.parametrize(
    ("verb", "meant"), [("fitt", "fit"), ("train", "fit"), ("evaluate", "test"), ("prdict", "predict")]
)
def test_unknown_verb_is_one_line(verb, meant, capsys):
    assert main([verb]) == 2
    expected = f"error: expected a verb ({', '.join(VERBS)}), got {verb!r}; did you mean {meant}?\n"
    assert capsys.readouterr().err == expected


def test_a_verb_like_no_other_is_given_no_hint(capsys):
    assert main(["--config", "mamba"]) == 2
    assert capsys.readouterr().err.endswith(", got '--config'\n")


@pytest.mark.parametrize(
    ("started", "name"), [("/usr/bin/popularity", "popularity"), ("/x/popularity/__main__.py", "python -m popularity")]
)
def test_help_names_the_program_as_it_was_started(started, name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [started])
    assert main([]) == 0
    assert f"usage: {name} VERB" in capsys.readouterr().out
    assert Parser().format_usage() == f"usage: {name}\n"


def closed_pipe() -> int:
    """The end to write to of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.slow
@pytest.mark.parametrize("buffering", [[], ["-u"]])
@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 141), (["data", "--help"], 0)]
)  # argparse takes no notice
def test_output_that_nobody_reads_ends_quietly(arguments, code, buffering):
    """As behind `| head`."""
    command = [sys.executable, *buffering, "-m", "popularity", *arguments]
    pipe = closed_pipe()
    result = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(pipe)
    assert result.stderr == ""
    assert result.returncode == code


def test_only_the_parser_of_the_verb_is_made(monkeypatch):
    """Those of Lightning's other verbs would take half a second."""
    from popularity.cli import PopularityCLI

    made, prepare = [], PopularityCLI._prepare_subcommand_parser

    def spy(self, klass, verb, **more):
        made.append(verb)
        return prepare(self, klass, verb, **more)

    monkeypatch.setattr(PopularityCLI, "_prepare_subcommand_parser", spy)
    assert main(["predict", "--ckpt_path", "nowhere.ckpt"]) == 2
    assert made == ["predict"]


def test_another_broken_pipe_is_a_fault_of_ours(monkeypatch):
    def broken() -> int:
        os.write(pipe, b"to a worker that died")
        return 0

    pipe = closed_pipe()
    monkeypatch.setattr("popularity.__main__.main", broken)
    with pytest.raises(BrokenPipeError):
        run_program()
    os.close(pipe)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("fit --no_such_flag 1", "unknown flag --no_such_flag (see python -m popularity fit --help)"),
        ("fit --model.net.widht 64", "unknown setting model.net.widht; did you mean model.net.width?"),
        ("fit --model.width 64", "unknown flag --model.width; did you mean --model.net.width?"),
        ("fit --model.net.width wide", "--model.net.width: expected a whole number or a list, got 'wide'"),
        ("fit --data.sorce songs.csv", "unknown flag --data.sorce; did you mean --data.source?"),
        (
            "fit --data songs.csv",
            "--data: expected a YAML file with settings, got 'songs.csv'; did you mean --data.source?",
        ),
        ("fit --epochs 3", "unknown flag --epochs; did you mean --trainer.max_epochs?"),
        ("fit songs.csv", "unexpected argument 'songs.csv'; did you mean --data.source songs.csv?"),
        ("fit --trainer.max_epochs many", "--trainer.max_epochs: expected a whole number or null, got 'many'"),
        ("fit --data.split mood", "--data.split: expected random, artist, credits, album or time, got 'mood'"),
        (
            "predict --checkpoint best.ckpt",
            "--checkpoint: expected a YAML file with settings, got 'best.ckpt'; did you mean --ckpt_path?",
        ),
        (
            "predict --model best.ckpt",
            "--model: expected a YAML file with settings, got 'best.ckpt'; did you mean --ckpt_path?",
        ),
        ("predict songs.csv", "unexpected argument 'songs.csv'; did you mean --data.predict_source songs.csv?"),
        ("predict --out out.csv", "unknown flag --out; did you mean --output?"),
        ("predict --outptu out.csv", "unknown flag --outptu; did you mean --output?"),
        (
            "fit --model.net no_such_module.Net",
            "--model.net: expected a class by its name or import path: No module named 'no_such_module'",
        ),
        ("tune", "expected --space (see python -m popularity tune --help)"),
        ("tune --space x --seeed 1", "unknown flag --seeed; did you mean --seed?"),
        ("tune --space x --trials 0", "--trials: expected a whole number of at least 1, got '0'"),
        ("tune --space x --workers x", "--workers: expected a whole number of at least 1, got 'x'"),
        ("tune --no_such_flag 1", "unknown flag --no_such_flag (see python -m popularity tune --help)"),
        ("compare --epochs 3", "unknown flag --epochs (see python -m popularity compare --help)"),
        ("compare --model mamba", "unknown flag --model; did you mean --models?"),
        ("test", "test needs a trained model: give --ckpt_path CHECKPOINT"),
    ],
)
def test_bad_command_lines_are_one_line(command, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "best.ckpt").write_bytes(b"PK\x03\x04\x80")  # as a checkpoint begins: no text
    assert main(command.split()) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("fit --config no/such/file.yaml", "no/such/file.yaml"),
        ("fit --config=mmaba", "ablations/no_history"),
        ("fit --model.net.dropout 1.5", "1.5"),
        ("data moderndive --no-such-flag", "no-such-flag"),
        ("data", "source"),
    ],
)
def test_other_bad_command_lines_are_one_line(command, named, capsys):
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert named in error


def test_unknown_setting_of_a_file_is_one_line(tmp_path, capsys):
    config = tmp_path / "typo.yaml"
    config.write_text("model:\n  net:\n    widht: 64\n")
    assert main(["fit", "--config", str(config)]) == 2
    assert (
        capsys.readouterr().err == f"error: {config}: unknown setting model.net.widht; did you mean model.net.width?\n"
    )


def test_a_shipped_config_is_found_from_any_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as printed:
        main(["fit", "-c", "ablations/mse_head", "--print_config"])
    assert printed.value.code == 0
    assert "MSEHead" in capsys.readouterr().out


@pytest.mark.parametrize("verb", FLAGS)
def test_the_short_help_names_flags_that_exist(verb, capsys):
    assert main([verb, "--help"]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) < 40
    assert max(map(len, shown.splitlines())) <= 140
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help", "all"])
    assert not ended.value.code
    everything = capsys.readouterr().out
    for flag in re.findall(r"--[a-z_.]+", " ".join(FLAGS[verb][1])):
        whole = flag.replace("--model.net.", "--model.net ").replace("--data.encoder.", "--data.encoder ").split()[0]
        assert whole in everything, f"{flag} is no flag of {verb}"


@pytest.mark.parametrize(
    ("verbs", "names"),
    [
        ("fit validate test predict tune compare explain what_if report", "source columns cache_dir seed"),
        ("data", "columns cache_dir seed"),  # its songs need no flag
        ("export", "source cache_dir"),
        ("app", "cache_dir"),
        ("features", ""),
    ],
)
def test_all_verbs_have_the_same_names_for_the_same_settings(verbs, names, capsys):
    for verb in verbs.split():
        with pytest.raises(SystemExit):
            main([verb, "--help", *(["all"] if verb in FLAGS else [])])
        shown = capsys.readouterr().out
        found = [name for name in SHORT if re.search(rf"^ .*--{name} ", shown, re.MULTILINE)]
        assert found == names.split(), verb


def test_the_short_help_shows_the_defaults():
    """A default that is written in the help is the default."""
    from popularity.training.fit import read_config
    from popularity.training.tensorboard import flat

    settings = flat(read_config().as_dict())
    for flags in FLAGS["fit"][1]:
        for name, value in re.findall(r"--([a-z_.]+) ([0-9][-0-9.e]*)", flags):
            if name != "trainer.devices":
                assert float(settings[SHORT.get(name, name)]) == float(value), name


def test_the_console_script_finds_modules_in_the_current_folder(tmp_path, monkeypatch, capsys):
    """As ``python -m popularity`` does: own networks are named by their import path."""
    from popularity.__main__ import run as run_program

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder])
    monkeypatch.setattr(sys, "argv", ["popularity", "--version"])
    assert run_program() == 0
    assert sys.path[-1] == str(tmp_path)
    assert capsys.readouterr().out.startswith("popularity ")


def test_an_unknown_kernel_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POPULARITY_SCAN", "bogus")
    assert main(["fit", "--trainer.max_epochs", "1", "--model.net.width", "8"]) == 2
    assert capsys.readouterr().err == (
        "error: POPULARITY_SCAN: expected one of torch, cpp, cuda, triton, got 'bogus'\n"
    )
    assert not list(tmp_path.iterdir())
