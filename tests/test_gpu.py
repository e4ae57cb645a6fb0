"""The whole path on a CUDA device: what the network computes, and every verb that trains or reads a checkpoint."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from popularity.__main__ import main
from tests.conftest import make_songs, quick_fit

if TYPE_CHECKING:
    from torch import Tensor

    from popularity.training.module import PopularityModule

pytestmark = [
    pytest.mark.gpu,
    # a backward pass in a thread that has no CUDA context yet: PyTorch sets it, and says so
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
]

SMALL = ["--model.net.width", "[16,8]", "--model.net.d_state", "4", "--data.batch_size", "32", "--data.validation", "0"]
SMALL += ["--plots.every_n_epochs", "0", "--trainer.log_every_n_steps", "1", "--trainer.enable_progress_bar", "false"]
GPU = ["--trainer.accelerator", "gpu", "--trainer.devices", "1"]


def fit(folder: Path, source: Path, *more: str, name: str = "small", epochs: int = 2) -> Path:
    """Fit a small model on the GPU; its last checkpoint."""
    arguments = ["--name", name, "--log_dir", str(folder), "--data.source", str(source), *SMALL, *GPU]
    assert main(["fit", *arguments, "--trainer.max_epochs", str(epochs), *more]) == 0
    return folder / name / "version_0" / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, song_file: Path) -> Path:
    return fit(tmp_path_factory.mktemp("runs"), song_file)


def predict(checkpoint: Path, source: Path, output: Path, *where: str) -> pd.DataFrame:
    quiet = ["--trainer.enable_progress_bar", "false"]
    named = ["--ckpt_path", str(checkpoint), "--data.predict_source", str(source), "--output", str(output)]
    assert main(["predict", *named, *quiet, *where]) == 0
    return pd.read_csv(output)


def outputs_and_gradients(module: PopularityModule, batch: dict[str, Tensor]) -> list[Tensor]:
    """Raw outputs of the members, and the gradients of their loss, without anything random."""
    import torch

    module.eval()
    raw = module.net(batch)
    loss = module.head.loss(raw, batch["popularity"])
    wanted = [parameter for parameter in module.net.parameters() if parameter.requires_grad]
    return [raw.detach(), *(g for g in torch.autograd.grad(loss, wanted, allow_unused=True) if g is not None)]


@pytest.mark.parametrize("block", ["mamba2", "mamba", "mamba3"])
def test_the_default_network_is_that_of_float64(block: str, song_file: Path) -> None:
    """Both token members, the interactions and the MLP, forward and backward."""
    import torch

    from popularity.data.songs import load_songs
    from popularity.data.splits import make_split

    songs = load_songs(str(song_file)).songs
    split = make_split(songs, "random", folds=5, fold=0, seed=0, validation=0)
    settings: dict[str, Any] = {"model.net.block": block, "model.net": "HistoryMamba"}
    made = quick_fit(songs, split, **settings)
    data = made.datamodule
    encoded = {**data.encoder.encode(songs), "popularity": torch.tensor(songs["popularity"].to_numpy())}
    batch = data.encoder.sample(encoded, torch.Generator().manual_seed(0), training=False, samples=1)
    batch.pop("length", None)
    batch = data.encoder.attach(batch)

    def at(device: str, dtype: torch.dtype) -> list[Tensor]:
        module = copy.deepcopy(made.module).to(device, dtype)
        moved = {k: v.to(device, dtype if v.is_floating_point() else v.dtype) for k, v in batch.items()}
        return [tensor.cpu().double() for tensor in outputs_and_gradients(module, moved)]

    got, exact = at("cuda", torch.float32), at("cpu", torch.float64)
    assert len(got) == len(exact) > 50
    errors = [float((a - b).norm() / b.norm().clamp(min=1e-6)) for a, b in zip(got, exact, strict=True)]
    assert max(errors) < 1e-3, errors
    assert errors[0] < 1e-5


def test_predictions_are_those_of_the_cpu(checkpoint: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    make_songs(300, seed=3).to_csv(new, index=False)
    on_gpu = predict(checkpoint, new, tmp_path / "gpu.csv", *GPU)
    on_cpu = predict(checkpoint, new, tmp_path / "cpu.csv", "--trainer.accelerator", "cpu")
    assert len(on_gpu) == 300
    numbers = on_gpu.select_dtypes("number").columns
    assert "predicted_popularity" in numbers
    np.testing.assert_allclose(on_gpu[numbers], on_cpu[numbers], atol=0.011)  # two digits are written


def test_a_fit_goes_on(song_file: Path, tmp_path: Path) -> None:
    """The lost epoch is trained again with the same random numbers; sums on a GPU may differ in their last bits."""
    import torch

    last = fit(tmp_path, song_file, epochs=3)
    wanted = torch.load(last, weights_only=True)["current_model_state"]
    last.unlink()  # the one before is used
    fit(tmp_path, song_file, "--ckpt_path", "last", epochs=3)
    found = torch.load(last, weights_only=True)["current_model_state"]
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "bf16-true"])
def test_precisions(precision: str, song_file: Path, tmp_path: Path) -> None:
    saved = fit(tmp_path, song_file, "--trainer.precision", precision, epochs=1)
    found = predict(saved, song_file, tmp_path / "out.csv", *GPU)
    assert found["predicted_popularity"].between(0, 100).all()


@pytest.mark.parametrize("verb", ["test", "report", "what_if", "export"])
def test_what_reads_a_checkpoint(verb: str, checkpoint: Path, song_file: Path, tmp_path: Path) -> None:
    """A checkpoint that a GPU wrote is read by every verb."""
    more = {
        "test": GPU,
        "report": ["--output", str(tmp_path / "card.html"), "--data.source", str(song_file)],
        "what_if": ["--song", "danceability=.8,energy=.7", "--vary", "energy", "--output", str(tmp_path / "w")],
        "export": ["--format", "pt2", "--output", str(tmp_path / "model.pt2")],
    }[verb]
    assert main([verb, "--ckpt_path", str(checkpoint), *more]) == 0


def test_the_regressor() -> None:
    from popularity import PopularityRegressor

    songs = make_songs(120)
    settings = {"model.net.width": 8, "model.net.d_state": 4, "trainer.max_epochs": 1, "trainer.accelerator": "gpu"}
    fitted = PopularityRegressor(settings=settings).fit(songs)
    assert ((fitted.predict(songs) >= 0) & (fitted.predict(songs) <= 100)).all()
    assert len(fitted.explain(songs[:3])) == 3


def test_a_comparison(song_file: Path, tmp_path: Path) -> None:
    config = tmp_path / "compare.yaml"
    layer = tmp_path / "small.yaml"
    layer.write_text("model: {net: {init_args: {width: 8, d_state: 4}}}\ntrainer: {max_epochs: 1, accelerator: gpu}\n")
    config.write_text(
        f"folds: 3\nrepeats: 1\nmodels:\n  linear: {{baseline: linear}}\n  mamba: {{configs: [mamba, {layer}]}}\n"
    )
    where = ["-c", str(config), "--data.source", str(song_file), "--output", str(tmp_path / "out"), "--workers", "2"]
    assert main(["compare", *where, "--hits.run", "false"]) == 0
    assert set(pd.read_csv(tmp_path / "out" / "folds.csv")["model"]) == {"linear", "mamba"}
