"""``export``: a checkpoint as one file that needs nothing of this package: preprocessing and known songs inside."""

from __future__ import annotations

import io
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from popularity.errors import InputError
from popularity.inference.checkpoint import load_checkpoint
from popularity.inference.explain_model import load_own_songs
from popularity.inference.export_graph import SongGraph, exported, vocabularies
from popularity.inference.export_onnx import check_onnx, onnx_model
from popularity.inference.export_song import CODED, NUMBERS, TEXTS
from popularity.io import check_target, write_atomically
from popularity.parsing import Parser, options_of
from popularity.program import program

FORMATS = ("onnx", "pt2")
#: Endings that say that a file is something else.
OTHER_ENDINGS = {"onnx": (".pt2", ".pt", ".ckpt"), "pt2": (".onnx", ".ckpt")}


@dataclass(frozen=True)
class Options:
    """What to export.

    Args:
        ckpt_path: the checkpoint.
        format: onnx, which takes the canonical columns as they are, or pt2, which PyTorch loads and takes tensors.
        output: file to write; model.onnx or model.pt2 by default.
        source: the songs that the checkpoint was trained on, where they are not where they were: it holds hashes of
            names alone, and a graph needs the names.
        cache_dir: folder for downloads; default: the one of the fit, or the user's cache folder.
        samples: histories read of each song; as many as `predict` reads by default. 1 is faster, and differs where
            there are more known songs than one history holds.
    """

    ckpt_path: str
    format: str = "onnx"
    output: str | None = None
    source: str | None = None
    cache_dir: str | None = None
    samples: int | None = None


def export(options: Options) -> Path:
    """Write a checkpoint as a graph.

    Returns:
        The file.

    Raises:
        InputError: whatever cannot work; nothing is written then.
    """
    if options.format not in FORMATS:
        raise InputError(f"--format: expected one of {', '.join(FORMATS)}, got {options.format!r}")
    if options.samples is not None and options.samples < 1:
        raise InputError(f"--samples: expected at least 1, got {options.samples}")
    path = _path(options)
    check_target(path, [options.ckpt_path, options.source])
    if path.suffix in OTHER_ENDINGS[options.format]:
        raise InputError(f"--output: expected a name for --format {options.format}, got {path}")
    if options.format == "onnx":
        check_onnx()
    content, inputs, outputs = exported_model(options)
    with write_atomically(path, binary=True) as file:
        file.write(content)
    print(f"{path}: {len(content) / 1e6:.1f} MB, inputs {', '.join(inputs)}; outputs {', '.join(outputs)}")
    return path


def _path(options: Options) -> Path:
    return Path(f"model.{options.format}" if options.output is None else options.output)


def exported_model(options: Options) -> tuple[bytes, list[str], list[str]]:
    """The content of the file, and the names of its inputs and outputs."""
    module, data = load_checkpoint(options.ckpt_path)
    if options.source is not None:
        data.hparams["source"] = options.source
    if options.cache_dir is not None:
        data.hparams["cache_dir"] = options.cache_dir
    check_target(_path(options), [data.hparams["source"]])
    load_own_songs(options.ckpt_path, data)
    songs = data.songs("train")
    samples = options.samples or int(data.hparams["samples"]) * int(getattr(data.encoder, "eval_samples", 1))
    graph = SongGraph(module.float().eval(), data.encoder, songs, samples).eval()
    print("translating the model into a graph, a few minutes ...", file=sys.stderr)
    lists = vocabularies(data.encoder, songs)
    for name in ("torch.onnx", "onnx_ir"):  # of packages that nothing here needs, and of attributes that are empty
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch, on its own ways
        traced = exported(graph)
        if options.format == "onnx":
            return onnx_model(traced, graph, lists), [*NUMBERS, *TEXTS, *CODED], graph.outputs
    columns = {"numbers": NUMBERS, "texts": TEXTS, "lists": lists, "outputs": graph.outputs}
    buffer = io.BytesIO()
    torch.export.save(traced, buffer, extra_files={"columns.json": json.dumps(columns)})
    return buffer.getvalue(), ["numbers", *TEXTS, *CODED], graph.outputs


def main(argv: Sequence[str]) -> None:
    """Run ``export``."""
    parser = Parser(
        prog=f"{program()} export", description="Write a trained model as one file, for ONNX Runtime or PyTorch alone."
    )
    parser.add_class_arguments(Options, None)
    config = parser.parse_args(list(argv))
    export(options_of(Options, config))
