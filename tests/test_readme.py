"""The README's tables are those of the results in the repository."""

from __future__ import annotations

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
    (folder / "against_mamba.csv").write_text(
        "model,reference,folds,ratio_to_reference,difference,low,high,p_value,wins\n"
        "mamba,mamba,10,1,0,,,,0\nno_title,mamba,10,1.01,0.5,-0.1,1.1,0.1,3\nno_history,mamba,10,1.1,9,7.5,10.5,0,0\n"
    )
    lines = ablations(tmp_path).splitlines()
    assert lines[2:] == [
        f"| `no_history` | {first_comment(layers / 'no_history.yaml')} | +9.00 (+7.50 to +10.50; 10 of 10) |",
        f"| `no_title` | {first_comment(layers / 'no_title.yaml')} | +0.50 (-0.10 to +1.10; 7 of 10) |",
    ]
