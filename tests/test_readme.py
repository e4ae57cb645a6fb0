"""The README's tables are those of the results in the repository."""

from __future__ import annotations

import json
from pathlib import Path


def test_tables_of_results_are_those_of_the_files(tmp_path):
    from benchmarks.readme import BLOCKS, ROOT, fill

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert fill(text, ROOT / "results") == text, "run python benchmarks/readme.py"
    emptied = fill(text, tmp_path)
    assert emptied != text, "without results there is nothing to show"
    assert all(f"<!-- {name}: written by" in emptied for name in BLOCKS)
    assert fill(emptied, ROOT / "results") == text


def test_an_ablation_shows_its_paired_interval(tmp_path):
    from benchmarks.readme import ROOT, ablations, first_comment

    layers = ROOT / "configs" / "ablations"
    folder = Path(tmp_path / "spotify_4771_random")
    folder.mkdir()
    rows = [("mamba", 0, None, None, 0), ("no_title", 0.5, -0.1, 1.1, 3), ("no_history", 9, 7.5, 10.5, 0)]
    names = ("model", "difference", "low", "high", "wins")
    (folder / "against_mamba.json").write_text(
        json.dumps([dict(zip(names, row, strict=True)) | {"folds": 10} for row in rows])
    )
    lines = ablations(tmp_path).splitlines()
    assert lines[2:] == [
        f"| `no_history` | {first_comment(layers / 'no_history.yaml')} | +9.00 (+7.50 to +10.50; 10 of 10) |",
        f"| `no_title` | {first_comment(layers / 'no_title.yaml')} | +0.50 (-0.10 to +1.10; 7 of 10) |",
    ]
