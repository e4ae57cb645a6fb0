"""What TensorBoard shows first."""

from __future__ import annotations


def test_validation_curves_are_the_first_cards(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from popularity.training.tensorboard import CurvesLogger

    logger = CurvesLogger(str(tmp_path), "curves", None)
    logger.log_metrics({"epoch": 0, "lr-AdamW/pg1": 0.1, "train/loss": 2.0, "test/mse": 4.0, "val/mse": 3.0}, step=1)
    logger.finalize("success")
    shown = EventAccumulator(logger.log_dir).Reload().Tags()["scalars"]
    assert sorted(shown) == ["1 validation/mse", "2 training/learning rate/pg1", "2 training/loss", "3 test/mse"]


def test_a_fit_logs_its_curves_there():
    from popularity.training.fit import build_fit, read_config
    from popularity.training.tensorboard import CurvesLogger

    assert any(isinstance(logger, CurvesLogger) for logger in build_fit(read_config()).trainer.loggers)
