"""Exported graphs: texts without Python, and equality with the checkpoint on real songs."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from popularity.errors import InputError
from tests.conftest import Lazy

characters = Lazy("popularity.inference.export_characters")
text = Lazy("popularity.inference.export_text")
lookup = Lazy("popularity.inference.export_lookup")
song_keys = Lazy("popularity.features.keys")
related = Lazy("popularity.features.related")
graphs = Lazy("popularity.inference.export_graph")
verb = Lazy("popularity.inference.export")
torch = Lazy("torch")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "export.md"
TOLD = ("numbers", "texts", "lists", "outputs")
TITLES = [
    "Stay (with Justin Bieber) - 2021 Remix",
    "Bad Idea - feat. Lil Nas X & Anitta (Club Mix)",
    "Dancing With Myself - Remastered 1999",
    "Close To Me (with Diplo) [feat. Swae Lee]",
    "Sucker (with Wiz Khalifa, Imagine Dragons & Ty Dolla $ign feat. X Ambassadors)",
    "Theme From “Rocky” (Live at Wembley)",
    "live. 1984, 2031 (Mono Version)",
    "Él la vio, mié: amor",
    "Катюша 日本語 العربية 한국어 Ελλάδα",
    "CAN’T STOP [Motion Picture]",
    "Feat. Nobody",
    "  two   blanks  ",
    "don't (feat. love)",
    "x",
]


@pytest.fixture(scope="module")
def alphabet():
    return characters.Alphabet()


def test_title_statistics(alphabet):
    from popularity.features.title_stats import title_statistics

    statistics, names = text.TitleStatistics(alphabet)(alphabet.letters(characters.code_points([*TITLES, ""])))
    expected = title_statistics(pd.Series([*TITLES, None], dtype="str"))
    np.testing.assert_allclose(statistics.numpy(), expected, rtol=1e-6)
    assert (names[1, :2] == alphabet.key(characters.code_points(["lil nas x", "anitta"]))).all()


@pytest.mark.parametrize(
    "spelled",
    ["Beyoncé", "Beyonce\u0301", "  BEYONCÉ ", "Beyoncé...", "Ｂeyoncé", "\u200bBeyoncé"],
)
def test_spellings_of_a_name_have_one_key(alphabet, spelled):
    column = alphabet.letters(characters.code_points([f"Jay-Z;{spelled}", "Jay-Z;Beyonce"]))
    inside = ~column.any_of(";") & ~column.end
    keys = alphabet.names(column, inside, column.blank | column.any_of("."), 3)
    assert keys[0].tolist() == [*alphabet.key(characters.code_points(["jay-z", "beyoncé"])).tolist(), 0]
    assert keys[1, 1] != keys[0, 1]


def test_components_and_scores(song_table):
    from popularity.features.ngrams import TextEncoder

    made = TextEncoder(scores=("album",), read="album characters")
    made.fit(song_table[:60], ())
    components, scores = made.encode(song_table)
    found = text.Components(made)(characters.code_points(song_table["album"].fillna("").to_list()))
    np.testing.assert_allclose(found, np.concatenate([components.clip(-4, 4), scores], axis=1), atol=1e-5)


def test_lookup_finds_every_key_and_no_other():
    generator = np.random.default_rng(0)
    keys = np.unique(generator.integers(-(2**62), 2**62, 3000))
    find = lookup.Lookup(torch.tensor(keys[:2000]))
    assert find(torch.tensor(keys[:2000])).tolist() == list(range(2000))
    assert set(find(torch.tensor(keys[2000:])).tolist()) == {-1}
    assert lookup.Lookup(torch.zeros(0, dtype=torch.int64))(torch.tensor([0, 5])).tolist() == [-1, -1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A checkpoint of a small model that knows 3,500 real songs."""
    from popularity.__main__ import main

    path = tmp_path_factory.mktemp("exported")
    small = {"trainer.max_epochs": 1, "model.net.width": 8, "model.net.members": 1}
    flags = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert main(["fit", "--config", "mamba", *flags, "--trainer.enable_progress_bar", "false"]) == 0
    return next(path.rglob("*.ckpt"))


@pytest.fixture(scope="module")
def real_songs(trained) -> pd.DataFrame:
    """1,000 real songs with the prediction of the checkpoint in ``expected``, and ``alike`` if all samples are."""
    from popularity.inference.checkpoint import load_checkpoint
    from popularity.inference.predictor import predict_songs

    module, data = load_checkpoint(trained)
    data.load()
    songs = pd.concat([data.songs("test"), data.songs("train")]).head(1000).reset_index(drop=True)
    songs.loc[0:40, ["album", "genre", "release_date", "key", "mode", "time_signature", "explicit"]] = None
    songs.loc[20:60, "artist"] = "Nobody Knows Me"
    songs.loc[50:70, ["title", "track_id"]] = None
    songs.loc[71:75, "title"] = "Can’t Stop"
    encoder = data.encoder
    found = encoder.related.candidates(
        song_keys.keys_of(encoder.without_constants(songs)), same=60, credited=60, album=60
    ).role.numpy()
    most = {0: 14, 1: 8, 4: 8}
    alike = ((found >= 0).sum(1) <= encoder.history) & np.all([(found == k).sum(1) <= m for k, m in most.items()], 0)
    mean = predict_songs(module, encoder, songs, samples=data.hparams["samples"]).mean
    assert 0.6 < alike.mean() < 0.95
    return songs.assign(expected=mean, alike=alike)


