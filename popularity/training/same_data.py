"""Whether two fits have the same data, and whether songs to score on were held out of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from popularity.errors import InputError
from popularity.features.base import Encoder
from popularity.features.keys import keys_of, shared

#: Entries of a fingerprint that must agree for two fits to have the same data.
SPLIT_KEYS = ("deduplicate", "split", "folds", "fold", "split_seed", "validation")


def check_same_data(before: Mapping[str, Any], today: Mapping[str, Any]) -> None:
    """Refuse to go on with a fit on other data than it began with.

    Args:
        before: fingerprint in the checkpoint.
        today: fingerprint of today's data.

    Raises:
        InputError: what has changed.
    """
    changed = [key for key, value in before.items() if key != "source" and today.get(key) != value]
    if changed:
        told = ", ".join(f"{key} {str(before[key])[:12]} -> {str(today.get(key))[:12]}" for key in changed[:3])
        raise InputError(f"--ckpt_path: this checkpoint was trained on other data ({told}); start a new run instead")


def seen(encoder: Encoder, songs: pd.DataFrame) -> np.ndarray | None:
    """Which of ``n`` songs an encoder was fitted on, by id, by artist and title, or by sound.

    Returns:
        ``(n,)`` bool; None where the encoder keeps no list of its training songs.
    """
    known = getattr(getattr(encoder, "related", None), "keys", None)
    return None if known is None else shared(keys_of(songs).identity, known.identity)


def check_held_out(fitted: Mapping[str, Any], today: Mapping[str, Any]) -> None:
    """Refuse to score a checkpoint on songs of its own source split in another way: it was trained on some of them.

    Args:
        fitted: fingerprint in the checkpoint.
        today: fingerprint of the data to score on.

    Raises:
        InputError: what differs.
    """
    if today["source"] != fitted["source"] and today["sha256"] != fitted["sha256"]:
        return
    for key in (*SPLIT_KEYS, "sha256"):
        if fitted[key] != today[key]:
            raise InputError(
                f"--ckpt_path: trained with {key} {fitted[key]}, to be scored with {key} {today[key]}: "
                "songs that it was trained on may be among those it would be scored on"
            )
