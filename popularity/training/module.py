"""The LightningModule: network, encoder, loss, optimiser and metrics in one checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import pandas as pd
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, PearsonCorrCoef, R2Score, SpearmanCorrCoef

from popularity.data.splits import SplitKind, inner_folds
from popularity.errors import InputError
from popularity.features.encoder import HistoryEncoder
from popularity.features.song import CODES, NUMERIC, ColumnEncoder, FeatureEncoder
from popularity.features.title_stats import TITLE_STATISTICS
from popularity.models.feature_tokens import FeatureTokensNet, SingleTokenMamba
from popularity.models.heads import HistogramHead, MSEHead
from popularity.models.history import BlockName, HistoryNet, Plan
from popularity.models.members import member_plans
from popularity.training.batches import TensorBatches
from popularity.training.checks import check_same_data, check_settings
from popularity.training.datamodule import PopularityDataModule, encoded
from popularity.training.optim import decay_groups, rate_factor

Architecture = Literal["history", "feature_tokens", "single_token"]


def regression_metrics(prefix: str, *, sync: bool = True) -> MetricCollection:
    """MSE, RMSE, MAE (popularity points), R2, Spearman and Pearson correlation, named ``prefix/mse`` and so on.

    Args:
        prefix: stage.
        sync: over all processes, if there are several.
    """
    with warnings.catch_warnings():
        # ranks need all values at once; songs are few numbers each
        warnings.filterwarnings("ignore", message="Metric `SpearmanCorrcoef` will save all targets")
        metrics: dict[str, Metric] = {
            "mse": MeanSquaredError(sync_on_compute=sync),
            "rmse": MeanSquaredError(squared=False, sync_on_compute=sync),
            "mae": MeanAbsoluteError(sync_on_compute=sync),
            "r2": R2Score(sync_on_compute=sync),
            "spearman": SpearmanCorrCoef(sync_on_compute=sync),
            "pearson": PearsonCorrCoef(sync_on_compute=sync),
        }
    return MetricCollection(metrics, prefix=f"{prefix}/")  # type: ignore[arg-type]


class PopularityModule(LightningModule):
    """Predicts popularity with Mamba; every hyper-parameter is a plain number, text or flag.

    Args:
        architecture: ``history``: the known songs of the artist, then the song; ``feature_tokens``: a token per song
            feature; ``single_token``: the original project's network.
        head: ``histogram``: a distribution over popularity; ``mse``: one number.
        block: what mixes the tokens of ``history``: ``mamba`` (S6), ``mamba2`` (SSD), or ``none``.
        members: networks that are trained side by side, each on histories of its own; their mean is the model. Beyond
            the first they differ in what they are made of (``popularity.models.members``). Not of ``single_token``.
        width: width of the tokens.
        layers: number of residual Mamba blocks.
        d_state: state size of the selective scan.
        d_conv: taps of the causal convolution.
        expand: inner width of a block over its width.
        bidirectional: read the tokens in both directions.
        dropout: after each block and before the head.
        feature_dropout: share of input features that training hides, as if they were missing.
        history: most known songs that are read for one song; 0 for none.
        retrieved: most similar known songs by others that are read as well.
        hide_history: least probability that training hides all songs of the same artist. Where the split leaves more
            held-out songs without any, it is raised to match, up to always under ``artist``.
        thin_history: training drops each song of a history with a probability drawn from 0 to this.
        drawn_histories: histories drawn for each song and member in evaluation; their predictions are averaged.
        titles: read titles and artists' names by their letters and words (names still tell whose songs are known).
        text_scores: also read what a ridge regression on titles and names says, made out of fold in training.
        audio_only: read nothing but the 13 audio columns of the song itself.
        one_token: add all tokens up to one, so that there is nothing to scan: for comparison.
        quantile_bins: bins of the piecewise-linear encoding of a numeric feature.
        histogram_bins: bins of the histogram head, over -10 to 110 points.
        histogram_sigma: smoothing of the histogram's target in popularity points.
        optimizer: ``adamw`` or ``adam``.
        learning_rate: its peak.
        weight_decay: on matrices alone: no decay on norms, biases, embeddings of one row, ``A_log`` and ``D``.
        schedule: ``cosine``: to 0 over the whole run; ``constant``.
        warmup_steps: steps of linear warm-up.
        compile_network: compile the network in place with ``torch.compile``.
    """

    def __init__(
        self,
        architecture: Architecture = "history",
        head: Literal["histogram", "mse"] = "histogram",
        block: BlockName = "mamba2",
        members: int = 1,
        width: int = 32,
        layers: int = 2,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        bidirectional: bool = True,
        dropout: float = 0.2,
        feature_dropout: float = 0.1,
        history: int = 14,
        retrieved: int = 0,
        hide_history: float = 0.15,
        thin_history: float = 0.6,
        drawn_histories: int = 4,
        titles: bool = True,
        text_scores: bool = False,
        audio_only: bool = False,
        one_token: bool = False,
        quantile_bins: int = 8,
        histogram_bins: int = 60,
        histogram_sigma: float = 3.0,
        optimizer: Literal["adamw", "adam"] = "adamw",
        learning_rate: float = 2e-3,
        weight_decay: float = 0.1,
        schedule: Literal["cosine", "constant"] = "cosine",
        warmup_steps: int = 60,
        compile_network: bool = False,
    ) -> None:
        super().__init__()
        check_settings(locals())
        # how fast, not what: a checkpoint of a compiled run must not make every prediction compile
        self.save_hyperparameters(ignore=["compile_network"])
        self.encoder: HistoryEncoder | FeatureEncoder | ColumnEncoder
        self.net: HistoryNet | FeatureTokensNet | SingleTokenMamba
        outputs = HistogramHead(histogram_bins, histogram_sigma) if head == "histogram" else MSEHead()
        first = Plan(block, width, layers, d_state, d_conv, expand, bidirectional, text_scores)
        plans = member_plans(first, members)
        if architecture == "single_token":
            if head != "mse":
                raise InputError("model.architecture single_token is the original network: it needs model.head mse")
            if members > 1:
                raise InputError(
                    f"model.architecture single_token is one network: it needs model.members 1, got {members}"
                )
            self.encoder = ColumnEncoder()
            self.net = SingleTokenMamba(MSEHead(), d_state=d_state, d_conv=d_conv, expand=expand)
        elif architecture == "history":
            self.encoder = HistoryEncoder(
                quantile_bins,
                titles=titles,
                scores=text_scores,
                audio_only=audio_only,
                length=history,
                retrieved=retrieved,
                hide=hide_history,
                thin=thin_history,
                draws=members,
                repeats=drawn_histories,
            )
            self.net = HistoryNet(
                plans,
                head=outputs,
                codes=CODES,
                dropout=dropout,
                input_dropout=feature_dropout,
                one_token=one_token,
                **self.encoder.sizes,
            )
        else:
            self.encoder = FeatureEncoder(quantile_bins, audio_only=audio_only)
            self.net = FeatureTokensNet(
                plans,
                head=outputs,
                numeric=len(NUMERIC),
                bins=quantile_bins,
                codes=CODES,
                title=len(TITLE_STATISTICS) + 1,
                dropout=dropout,
                feature_dropout=feature_dropout,
            )
        if compile_network:
            self.net.compile()
        self.fitted_on: dict[str, Any] = {}
        # predictions and truth of the epoch so far: torchmetrics costs a millisecond per call, so it is called once
        self._seen: dict[str, list[tuple[Tensor, Tensor]]] = {"train": [], "val": [], "test": []}
        self.train_metrics = MetricCollection({"mse": MeanSquaredError(), "r2": R2Score()}, prefix="train/")
        self.val_metrics = regression_metrics("val")
        self.test_metrics = regression_metrics("test")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; the one that Lightning sets twice for each hook, without torch's search for tensors."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str) -> None:
        """Fit the encoder to the training songs, once."""
        if stage != "fit" or self.fitted_on:
            return
        datamodule: PopularityDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        songs = datamodule.songs("train")
        if isinstance(self.encoder, HistoryEncoder) and isinstance(self.net, HistoryNet):
            split: SplitKind = datamodule.hparams["split"]
            self.encoder.fit(songs, inner_folds(songs, split), earlier=split == "time")
            self.net.memory.fill(self.encoder.known)
        elif not isinstance(self.encoder, HistoryEncoder):
            self.encoder.fit(songs)
        if isinstance(self.encoder, FeatureEncoder) and isinstance(self.net, FeatureTokensNet):
            self.net.take_over(torch.from_numpy(self.encoder.edges), torch.from_numpy(self.encoder.present))
        self.fitted_on = datamodule.fingerprint()

    def get_extra_state(self) -> dict[str, Any]:
        """What makes a checkpoint complete beside its tensors: the encoder and the data it was fitted on."""
        return {"encoder": self.encoder.state(), "fitted_on": self.fitted_on}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over the encoder of a checkpoint."""
        self.encoder.load_state(state["encoder"])
        if isinstance(self.encoder, HistoryEncoder) and isinstance(self.net, HistoryNet) and self.encoder.known:
            self.net.memory.fill(self.encoder.known)
        self.fitted_on = dict(state["fitted_on"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on with a fit on other data than it began with."""
        if self._trainer is not None and self.trainer.state.fn == "fit":
            check_same_data(checkpoint, self.fitted_on)

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs of the head for encoded songs."""
        return self.net(batch)

    def on_train_epoch_start(self) -> None:
        """Bring the metrics back to single precision where ``--trainer.precision bf16-true`` converted them too.

        A sum of squared errors over the songs does not fit into half precision: it would stop growing, or overflow.
        """
        if self.dtype in (torch.bfloat16, torch.float16):
            for metrics in (self.train_metrics, self.val_metrics, self.test_metrics):
                metrics.set_dtype(torch.float32)

    on_validation_epoch_start = on_test_epoch_start = on_train_epoch_start

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch."""
        raw = self(batch)
        loss = self.net.head.loss(raw, batch["popularity"])
        if (self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.log("train/loss", loss, batch_size=len(raw))  # costs a millisecond: when it is written, not each time
        seen = raw.detach() if raw.ndim == 2 else self.net.head.mix(raw.detach())
        self._seen["train"].append((self.net.head.predict(seen), batch["popularity"]))
        return loss * batch["share"] if "share" in batch else loss

    def _log_epoch(self, stage: str, metrics: MetricCollection) -> None:
        seen, self._seen[stage] = self._seen[stage], []
        if seen:  # one of several processes may have had no song
            prediction, popularity = (torch.cat(parts) for parts in zip(*seen, strict=True))
            metrics.update(prediction, popularity.to(prediction.dtype))
        self.log_dict(metrics)

    def on_train_epoch_end(self) -> None:
        """Log the training metrics of the epoch, dropout included."""
        self._log_epoch("train", self.train_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation songs."""
        self._log_epoch("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test songs."""
        self._log_epoch("test", self.test_metrics)

    def _evaluate(self, batch: dict[str, Tensor], stage: str) -> dict[str, Tensor]:
        raw = self(batch)
        prediction = self.net.head.predict(raw)
        self._seen[stage].append((prediction, batch["popularity"]))
        return {"raw": raw, "prediction": prediction, "popularity": batch["popularity"]}

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Predictions of one batch, which the figures use."""
        return self._evaluate(batch, "val")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Predictions of one batch."""
        return self._evaluate(batch, "test")

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Predicted popularity ``(B,)`` in points."""
        return self.net.head.predict(self(batch))

    @torch.no_grad()
    def raw_of(self, songs: pd.DataFrame, batch_size: int = 512) -> Tensor:
        """Raw outputs ``(n, outputs)`` of the head for songs of a song table, in evaluation, without a Trainer."""
        training = self.net.training
        self.net.eval()
        tensors, prepare = encoded(self.encoder, songs)
        rows = TensorBatches(tensors, batch_size, prepare=prepare)
        raw, like = [], next(self.net.parameters())  # a fit in half precision or double leaves the network in it
        for batch in rows:
            wanted = {name: like.dtype if value.is_floating_point() else value.dtype for name, value in batch.items()}
            raw.append(self({name: value.to(like.device, wanted[name]) for name, value in batch.items()}))
        self.net.train(training)
        return torch.cat(raw)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the members' gradients apart: they are networks of their own, and one must not slow down the others."""
        if isinstance(self.net, SingleTokenMamba) or not gradient_clip_val or gradient_clip_algorithm == "value":
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        for member in self.net.members:
            torch.nn.utils.clip_grad_norm_(member.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimiser with warm-up and, if asked for, cosine decay to 0 over the whole run."""
        h = self.hparams
        decayed, kept = decay_groups(self.net)
        groups = [{"params": decayed, "weight_decay": h["weight_decay"]}, {"params": kept, "weight_decay": 0.0}]
        kind = torch.optim.AdamW if h["optimizer"] == "adamw" else torch.optim.Adam
        # a fused step unscales the gradients of mixed precision itself, and Lightning then refuses to clip them
        fused = "mixed" not in str(self.trainer.precision)
        optimizer = kind(groups, lr=h["learning_rate"], fused=fused)
        factor = partial(
            rate_factor,
            warmup=h["warmup_steps"],
            total=self.trainer.estimated_stepping_batches,
            cosine=h["schedule"] == "cosine",
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
