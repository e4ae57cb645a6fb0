"""Networks of this project as entries of a comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml


@pytest.mark.parametrize(("config", "what"), [("mamba", "everything"), ("audio", "audio"), ("single_token", "audio")])
def test_a_network_learns_from_the_task_alone(config: str, what: str, tmp_path: Path, monkeypatch) -> None:
    """Whatever songs its config names: they are not looked for, let alone downloaded."""
    from popularity.evaluation.entries import build, reads
    from popularity.evaluation.folds import draw_fold
    from tests.features.test_tabular import made_up

    def refuse(*given, **options):
        raise AssertionError("looked for the songs of the config")

    monkeypatch.setattr("popularity.training.datamodule.load_songs", refuse)
    monkeypatch.setattr("popularity.training.datamodule.locate", refuse)
    quick = tmp_path / "quick.yaml"
    quick.write_text(yaml.safe_dump({"data": {"source": "nowhere.csv"}, "trainer": {"max_epochs": 1}}))
    settings = {"configs": [f"configs/{config}.yaml", str(quick)]}
    task = draw_fold(made_up(120), "random", folds=4, repeat=0, fold=0, seed=0).task
    outcome = build("network", "network", settings).fit_predict(task)
    assert outcome.prediction.shape == (30,)
    assert np.isfinite(outcome.prediction).all()
    assert outcome.notes["epochs"] == 1
    assert reads("network", settings) == what