@pytest.fixture(scope="module")
def onnx_file(trained) -> Path:
    pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
    path = trained.with_name("model.onnx")
    verb.export(verb.Options(str(trained), "onnx", str(path)))
    return path


def columns_of(songs: pd.DataFrame, session) -> dict[str, np.ndarray]:
    table = songs.assign(release_date=songs["release_date"].dt.strftime("%Y-%m-%d"))
    texts = {one.name for one in session.get_inputs() if one.type == "tensor(string)"}
    return {
        one.name: table[one.name].fillna("").to_numpy(object) if one.name in texts else table[one.name].to_numpy(float)
        for one in session.get_inputs()
    }


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 1000])
def test_onnx_is_equal_to_the_checkpoint(onnx_file, real_songs, size):
    runtime = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    session = runtime.InferenceSession(onnx_file)
    for start in (0, 45) if size < 1000 else (0,):
        songs = real_songs[start : start + size]
        popularity, low, high, known = session.run(
            ["popularity", "low_80", "high_80", "known_songs"], columns_of(songs, session)
        )
        off = np.abs(popularity - songs["expected"])[songs["alike"]]
        assert (off > 1e-4).sum() <= 2e-3 * len(off), songs.loc[off.index[off > 1e-4], ["artist", "title"]]
        assert (low < popularity).all()
        assert (popularity < high).all()
        assert known.max() <= 14


@pytest.mark.slow
def test_pt2_is_equal_to_the_checkpoint(trained, real_songs):
    path = trained.with_name("model.pt2")
    verb.export(verb.Options(str(trained), "pt2", str(path)))
    extra = {"columns.json": ""}
    model = torch.export.load(path, extra_files=extra).module()
    told = json.loads(extra["columns.json"])
    assert tuple(told) == TOLD
    songs = real_songs[:200]
    found = dict(zip(told["outputs"], model(*graphs.songs_of(songs, told["lists"])), strict=True))
    off = np.abs(found["popularity"].detach().numpy() - songs["expected"])[songs["alike"]]
    assert off.max() < 1e-4
    page = re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    _run(page, path.parent, songs)


@pytest.mark.slow
def test_the_example_of_the_page(onnx_file, real_songs, capsys):
    pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")
    page = re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    assert len([line for line in page.splitlines() if line.strip()]) <= 15
    _run(page, onnx_file.parent, real_songs[:3])
    assert f"{real_songs['title'][2]}: {real_songs['expected'][2]:.1f} (" in capsys.readouterr().out


def _run(page: str, folder: Path, songs: pd.DataFrame) -> None:
    songs.to_csv(folder / "canonical_songs.csv", index=False)
    (folder / "page.py").write_text(page)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        runpy.run_path(str(folder / "page.py"))


def test_what_cannot_be_exported_is_refused(trained, tmp_path, monkeypatch):
    output = tmp_path / "model.pt2"
    output.write_bytes(b"as it was")
    with pytest.raises(InputError, match="--format: expected one of onnx, pt2, got 'tflite'"):
        verb.export(verb.Options(str(trained), "tflite", str(output)))

    def broken(*given, **settings):
        raise OSError("no space left")

    monkeypatch.setattr("torch.export.save", broken)
    monkeypatch.setattr("popularity.inference.export.exported", lambda graph: None)
    with pytest.raises(OSError, match="no space"):
        verb.export(verb.Options(str(trained), "pt2", str(output)))
    assert output.read_bytes() == b"as it was"
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def test_an_own_network_is_refused(song_table, encoder):
    from popularity.training.module import PopularityModule

    class OwnNet(torch.nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.layer = torch.nn.Linear(inputs.song, outputs)

    module = PopularityModule(OwnNet, inputs=encoder.inputs)
    with pytest.raises(InputError, match="expected a network of this package, got OwnNet"):
        graphs.SongGraph(module, encoder, song_table[:60])


@pytest.mark.parametrize(
    "settings",
    [
        {"model.net": "FeatureTokensMamba", "model.net.width": 8, "data.encoder": "FeatureEncoder"},
        {"model.net": "SingleTokenMamba", "data.encoder": "ColumnEncoder", "model.head": "MSEHead"},
        {"model.net.members": 4, "data.encoder.history": 3},
        {"data.encoder.audio_only": True},
    ],
    ids=["tokens", "single token", "members", "audio"],
)
def test_the_graph_of_every_network(song_table, settings):
    from popularity.data.splits import Split
    from popularity.inference.predictor import predict_songs
    from tests.conftest import quick_fit

    rows = np.arange(len(song_table))
    fit = quick_fit(song_table, Split(rows[:60], rows[:0], rows[60:]), **settings)
    module, encoder = fit.module, fit.datamodule.encoder
    known, new = song_table[:60], song_table[60:].reset_index(drop=True)
    graph = graphs.SongGraph(module.eval(), encoder, known).eval()
    songs = graphs.songs_of(new, graphs.vocabularies(encoder, known))
    found = graph(*songs)
    expected = predict_songs(module, encoder, new, samples=fit.datamodule.hparams["samples"]).mean
    np.testing.assert_allclose(found[0].detach().numpy(), expected, atol=1e-4)
    if "data.encoder" in settings:  # of the default encoder, the tests above export a graph
        program = graphs.exported(graph).module()
        torch.testing.assert_close(program(*songs), found, rtol=0, atol=1e-4)
