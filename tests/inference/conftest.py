"""Songs and encoders for tests of prediction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from tests.conftest import make_songs

if TYPE_CHECKING:
    from popularity.features.encoder import HistoryEncoder


@pytest.fixture(scope="session")
def song_table() -> pd.DataFrame:
    """The canonical table of 80 made-up songs."""
    from popularity.data.raw import RawTable
    from popularity.data.songs import songs_of

    return songs_of(RawTable(Path("songs"), make_songs(80), "made up")).songs


@pytest.fixture(scope="session")
def encoder(song_table) -> HistoryEncoder:
    """Fitted on the first 60 of them."""
    from popularity.features.encoder import HistoryEncoder

    made = HistoryEncoder(history=3)
    made.fit(song_table[:60])
    return made
