"""Predict a song's Spotify popularity with Mamba.

The names below are loaded when they are first used, so that `import popularity` and `popularity --help` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from popularity.data.songs import load_songs
    from popularity.inference.predictor import predict_songs
    from popularity.inference.regressor import PopularityRegressor
    from popularity.training.datamodule import PopularityDataModule
    from popularity.training.fit import build_fit, read_config
    from popularity.training.module import PopularityModule

__version__ = "0.2.0"

__all__ = [
    "PopularityDataModule",
    "PopularityModule",
    "PopularityRegressor",
    "__version__",
    "build_fit",
    "load_songs",
    "predict_songs",
    "read_config",
]

#: public name -> the module that defines it
_HOMES = {
    "PopularityDataModule": "popularity.training.datamodule",
    "PopularityModule": "popularity.training.module",
    "PopularityRegressor": "popularity.inference.regressor",
    "build_fit": "popularity.training.fit",
    "load_songs": "popularity.data.songs",
    "predict_songs": "popularity.inference.predictor",
    "read_config": "popularity.training.fit",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
