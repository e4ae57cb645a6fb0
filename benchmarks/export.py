"""Songs a second of an exported ONNX model in ONNX Runtime, on one core: ``python benchmarks/export.py``.

By artists nobody knows, and by artists with some 25 known songs each; a graph reads all samples of every song. Songs
and network are those of ``benchmarks/predict.py``.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
from predict import measured, songs_of, trained

REPEATS = 3


def main() -> None:
    """Train, export and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=None, help="histories read of each song")
    options = parser.parse_args()
    samples = () if options.samples is None else ("--samples", str(options.samples))
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        table, checkpoint = trained(run)
        path = str(run / "model.onnx")
        measured(folder, "export", "--ckpt_path", checkpoint, "--output", path, *samples)
        threads = onnxruntime.SessionOptions()
        threads.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, threads)
        for artist in ("Nobody", "Known"):
            songs = songs_of(table, artist, options.batch)
            columns = {
                one.name: songs[one.name].astype("str").fillna("").to_numpy(object)
                if one.type == "tensor(string)"
                else songs[one.name].to_numpy(np.float64)
                for one in session.get_inputs()
            }
            session.run(None, columns)  # the first run asks for memory
            start = time.process_time()
            for _ in range(REPEATS):
                session.run(None, columns)
            pace = REPEATS * options.batch / (time.process_time() - start)
            print(f"{artist}: {pace:,.0f} songs a second of CPU time, {options.batch:,} at once")


if __name__ == "__main__":
    main()
