"""The commands and the code of README and docs run; so does the notebook."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BENCHMARK = re.compile(r"python (benchmarks/\w+\.py)((?: (?!#)[^`#|;\n]*)?)")
SMALL = ["--data.source", "songs.csv", "--trainer.max_epochs", "1", "--model.net.width", "8"]
SMALL += ["--choice.calibrate", "false", "--model.net.members", "1"]  # nothing is held out
SMALL += ["--model.net.mlp_width", "0"]
#: What a command gets besides: `fit` runs one batch, of a network of the page's own too; others look at a few songs.
FEW = {"fit": ["--data.source", "songs.csv", "--trainer.fast_dev_run", "true"]}
FEW["report"] = ["--sample", "10", "--shuffles", "2"]
FEW["explain"] = [*FEW["report"], "--songs", "2", "--features", "energy"]
#: What takes minutes, or wants devices, a download, a server or files that there are not: its flags are checked.
ELSEWHERE = ("ddp", "data/spotify_4771", "s3://", "recordings.csv", "songs/", "full", "my.ckpt", "my_run")
#: Commands that take seconds even so.
SLOW = ("explain", "report", "what_if")


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, text) of each fenced block of a language."""
    found = [(page, match) for page in PAGES for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]
    return [(page.relative_to(ROOT).as_posix(), match[2]) for page, match in found if match[1] == language]


def commands() -> list[list[str]]:
    """The arguments of each `popularity` command, each once."""
    found = []
    for _, text in [block for language in ("sh", "console", "") for block in blocks(language)]:
        for line in text.replace("\\\n", " ").splitlines():
            for part in line.removeprefix("$ ").split(" | "):
                words = shlex.split(part, comments=True)
                if "popularity" in words and words[0] in ("popularity", "torchrun", "srun", "python"):
                    found.append(words[words.index("popularity") + 1 :])
    return [list(words) for words in dict.fromkeys(map(tuple, found))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the files that the pages name, and a trained model."""
    from popularity.__main__ import main
    from tests.conftest import make_songs

    path = tmp_path_factory.mktemp("reader")
    make_songs(160).to_csv(path / "songs.csv", index=False)
    (path / "lists").mkdir()
    for name in ("new_songs.csv", "lists/more.csv"):
        make_songs(20, seed=1).drop(columns="popularity").to_csv(path / name, index=False)
    for _, text in blocks("python"):
        if text.startswith("# my_package.py"):
            (path / "my_package.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.syspath_prepend(path)
        assert main(["fit", "--config", "mamba", *SMALL]) == 0
        yield path


@pytest.mark.parametrize(
    "words",
    [pytest.param(words, marks=[pytest.mark.slow] * (words[0] in SLOW)) for words in commands()],
    ids=" ".join,
)
def test_command(words, folder, capsys, monkeypatch):
    from popularity.__main__ import main

    verb, *flags = words
    if verb == "app":  # all but the server, which would not end
        pytest.importorskip("streamlit")
        monkeypatch.setattr("streamlit.web.cli.main", lambda *args, **options: None)
    if verb == "features":  # has no config, and reads recordings
        from popularity.inference.recordings_verb import _parser

        _parser().parse_args(flags)
        return
    elsewhere = any(flag.startswith(ELSEWHERE) for flag in flags) or flags[-4:-1] == ["--files", "-", "--output"]
    if verb in ("tune", "compare") or elsewhere:
        with pytest.raises(SystemExit) as stopped:
            main([*words, "--print_config"])
        assert not stopped.value.code
        return
    assert main([*words, *FEW.get(verb, [])]) == 0, capsys.readouterr().err
    if "--output" in flags and verb == "predict":
        output = folder / flags[flags.index("--output") + 1]
        assert len(output.read_text().splitlines()) == 1 + 20 * (2 if "lists/*.csv" in flags else 1)


@pytest.mark.parametrize(("page", "text"), blocks("python"), ids=[page for page, _ in blocks("python")])
def test_python(page, text, folder, monkeypatch):
    import popularity

    read = popularity.read_config
    quick = {"trainer.fast_dev_run": True, "data.source": "songs.csv"}
    monkeypatch.setattr(popularity, "read_config", lambda files, settings: read(files, {**settings, **quick}))
    short = {"trainer.max_epochs": 1, "choice.members": False}
    monkeypatch.setattr(
        "popularity.inference.regressor.read_config", lambda files, settings: read(files, {**settings, **short})
    )
    (folder / "page.py").write_text(text)
    runpy.run_path(str(folder / "page.py"))


def test_report_of_a_file_with_trouble(folder, capsys, monkeypatch):
    from popularity.__main__ import main

    monkeypatch.setenv("COLUMNS", "80")
    ((_, table),), ((_, report),) = blocks("csv"), blocks("text")
    (folder / "trouble.csv").write_text(table)
    assert main(["data", "trouble.csv"]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert printed[: len(report.splitlines())] == report.splitlines()


def benchmarks() -> list[tuple[str, str]]:
    """(script, flags) of each benchmark that a page names."""
    texts = [page.read_text(encoding="utf-8").replace("\\\n", " ") for page in PAGES]
    return sorted({(match[1], match[2].strip()) for text in texts for match in BENCHMARK.finditer(text)})


@pytest.mark.parametrize(("script", "flags"), benchmarks(), ids=map(" ".join, benchmarks()))
def test_a_benchmark_is_there_and_has_these_flags(script, flags):
    known = set(re.findall(r"--[a-z_]+", (ROOT / script).read_text(encoding="utf-8")))
    # what holds a dot goes to the command that is measured
    wanted = {word for word in flags.split() if word.startswith("--") and "." not in word}
    assert wanted <= known


@pytest.mark.parametrize(("page", "text"), blocks("yaml"), ids=[page for page, _ in blocks("yaml")])
def test_yaml(page, text):
    import yaml

    assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.slow
def test_own_models_are_compared(folder, capsys):
    import pandas as pd
    import yaml

    from popularity.__main__ import main

    (config,) = (found for _, text in blocks("yaml") if "models" in (found := yaml.safe_load(text)))
    quick = {"trainer.max_epochs": 1, "choice.calibrate": False, "choice.members": False}
    config["models"]["perceptron"]["overrides"] |= quick
    (folder / "mine.yaml").write_text(yaml.safe_dump(config | {"folds": 2, "repeats": 1, "report": False}))
    assert main(["compare", "-c", "mine.yaml", "--data.source", "songs.csv", "--output", "mine"]) == 0, (
        capsys.readouterr()
    )
    assert set(pd.read_csv("mine/summary.csv")["model"]) == {"bayesian", "perceptron"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pictures", "written"), [("first_look", 2, "new_songs.csv"), ("regressor", 0, "model.ckpt")]
)
def test_notebook(name, pictures, written, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "docs" / f"{name}.ipynb", as_version=4)
    assert all(cell.outputs for cell in notebook.cells[-5:] if cell.cell_type == "code"), "the page shows its outputs"
    for cell in notebook.cells:
        cell.source = re.sub('"trainer.max_epochs": [0-9]+', '"trainer.max_epochs": 1', cell.source)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [out for cell in notebook.cells for out in cell.get("outputs", []) if "image/png" in out.get("data", {})]
    assert len(shown) == pictures
    assert (tmp_path / written).is_file()
