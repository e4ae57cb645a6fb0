"""Fuzz the reader of song tables: ``python benchmarks/fuzz.py --seconds 600``, with the extra ``fuzz``.

Atheris changes bytes of small tables of all kinds and keeps what reaches new lines of the reader. Whatever it makes is
a song table or one line; anything else ends the run, and the bytes that led there are in the file that it names.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path

import atheris
import pandas as pd

with atheris.instrument_imports(include=["popularity.data"]):
    from popularity.data import parts
    from popularity.data.songs import load_songs, songs_in_parts
    from popularity.data.sources import EMBEDDED_FILE
    from popularity.errors import InputError

ROWS = 3


def seeds() -> dict[str, bytes]:
    """A small table of each kind."""
    songs = pd.read_parquet(EMBEDDED_FILE).head(ROWS)
    csv = songs.to_csv(index=False).encode()
    parquet, workbook, packed = io.BytesIO(), io.BytesIO(), io.BytesIO()
    songs.to_parquet(parquet)
    songs.to_excel(workbook, index=False)
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("songs.csv", csv)
    records = songs.to_dict("records")
    return {
        "csv": csv,
        "semicolons": songs.to_csv(index=False, sep=";", decimal=",", quoting=1).encode("cp1252", "replace"),
        "utf16": songs.to_csv(index=False, sep="\t").encode("utf-16"),
        "json": json.dumps(records, default=str).encode(),
        "split": songs.to_json(orient="split").encode(),
        "lines": "\n".join(json.dumps(record, default=str) for record in records).encode(),
        "parquet": parquet.getvalue(),
        "xlsx": workbook.getvalue(),
        "zip": packed.getvalue(),
    }


def main() -> None:
    """Fuzz for a while."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0, help="of the changes; 0 draws another one each time")
    parser.add_argument("--kinds", nargs="+", choices=seeds(), default=list(seeds()))
    parser.add_argument("--crashes", default="fuzz-", help="prefix of the files of bytes that end a run")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        file, corpus = Path(name) / "songs", Path(name) / "corpus"
        corpus.mkdir()
        for kind in arguments.kinds:
            (corpus / kind).write_bytes(seeds()[kind])

        parts.PART_BYTES = 512  # small tables are read in parts as well

        def read(content: bytes) -> None:
            file.write_bytes(content)
            for load in (load_songs, lambda name: list(songs_in_parts(name))):
                try:
                    load(str(file))
                except InputError as error:
                    if not str(error).isprintable():
                        raise RuntimeError(f"not one line: {str(error)!r}") from error

        options = [f"-max_total_time={arguments.seconds}", "-max_len=16384", "-timeout=60", "-rss_limit_mb=4096"]
        options += [f"-seed={arguments.seed}", f"-artifact_prefix={arguments.crashes}", "-print_final_stats=1"]
        atheris.Setup([sys.argv[0], *options, str(corpus)], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
