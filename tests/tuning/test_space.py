from __future__ import annotations

from pathlib import Path

import pytest

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture(scope="module", autouse=True)
def _imports() -> None:
    """What is slow to import: with the first of these tests, not while tests are collected."""
    global CategoricalDistribution, FloatDistribution, IntDistribution, read_search, contains, load_space, quiet
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    from popularity.tuning.cli import read_search
    from popularity.tuning.space import contains, load_space
    from popularity.tuning.worker import quiet


def distribution(kind: str, **init_args) -> str:
    return f"{{class_path: {kind}Distribution, init_args: {init_args}}}"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("model.widht: " + distribution("Int", low=8, high=16), "model.widht"),
        ("modle.width: " + distribution("Int", low=8, high=16), "modle.width"),
        ("model.width: " + distribution("Float", low=8, high=16), "Expected"),
        ("model.width: " + distribution("Int", low=0, high=16), "model.width must be at least 1, got 0"),
        ("model.width: " + distribution("Int", low=16, high=8), "low <= high"),
        ("model.dropout: " + distribution("Float", low=0.1, high=1.5), "below 1, got 1.5"),
        ("model.learning_rate: " + distribution("Float", low=0.0, high=1.0, log=True).replace("True", "true"), "low"),
        ("model.width: " + distribution("Int", lo=8, high=16), "'lo'"),
        ("model.width: " + distribution("Integer", low=8, high=16), "Integer"),
        ("model.width: [8, 16]", "class_path"),
        ("model.head: " + distribution("Categorical", choices=["histogram", "gaussian"]), "gaussian"),
        ("model.bidirectional: " + distribution("Categorical", choices=["sometimes"]), "sometimes"),
        ("data.fold: " + distribution("Int", low=0, high=4), "not be comparable"),
        ("trainer.devices: " + distribution("Int", low=1, high=2), "not be comparable"),
        ("lightgbm.num_leafs: " + distribution("Int", low=2, high=4), "num_leafs"),
        (
            "{model.width: "
            + distribution("Int", low=8, high=9)
            + ", lightgbm.x: "
            + distribution("Int", low=2, high=4)
            + "}",
            "expected one",
        ),
        ("", "mapping"),
        ("model: [", "not YAML"),
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


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--space", "no/such.yaml"], "no/such.yaml"),
        (["--trials", "0"], "trials"),
        (["--objective", "test/mse"], "expected a val/ or train/ metric"),
        (["--objective", "val/mse,val/mae,seconds"], "two different ones"),
        (["--objective", "val/mse,seconds", "--pruner", "median"], "Pareto front"),
        (["--objective", "val/mse,seconds", "--sampler", "cmaes"], "one objective only"),
        (["--objective", "seconds", "--pruner", "median"], "end of a trial"),
        (["--pruner", "wilcoxon", "--folds", "3"], "--folds 5 or more"),
        (["--pruner", "hyperband", "--warmup_epochs", "3"], "max_epochs"),
        (["--pruner", "mean"], "mean"),
        (["--trainer.devices", "2", "--trainer.strategy", "ddp"], "one tune process per device"),
        (["--data.validation", "0"], "data.validation"),
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


@pytest.mark.parametrize("name", ["mamba", "lightgbm"])
def test_the_shipped_spaces_fit_the_shipped_config_and_hold_it(name):
    with quiet():
        path = str(CONFIGS / "search" / f"{name}.yaml")
        search, first = read_search(["-c", str(CONFIGS / "mamba.yaml"), "--space", path])
    assert search.lightgbm == (name == "lightgbm")
    assert first is not None, "the search starts with what is shipped"
    assert set(first) == set(search.space)


def test_the_config_as_it_stands_lies_in_the_space_or_does_not():
    space = {
        "a": FloatDistribution(0.0, 1.0, step=0.25),
        "b": IntDistribution(1, 9, step=2),
        "c": CategoricalDistribution([1, None, "x"]),
    }
    assert contains(space, {"a": 0.5, "b": 3, "c": None})
    assert contains(space, {"a": 1, "b": 9, "c": "x"})
    wrong = [{"a": 0.3}, {"a": 1.5}, {"a": None}, {"b": 2}, {"b": 11}, {"c": "y"}]
    for one in wrong:
        assert not contains(space, {"a": 0.5, "b": 3, "c": None} | one), one


def test_spaces_are_optunas_distributions(space_file):
    space = load_space(space_file)
    assert space["model.learning_rate"] == FloatDistribution(5e-4, 0.1, log=True)
    assert space["model.width"] == CategoricalDistribution([4, 8])
