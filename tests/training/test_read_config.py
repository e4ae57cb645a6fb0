"""Configs: defaults are those of `configs/mamba.yaml`, files are layered, and what is wrong is one line."""

from __future__ import annotations

from typing import Any

import pytest

from popularity import parsing
from tests.conftest import Lazy

fits = Lazy("popularity.training.fit")

#: Configs of other verbs.
OTHERS = ("compare", "search/")
LAYERS = ("ablations/", "data/", "debug/")


def settings(*files: str, **more: Any) -> dict[str, Any]:
    config: dict[str, Any] = fits.read_config(files, more).as_dict()
    return {name: value for name, value in config.items() if name != "config"}


def test_a_bare_fit_is_the_shipped_config() -> None:
    assert settings() == settings("mamba")
    assert settings() != settings("audio"), "the comparison can fail"


def test_one_parser_reads_many_configs_and_keeps_nothing_of_them() -> None:
    own = {"model.net.width": 48, "data.encoder.history": 3, "trainer.max_epochs": 2}
    before = settings("mamba"), settings("audio")
    assert settings("mamba", **own) != before[0]
    assert (settings("mamba"), settings("audio")) == before
    assert fits.shared_parser() is fits.shared_parser()


@pytest.mark.parametrize("name", [name for name in parsing.shipped_configs() if not name.startswith(OTHERS)])
def test_every_shipped_config_is_read(name: str) -> None:
    from popularity.errors import InputError

    files = ["mamba", name] if name.startswith(LAYERS) else [name]
    try:
        assert fits.read_config(files).model.net
    except InputError as error:
        pytest.fail(str(error))


def test_files_are_layered_and_settings_come_last(tmp_path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("model: {net: {init_args: {width: 16, d_state: 8}}}\ndata: {fold: 1}\n")
    config = fits.read_config(["mamba", "ablations/light", path], {"model.net.width": 8, "data.split": "artist"})
    net = config.model.net.init_args
    assert (net.members, net.width, net.d_state, net.layers) == (1, 8, 8, 1)
    assert (config.data.fold, config.data.split) == (1, "artist")
    assert config.data.samples == 1, "as many samples as members"


@pytest.mark.parametrize(
    ("files", "more", "message"),
    [
        (["nothing"], {}, "--config nothing: expected a YAML file or one of the shipped configs"),
        ([], {"model.net.widht": 8}, "model.net.width"),
        ([], {"data.fold": "first"}, "--data.fold: expected a whole number, got 'first'"),
        ([], {"data.split": "genre"}, "--data.split: expected"),
    ],
)
def test_what_is_wrong_is_one_line(files, more, message) -> None:
    from popularity.errors import InputError

    with pytest.raises(InputError) as caught:
        fits.read_config(files, more)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("way", ["settings", "file"])
def test_a_chosen_class_has_its_own_defaults(way, tmp_path):
    """Not the width of the default network, nor the history of the default encoder."""
    import inspect

    from popularity.models.feature_tokens import FeatureTokensMamba

    chosen = {"model.net": "FeatureTokensMamba", "data.encoder": "FeatureEncoder"}
    path = tmp_path / "net.yaml"
    path.write_text("model: {net: {class_path: FeatureTokensMamba}}\ndata: {encoder: FeatureEncoder}\n")
    config = fits.read_config([path]) if way == "file" else fits.read_config([], chosen)
    found = config.model.net.init_args.as_dict()
    defaults = inspect.signature(FeatureTokensMamba).parameters
    assert found == {name: defaults[name].default for name in found}
    assert config.data.encoder.init_args.as_dict() == {"bins": 8, "audio_only": False}


def test_a_callback_with_defaults_that_are_no_plain_values_is_written_and_read_again(tmp_path) -> None:
    """That of Lightning's Timer is a member of an enumeration."""
    timer = {"class_path": "lightning.pytorch.callbacks.Timer", "init_args": {"duration": "00:01:00:00"}}
    config = fits.read_config(settings={"trainer.callbacks": [timer]})
    text = fits.fit_parser().dump(config)
    assert "interval: step" in text
    (tmp_path / "config.yaml").write_text(text)
    assert settings(str(tmp_path / "config.yaml"))["trainer"]["callbacks"][0]["init_args"]["interval"] == "step"
