"""The LightningModule: a network and a head, their loss, metrics and optimiser."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.regression import MeanAbsoluteError, MeanSquaredError, PearsonCorrCoef, R2Score, SpearmanCorrCoef

from popularity.errors import InputError
from popularity.features.base import Inputs
from popularity.models.calibration import Calibration
from popularity.models.feature_tokens import FeatureTokensMamba
from popularity.models.heads import Head, HistogramHead
from popularity.models.history import HistoryMamba
from popularity.models.network import NetworkFactory
from popularity.models.single_token import SingleTokenMamba
from popularity.training.optim import AdamW, clip_together, decay_groups, rate_factor

__all__ = ["FeatureTokensMamba", "HistoryMamba", "PopularityModule", "SingleTokenMamba", "regression_metrics"]

_TOGETHER = 16  # batches of training that are predicted together

#: Names of the metrics of :func:`regression_metrics`.
METRICS = ("mse", "rmse", "mae", "r2", "spearman", "pearson")


def regression_metrics(prefix: str, *, sync: bool = True) -> MetricCollection:
    """MSE, RMSE, MAE (popularity points), R2, Spearman and Pearson correlation, named ``prefix/mse`` and so on.

    Args:
        prefix: stage.
        sync: over all processes, if there are several.
    """
    with warnings.catch_warnings():
        # ranks need all values at once, which are few numbers per song
        warnings.filterwarnings("ignore", message="Metric `SpearmanCorrcoef` will save all targets")
        metrics: list[Metric] = [
            MeanSquaredError(sync_on_compute=sync),
            MeanSquaredError(squared=False, sync_on_compute=sync),
            MeanAbsoluteError(sync_on_compute=sync),
            R2Score(sync_on_compute=sync),
            SpearmanCorrCoef(sync_on_compute=sync),
            PearsonCorrCoef(sync_on_compute=sync),
        ]
    return MetricCollection(dict(zip(METRICS, metrics, strict=True)), prefix=f"{prefix}/")


class PopularityModule(LightningModule):
    """Predicts popularity with a network over encoded songs.

    Args:
        net: the network: ``HistoryMamba``, ``FeatureTokensMamba``, ``SingleTokenMamba``, or an own class (see
            `popularity.models.network`).
        head: what is predicted: ``HistogramHead``, a distribution over popularity, or ``MSEHead``, one number.
        inputs: sizes of the tensors in a batch, from the encoder of the data.
        learning_rate: peak of the learning rate; by default `fit` chooses it by the number of training songs.
        weight_decay: on matrices only: not on norms, biases, ``A_log`` and ``D``; by default chosen likewise.
        schedule: ``cosine``: to 0 over the whole run; ``constant``.
        warmup_steps: steps of linear warm-up.
        compile_network: compile the network in place with ``torch.compile``.

    Raises:
        InputError: a setting is out of range.
    """

    def __init__(
        self,
        net: NetworkFactory = HistoryMamba,
        head: Callable[[], Head] = HistogramHead,
        inputs: Inputs = Inputs(),  # noqa: B008 - frozen
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        schedule: Literal["cosine", "constant"] = "cosine",
        warmup_steps: int = 30,
        compile_network: bool = False,
    ) -> None:
        super().__init__()
        learning_rate = 2.8e-3 if learning_rate is None else learning_rate
        weight_decay = 0.3 if weight_decay is None else weight_decay
        for name, value in (("weight_decay", weight_decay), ("warmup_steps", warmup_steps)):
            if value < 0:
                raise InputError(f"model.{name}: expected at least 0, got {value}")
        if not learning_rate > 0:
            raise InputError(f"model.learning_rate: expected a number above 0, got {learning_rate}")
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.schedule, self.warmup_steps = schedule, warmup_steps
        self.head = head()
        self.net = net(inputs, self.head.outputs)
        if compile_network:
            self.net.compile()
        self.calibration = Calibration(trees=bool(inputs.trees))
        self.train_metrics = MetricCollection({"mse": MeanSquaredError(), "r2": R2Score()}, prefix="train/")
        self.val_metrics = regression_metrics("val")
        self.test_metrics = regression_metrics("test")
        self._seen: list[tuple[Tensor, Tensor]] = []  # raw outputs in training and true, of the last batches
        self._predicted: list[tuple[Tensor, Tensor]] = []  # predicted and true, of the other batches of an epoch
        self._clipped: list[list[Tensor]] = []  # parameters whose gradients are clipped together

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Raw outputs ``(B, outputs)`` of the head, calibrated: the mean over members and sampled histories."""
        raw: Tensor = self.net(batch)
        mean = self.head.mix(raw) if raw.ndim == 3 else raw
        corrected: Tensor = self.calibration(self.head, mean, batch.get("tree"))
        return corrected

    def on_train_start(self) -> None:
        """Find the parameters of each member once: a walk through all modules at each step would show in its time."""
        members = getattr(self.net, "members", None)
        groups = members if isinstance(members, nn.ModuleList) else [self.net]
        self._clipped = [[*group.parameters()] for group in groups]

    def on_train_epoch_start(self) -> None:
        """Bring the metrics back to single precision where ``--trainer.precision bf16-true`` converted them too.

        A sum of squared errors over the songs does not fit into half precision: it would stop growing, or overflow.
        """
        if self.dtype in (torch.bfloat16, torch.float16):
            for metrics in (self.train_metrics, self.val_metrics, self.test_metrics):
                metrics.set_dtype(torch.float32)

    on_validation_epoch_start = on_test_epoch_start = on_train_epoch_start

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch; every member learns alone."""
        raw: Tensor = self.net(batch)
        popularity = batch["popularity"]
        loss = self.head.loss(raw, popularity)
        # a loss that nobody writes down would cost each step a twentieth of its time
        read = bool(self.trainer.loggers) or self.trainer.progress_bar_callback is not None
        every = int(self.trainer.log_every_n_steps)  # type: ignore[attr-defined] # Lightning sets it; 0: never
        if read and (batch_idx == 0 or (every and (self.trainer.global_step + 1) % every == 0)):
            self.log("train/loss", loss, prog_bar=True, batch_size=len(popularity))
        self._seen.append((raw.detach(), popularity))
        if len(self._seen) == _TOGETHER:
            self._predict_seen()
        return loss * batch["share"] if "share" in batch else loss

    @torch.no_grad()
    def _predict_seen(self) -> None:
        """Predict for several batches at once: for each batch alone it would cost a twentieth of a step."""
        outputs, popularity = zip(*self._seen, strict=True)
        raw, truth = torch.cat(outputs, -2), torch.cat(popularity)
        prediction = self.head.predict(self.head.mix(raw) if raw.ndim == 3 else raw)
        self._predicted.append((prediction, truth.to(prediction.dtype)))
        self._seen.clear()

    def on_train_epoch_end(self) -> None:
        """Log the training metrics of the epoch, dropout included."""
        if self._seen:
            self._predict_seen()
        if self._predicted:
            self.train_metrics.update(*(torch.cat(parts) for parts in zip(*self._predicted, strict=True)))
            self._predicted.clear()
        self.log_dict(self.train_metrics)

    def _evaluate(self, batch: dict[str, Tensor], metrics: MetricCollection) -> dict[str, Tensor]:
        raw = self(batch)
        prediction, popularity = self.head.predict(raw), batch["popularity"]
        metrics.update(prediction, popularity.to(prediction.dtype))
        return {"raw": raw, "prediction": prediction, "popularity": popularity}

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Predictions of one batch, which the plots use."""
        return self._evaluate(batch, self.val_metrics)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation songs."""
        self.log_dict(self.val_metrics)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Predictions of one batch."""
        return self._evaluate(batch, self.test_metrics)

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test songs."""
        self.log_dict(self.test_metrics)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Predicted popularity ``(B,)`` in points."""
        return self.head.predict(self(batch))

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient of each member alone: a large gradient in one must not slow down the others."""
        if not gradient_clip_val or gradient_clip_algorithm == "value":
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
            return
        for parameters in self._clipped:
            clip_together(parameters, gradient_clip_val)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with warm-up and, if asked for, cosine decay to 0 over the whole run."""
        decayed, kept = decay_groups(self.net)
        groups = [{"params": decayed, "weight_decay": self.weight_decay}, {"params": kept, "weight_decay": 0.0}]
        # a fused step unscales the gradients of mixed precision itself, and Lightning then refuses to clip them
        fused = "mixed" not in str(self.trainer.precision)
        optimizer = AdamW(groups, lr=self.learning_rate, fused=fused)
        factor = partial(
            rate_factor,
            warmup=self.warmup_steps,
            total=self.trainer.estimated_stepping_batches,
            cosine=self.schedule == "cosine",
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
