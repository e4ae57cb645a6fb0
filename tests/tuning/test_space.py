from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conftest import Lazy
from tests.tuning.conftest import arguments

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

distributions = Lazy("optuna.distributions")
cli = Lazy("popularity.tuning.cli")
space_module = Lazy("popularity.tuning.space")


def distribution(kind: str, **init_args) -> str:
    return f"{{class_path: {kind}Distribution, init_args: {init_args}}}"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("model.widht: " + distribution("Int", low=8, high=16), "model.widht"),
        ("modle.width: " + distribution("Int", low=8, high=16), "modle.width"),
        ("model.net.width: " + distribution("Float", low=8, high=16), "expected a whole number"),
        ("model.net.width: " + distribution("Int", low=0, high=16), "model.net.width: expected at least 1, got 0"),
        ("model.net.width: " + distribution("Int", low=16, high=8), "low <= high"),
        (
            "model.net.dropout: " + distribution("Float", low=0.1, high=1.5),
            "model.net.dropout: expected at least 0 and below 1, got 1.5",
        ),
        ("model.learning_rate: " + distribution("Float", low=0.0, high=1.0, log=True).replace("True", "true"), "low"),
        ("model.net.width: " + distribution("Int", lo=8, high=16), "unknown setting distribution.lo"),
        ("model.net.width: " + distribution("Integer", low=8, high=16), "Integer"),
        ("model.net.width: [8, 16]", "class_path"),
        ("model.head: " + distribution("Categorical", choices=["HistogramHead", "GaussianHead"]), "GaussianHead"),
        ("model.net.bidirectional: " + distribution("Categorical", choices=["sometimes"]), "sometimes"),
        ("data.fold: " + distribution("Int", low=0, high=4), "not be comparable"),
        ("trainer.max_epochs: " + distribution("Int", low=0, high=2), "expected at least 1 epoch"),
        ("trainer.devices: " + distribution("Int", low=1, high=2), "not be comparable"),
        ("lightgbm.num_leafs: " + distribution("Int", low=2, high=4), "num_leafs"),
        (
            "{model.net.width: "
            + distribution("Int", low=8, high=9)
            + ", lightgbm.x: "
            + distribution("Int", low=2, high=4)
            + "}",
            "got both",
        ),
        ("", "mapping"),
        ("model: [", "expected a mapping"),
    ],
)
def test_a_bad_space_is_one_line_before_anything_runs(line, told, tune, tmp_path, capsys):
    space = tmp_path / "bad.yaml"
    space.write_text(line)
    assert tune("--trials", "2", space=space) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1, error
    assert error[0].startswith("error: ")
    assert str(space) in error[0]
    assert told in error[0]
    assert not (tmp_path / "tune").exists()


def test_what_is_tried_before_a_search_lies_within_the_space():
    for low, high, step in ((0.9, 0.9, 0.1), (0.5, 0.9, 0.1), (0.5, 0.9, None), (0.5, 0.5, None)):
        tried = space_module.edges(distributions.FloatDistribution(low, high, step=step))
        assert all(low <= value <= high for value in tried)
    assert set(space_module.edges(distributions.IntDistribution(8, 8))) == {8}


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--space", "no/such.yaml"], "no/such.yaml"),
        (["--trials", "0"], "trials"),
        (["--objective", "test/mse"], "expected one or two of val/mse, "),
        (["--objective", "val/mse,val/mae,seconds"], "expected one or two of"),
        (["--objective", "val/made_up"], "got val/made_up"),
        (["--objective", "val/mse,seconds", "--sampler", "cmaes"], "one objective only"),
        (["--objective", "val/mse,seconds", "--pruner", "median"], "one metric"),
        (["--objective", "seconds", "--pruner", "median"], "compares epochs"),
        (["--pruner", "wilcoxon", "--folds", "3"], "--folds 5 or more"),
        (["--pruner", "hyperband", "--warmup_epochs", "3"], "max_epochs"),
        (["--pruner", "mean"], "mean"),
        (["--trainer.devices", "2", "--trainer.strategy", "ddp"], "one tune process per device"),
        (["--data.validation", "0"], "data.validation"),
        (["--data.folds", "0"], "data.folds"),
        (["--trainer.check_val_every_n_epoch", "50"], "expected an epoch that is validated"),
        (["--trainer.limit_val_batches", "0"], "expected an epoch that is validated"),
        (["--storage", "mysql://localhost/x"], "expected sqlite"),
        (["--storage", "study.json"], "study.json"),
        (["--storage", "sqlite://"], "expected sqlite"),
        (["--storage", "postgresql://me:secret@127.0.0.1:1/x"], "127.0.0.1"),
        (["--study", "a/b"], "--study"),
        (["--timeout", "0"], "timeout"),
        (["--lightgbm.num_leafs", "3", "--space", str(CONFIGS / "search" / "lightgbm.yaml")], "num_leafs"),
    ],
)
def test_bad_flags_are_one_line(more, told, tune, capsys):
    assert tune("--trials", "2", *more) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1, error
    assert told in error[0]
    assert "secret" not in error[0]


@pytest.mark.parametrize(
    ("package", "more", "extra"),
    [
        ("cmaes", ["--sampler", "cmaes"], "[tune]"),
        ("psycopg", ["--storage", "postgresql://me:secret@127.0.0.1:1/x"], "[tune]"),
        ("lightgbm", ["--space", str(CONFIGS / "search" / "lightgbm.yaml")], "[baselines]"),
    ],
)
def test_a_missing_package_is_one_line_that_says_what_to_install(package, more, extra, tune, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    assert tune("--trials", "2", *more) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert package in error
    assert f"install this project's extra {extra}" in error


@pytest.mark.parametrize("name", ["mamba", "lightgbm"])
def test_the_shipped_spaces_fit_the_shipped_config_and_hold_it(name):
    with cli.quiet():
        path = str(CONFIGS / "search" / f"{name}.yaml")
        search = cli.read_search(["-c", "mamba", "--space", path])
        first = cli.check_space(search)
    assert search.lightgbm == (name == "lightgbm")
    assert first is not None, "the search starts with what is shipped"
    assert set(first) == set(search.space)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("model.net.init_args.width: " + distribution("Int", low=4, high=64), 8),
        ("model.net.width: " + distribution("Int", low=4, high=64, step=3), None),
        ("model.net.width: " + distribution("Categorical", choices=[4, 16]), None),
        ("model.net.dropout: " + distribution("Float", low=0.3, high=0.5), None),
        ("data.encoder.titles: " + distribution("Categorical", choices=["false", "true"]).replace("'", ""), True),
    ],
)
def test_the_config_as_it_stands_is_tried_first_if_it_lies_in_the_space(line, found, tmp_path, song_file):
    space = tmp_path / "space.yaml"
    space.write_text(line)
    with cli.quiet():
        first = cli.check_space(cli.read_search(arguments(tmp_path, song_file, space)[1:]))
    assert first == (None if found is None else {line.partition(":")[0]: found})


def test_a_shipped_space_is_found_by_name_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "model.net.width" in space_module.load_space("search/mamba")


def test_spaces_are_optunas_distributions(space_file):
    space = space_module.load_space(space_file)
    assert space["model.learning_rate"] == distributions.FloatDistribution(5e-4, 0.1, log=True)
    assert space["model.net.width"] == distributions.CategoricalDistribution([4, 8])
