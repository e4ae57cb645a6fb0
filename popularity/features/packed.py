"""Texts and song tables as tensors: a checkpoint holds no pickles, and should not be larger than it must."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from popularity.data.schema import CANONICAL, TEXT
from popularity.features.checked import checked

_DATE = "release_date"


def packed(value: Any) -> Tensor:
    """Texts, lists and mappings of them, as compressed JSON: ``(bytes,)`` uint8."""
    return torch.frombuffer(bytearray(zlib.compress(json.dumps(value).encode())), dtype=torch.uint8)


def unpacked(value: Tensor) -> Any:
    """What :func:`packed` was given.

    Raises:
        ValueError: another value.
    """
    try:
        return json.loads(zlib.decompress(value.cpu().numpy().tobytes()))
    except zlib.error as error:
        raise ValueError(f"packed texts are damaged: {error}") from error


def packed_table(songs: pd.DataFrame) -> dict[str, Tensor]:
    """A canonical song table of ``n`` songs: its texts packed, its dates and numbers ``(n, columns)``."""
    numbers = [name for name in CANONICAL if name not in (*TEXT, _DATE)]
    texts = {name: [None if cell is pd.NA or cell != cell else cell for cell in songs[name]] for name in TEXT}
    return {
        "texts": packed(texts),
        "dates": torch.from_numpy(songs[_DATE].to_numpy("datetime64[us]").astype(np.int64)),
        "numbers": torch.from_numpy(songs[numbers].to_numpy(np.float64, copy=True)),
    }


def unpacked_table(state: Mapping[str, Tensor]) -> pd.DataFrame:
    """The table that :func:`packed_table` was given, with a new index."""
    numbers = [name for name in CANONICAL if name not in (*TEXT, _DATE)]
    table = pd.DataFrame(checked("numbers", state["numbers"], gaps=True).numpy().copy(), columns=numbers)
    table = table.assign(**{name: pd.Series(cells, dtype="str") for name, cells in unpacked(state["texts"]).items()})
    dates = state["dates"].cpu().numpy().astype("datetime64[us]")
    return table.assign(**{_DATE: pd.Series(dates, dtype="datetime64[us]")})[list(CANONICAL)]
