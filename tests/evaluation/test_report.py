"""The report: every part is there, its numbers are the tables', and it holds everything that it needs."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from popularity.errors import InputError
from tests.conftest import make_songs

MODELS = {"mean": 0.0, "linear": 0.4, "lightgbm": 0.7, "mamba": 0.8}  # share of the signal that each has learned
CUTOFFS = ("40", "55", "top_quarter")
REPEATS, FOLDS = 2, 3


@dataclass
class Page(HTMLParser):
    """Sections, tables by caption, attributes and text of a page."""

    text: str = ""
    sections: list[str] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    _rows: list[list[str]] = field(default_factory=list)
    _cell: str | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "section":
            self.sections.append(str(dict(attrs)["id"]))
        elif tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td", "caption"):
            self._cell = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell is not None:
            self._cell += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "caption":
            self.tables[str(self._cell)] = self._rows
        elif tag in ("th", "td"):
            self._rows[-1].append(str(self._cell))
        if tag in ("th", "td", "caption"):
            self._cell = None

    def table(self, caption: str) -> pd.DataFrame:
        head, *rows = self.tables[caption]
        return pd.DataFrame(rows, columns=head)


def _read(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


def _numbers(column: pd.Series) -> np.ndarray:
    return column.str.replace("−", "-").str.replace(",", "").replace("–", "nan").astype(float).to_numpy()


def _songs(tmp: Path, count: int = 240) -> pd.DataFrame:
    from popularity.data.songs import load_songs

    path = tmp / "songs.csv"
    make_songs(count).to_csv(path, index=False)
    return load_songs(str(path)).songs


def _predict(songs: pd.DataFrame, repeats: int, folds: int) -> pd.DataFrame:
    from popularity.data.splits import make_split

    truth = songs["popularity"].to_numpy()
    rng = np.random.default_rng(0)
    parts = []
    for repeat in range(repeats):
        for fold in range(folds):
            rows = make_split(songs, "random", folds=max(folds, 2), fold=fold, seed=repeat, validation=0).test
            for model, share in MODELS.items():
                noise = rng.normal(0, 1, len(rows)) * (model != "mean")
                guess = (truth.mean() + share * (truth[rows] - truth.mean()) + noise).clip(0, 100)
                columns = {"model": model, "repeat": repeat, "fold": fold, "row": rows, "prediction": guess}
                parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True).astype({"model": "category"})


def _score(predictions: pd.DataFrame, songs: pd.DataFrame) -> pd.DataFrame:
    truth = songs["popularity"].to_numpy()
    rows = []
    for (model, repeat, fold), part in predictions.groupby(["model", "repeat", "fold"], observed=True):
        true = truth[part["row"]]
        error = part["prediction"].to_numpy() - true
        mse = (error**2).mean()
        scores = {"mse": mse, "rmse": mse**0.5, "mae": abs(error).mean(), "r2": 1 - mse / true.var()}
        others = {"spearman": 0.5, "within_5": 0.4, "within_10": 0.8, "seconds": 0.25}
        sizes = {"songs_train": len(songs) - len(part), "songs_test": len(part)}
        rows.append({"model": model, "repeat": repeat, "fold": fold, **scores, **others, **sizes})
    return pd.DataFrame(rows).astype({"model": "str"})


def _mark(predictions: pd.DataFrame, songs: pd.DataFrame) -> pd.DataFrame:
    truth = songs["popularity"].to_numpy()
    parts = []
    for cutoff in CUTOFFS:
        value = float(np.quantile(truth, 0.75)) if cutoff == "top_quarter" else float(cutoff)
        chance = 1 / (1 + np.exp(-(predictions["prediction"] - value) / 5))
        hit = truth[predictions["row"]] >= value
        part = predictions.drop(columns="prediction").assign(cutoff=cutoff, probability=chance, hit=hit, threshold=0.4)
        parts.append(part[part["model"] != "linear"])
    table = pd.concat(parts, ignore_index=True)
    columns = ["model", "cutoff", "repeat", "fold", "row", "probability", "hit", "threshold"]
    return table.astype({"model": "str", "cutoff": "category"})[columns]


def _summarise_hits(hits: pd.DataFrame) -> pd.DataFrame:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rows = []
    for (model, cutoff, *_), part in hits.groupby(["model", "cutoff", "repeat", "fold"], observed=True):
        hit, chance = part["hit"], part["probability"]
        scores = {"auroc": roc_auc_score(hit, chance), "average_precision": average_precision_score(hit, chance)}
        accuracy = ((chance >= part["threshold"]) == hit).mean()
        majority = max(hit.mean(), 1 - hit.mean())
        rows.append({"cutoff": cutoff, "model": model, **scores, "accuracy": accuracy, "majority": majority})
    grouped = pd.DataFrame(rows).groupby(["cutoff", "model"])
    table = grouped.mean()
    table.insert(0, "folds", grouped.size())
    told = {"reference": "mamba", "auroc_difference": -0.0123, "auroc_low": -0.05, "auroc_high": 0.02}
    other = table.index.get_level_values("model") != "mamba"
    return table.assign(
        **{name: pd.Series(value, index=table.index[other]) for name, value in told.items()}
    ).reset_index()


def _write(folder: Path, songs: pd.DataFrame, repeats: int = REPEATS, folds: int = FOLDS) -> None:
    from popularity.evaluation.paired import compare
    from popularity.evaluation.summary import summarise

    predictions = _predict(songs, repeats, folds)
    scores = _score(predictions, songs)
    differences = compare(scores, "linear")
    ends = {"song_low": differences["difference"] - 3, "song_high": differences["difference"] + 3}
    hits = _mark(predictions, songs)
    predictions.to_parquet(folder / "predictions.parquet", index=False)
    scores.to_parquet(folder / "folds.parquet", index=False)
    hits.to_parquet(folder / "hits.parquet", index=False)
    differences.assign(**ends).to_csv(folder / "differences.csv", index=False)
    summarise(scores, differences).to_csv(folder / "summary.csv", index=False)
    _summarise_hits(hits).to_csv(folder / "hit_summary.csv", index=False)
    claims = {"project": ["Ours & <theirs>"], "reported": ["MSE 106.4 (one split)"], "honest folds": ["MSE 114.9"]}
    pd.DataFrame(claims).to_csv(folder / "claims.csv", index=False)


@dataclass(frozen=True)
class Made:
    folder: Path
    songs: pd.DataFrame
    page: Page
    source: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    from popularity.evaluation.report.page import report

    folder = tmp_path_factory.mktemp("results")
    songs = _songs(folder)
    _write(folder, songs)
    (folder / "protocol.json").write_text('{"fingerprint": "0123abcd"}')
    path = report(folder, songs, reference="linear", protocol={"data": "made up", "seed": 0})
    return Made(folder, songs, _read(path), path.read_text(encoding="utf-8"))


def _section(source: str, slug: str) -> str:
    return source[source.index(f'<section id="{slug}"') :].split("</section>")[0]


# --- the whole page ---------------------------------------------------------------------------------------------------


def test_every_section_is_there_with_something_to_see(made: Made) -> None:
    from popularity.evaluation.report.sections import BUILDERS
    from popularity.evaluation.report.words import WORDS

    assert made.page.sections == list(BUILDERS) == list(WORDS)
    assert "Left out" not in made.page.text
    for slug in BUILDERS:
        section = _section(made.source, slug)
        assert "<svg" in section or "<table" in section
        assert section.index("What you see") < section.index("What it does not prove")
        assert all(section.index("What it does not prove") < section.index(tag) for tag in ("<svg",) if tag in section)


def test_page_needs_nothing_from_outside(made: Made) -> None:
    assert "http://" not in made.source
    assert "https://" not in made.source
    assert "@import" not in made.source
    for tag, name, value in made.page.attributes:
        assert tag not in ("script", "link", "iframe", "object")
        if name in ("src", "href", "xlink:href", "srcset"):
            assert value.startswith(("#", "data:image/png;base64,")), f"{tag} {name}={value[:60]}"
    assert made.source.count("url(") == made.source.count("url(#")
    assert "default-src 'none'" in made.source


def test_protocol_is_shown(made: Made) -> None:
    for words in ("0123abcd", "made up", "Folds are drawn at random", f"{len(made.songs)}", f"{REPEATS} × {FOLDS}"):
        assert words in made.page.text


def test_ids_are_unique_and_every_reference_is_met(made: Made) -> None:
    ids = [value for _, name, value in made.page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    named = {value[1:] for _, name, value in made.page.attributes if name == "href" and value.startswith("#")}
    named |= set(re.findall(r"url\(#([^)]*)\)", made.source))
    named |= {value for _, name, value in made.page.attributes if name == "aria-labelledby"}
    assert named <= set(ids)


def test_pictures_have_words_and_readable_text(made: Made) -> None:
    pictures = re.findall(r"<svg[^>]*>", made.source)
    assert len(pictures) > 15
    assert all('role="img"' in head and re.search(r'aria-label="[^"]{10,}"', head) for head in pictures)
    sizes = [float(size) for size in re.findall(r"font: ([\d.]+)px", made.source)]
    assert min(sizes) >= 9.5  # of 403 units in width: over 8 pixels on a phone


def test_same_tables_give_the_same_bytes(made: Made) -> None:
    from popularity.evaluation.report.page import report

    before = {path.name: path.read_bytes() for path in made.folder.glob("*.*g*") if path.suffix != ".csv"}
    assert {"ranking.svg", "ranking.png", "differences.png", "known_songs.svg"} <= set(before)
    path = report(made.folder, made.songs, reference="linear", protocol={"data": "made up", "seed": 0})
    assert path.read_text(encoding="utf-8") == made.source
    assert {name: (made.folder / name).read_bytes() for name in before} == before


def test_plots_for_a_readme_are_whole_documents(made: Made) -> None:
    for name in ("ranking", "differences", "known_songs"):
        root = ElementTree.fromstring((made.folder / f"{name}.svg").read_bytes())
        assert root.tag.endswith("svg")
        assert (made.folder / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    shown = " ".join(ElementTree.parse(made.folder / "ranking.svg").getroot().itertext())
    assert all(model in shown for model in MODELS)


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_summary(made: Made) -> None:
    summary = pd.read_csv(made.folder / "summary.csv").sort_values("mse")
    shown = made.page.table("Mean scores over folds, best first")
    assert shown["model"].tolist() == summary["model"].tolist()
    for heading, column, digits in (("MSE", "mse", 2), ("R²", "r2", 3), ("ratio", "ratio_to_reference", 3)):
        np.testing.assert_allclose(_numbers(shown[heading]), summary[column].round(digits), atol=1e-9)
    np.testing.assert_allclose(_numbers(shown["wins"]), summary["wins"])
    assert shown["seconds"].tolist() == ["0.25 s"] * len(summary)
    assert shown["p"].tolist().count("–") == 1  # the reference has none
    assert list(shown)[-3:] == ["within 5", "within 10", "seconds"]
    assert (_numbers(shown["within 5"]) == 0.4).all()
    assert (_numbers(shown["within 10"]) == 0.8).all()


def test_ranking_and_differences_show_the_paired_comparison(made: Made) -> None:
    from popularity.evaluation.paired import compare

    expected = compare(pd.read_parquet(made.folder / "folds.parquet"), "linear")
    ratios = made.page.table("Ratio of squared errors")
    assert ratios["model"].tolist() == expected["model"].tolist()
    np.testing.assert_allclose(_numbers(ratios["ratio"]), expected["ratio_to_reference"].round(3))
    low, high = (_numbers(ratios[f"{end} (95 %)"]) for end in ("from", "to"))
    other = (expected["model"] != "linear").to_numpy()
    assert (low[other] < _numbers(ratios["ratio"])[other]).all()
    assert (high[other] > _numbers(ratios["ratio"])[other]).all()
    shown = made.page.table("Differences in points²").set_index("model")
    expected = expected[other].set_index("model")
    np.testing.assert_allclose(_numbers(shown["difference"]), expected["difference"].round(2))
    np.testing.assert_allclose(_numbers(shown["from (95 %)"]), expected["low"].round(2))
    np.testing.assert_allclose(_numbers(shown["over songs from"]), (expected["difference"] - 3).round(2), atol=0.0051)


def test_groups_of_songs_add_up_to_the_whole(made: Made) -> None:
    predictions = pd.read_parquet(made.folder / "predictions.parquet")
    error = predictions["prediction"] - made.songs["popularity"].to_numpy()[predictions["row"]]
    for caption in ("Errors by popularity", "Errors by known songs"):
        shown = made.page.table(caption)
        for model in MODELS:
            part = shown[shown["model"] == model]
            count = _numbers(part["predictions"])
            assert count.sum() == (predictions["model"] == model).sum()
            whole = (error[predictions["model"] == model] ** 2).mean()
            assert np.average(_numbers(part["MSE"]), weights=count) == pytest.approx(whole, abs=0.01)


def test_hit_scores_and_curves_agree_with_the_tables(made: Made) -> None:
    summary = pd.read_csv(made.folder / "hit_summary.csv").astype({"cutoff": "str"})
    for cutoff, words in (("40", "popularity of at least 40"), ("top_quarter", "top quarter")):
        expected = summary[summary["cutoff"] == cutoff].sort_values("auroc", ascending=False)
        shown = made.page.table(f"Hit: {words}")
        np.testing.assert_allclose(_numbers(shown["AUROC"]), expected["auroc"].round(3))
        others = (expected["model"] != "mamba").to_numpy()
        assert set(shown.loc[others, "AUROC difference"]) == {"−0.012"}
        assert list(shown.loc[~others, "AUROC difference"]) == ["–"]
        assert "reference" not in shown
    section = _section(made.source, "curves")
    chosen = re.search(r"ROC, hit: ([^<]*)", section)
    assert chosen is not None
    cutoff = {"top quarter": "top_quarter"}.get(chosen[1], chosen[1].rsplit(" ", 1)[-1])
    for row in summary[summary["cutoff"] == cutoff].itertuples():
        assert f"{row.model} {row.auroc:.3f}" in section
        assert f"{row.model} {row.average_precision:.3f}" in section


def test_confusion_counts_every_song_at_its_threshold(made: Made) -> None:
    hits = pd.read_parquet(made.folder / "hits.parquet")
    section = _section(made.source, "confusion")
    shown = made.page.table("Counts over all folds and repeats").set_index("model")
    cutoff = "55" if "at least 55" in section else "40" if "at least 40" in section else "top_quarter"
    part = hits[(hits["cutoff"] == cutoff) & (hits["model"] == "mamba")]
    called = part["probability"] >= 0.4
    assert _numbers(shown.loc[["mamba"], "hits found"])[0] == (called & part["hit"]).sum()
    assert _numbers(shown.loc[["mamba"], "false alarms"])[0] == (called & ~part["hit"]).sum()
    assert sum(_numbers(shown.loc["mamba"])) == len(part)


def test_coefficients_are_those_of_least_squares(made: Made) -> None:
    from sklearn.linear_model import LinearRegression

    from popularity.data.schema import AUDIO
    from popularity.evaluation.report.features import coefficients
    from popularity.evaluation.report.tables import Tables

    tables = Tables(made.folder, made.songs)
    found = coefficients(tables).set_index("feature")
    expected = []
    for test in tables.test_rows().values():
        train = np.setdiff1d(np.arange(len(made.songs)), test)
        columns = made.songs.loc[train, list(AUDIO)].to_numpy()
        slope = LinearRegression().fit(columns, made.songs.loc[train, "popularity"]).coef_
        expected.append(slope * columns.std(axis=0))
    np.testing.assert_allclose(found.loc[list(AUDIO), "mean"], np.mean(expected, axis=0))
    # the intervals are about as wide as those of least squares itself
    columns, truth = made.songs[list(AUDIO)].to_numpy(), made.songs["popularity"].to_numpy()
    residuals = truth - LinearRegression().fit(columns, truth).predict(columns)
    scaled = np.c_[np.ones(len(columns)), (columns - columns.mean(0)) / columns.std(0)]
    variance = residuals.var(ddof=scaled.shape[1]) * np.linalg.inv(scaled.T @ scaled).diagonal()[1:]
    half = (found.loc[list(AUDIO), "high"] - found.loc[list(AUDIO), "low"]) / 2
    assert 0.6 < np.mean(half / (1.96 * np.sqrt(variance))) < 1.6
    assert found.index[0] in ("danceability", "acousticness")  # what the made-up popularity depends on


def test_largest_errors_are_the_largest(made: Made) -> None:
    predictions = pd.read_parquet(made.folder / "predictions.parquet")
    model = made.page.table("Mean scores over folds, best first")["model"].iloc[0]
    mean = predictions[predictions["model"] == model].groupby("row")["prediction"].mean()
    error = mean - made.songs["popularity"].to_numpy()[mean.index]
    high = made.page.table(f"Predicted too high by {model}")
    assert _numbers(high["error"])[0] == pytest.approx(error.max(), abs=0.051)
    assert high["song"].iloc[0].startswith(made.songs.loc[error.idxmax(), "title"])
    assert _numbers(made.page.table(f"Predicted too low by {model}")["error"])[0] == pytest.approx(
        error.min(), abs=0.051
    )


# --- pieces -----------------------------------------------------------------------------------------------------------


def _named(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    artists, titles, dates = zip(*rows, strict=True)
    songs = pd.DataFrame({"artist": artists, "title": titles}, dtype="str")
    return songs.assign(release_date=pd.to_datetime(pd.Series(dates)).astype("datetime64[us]"), popularity=50.0)


def test_known_songs_are_training_songs_that_share_a_credited_name(tmp_path: Path) -> None:
    from popularity.evaluation.report.tables import Tables

    songs = _named(
        [
            ("Ada", "One", "2001-01-01"),
            ("Ada;Bea", "Two", "2002-01-01"),
            ("Cay", "Three (feat. Bea)", "2003-01-01"),
            ("Dot", "Four", "2004-01-01"),
            ("Ada", "Five", "2005-01-01"),
        ]
    )
    parts = [
        {"model": m, "repeat": 0, "fold": f, "row": r, "prediction": 1.0} for m in "ab" for f, r in ((0, 1), (0, 3))
    ]
    pd.DataFrame(parts).to_parquet(tmp_path / "predictions.parquet")
    found = Tables(tmp_path, songs).known_songs()
    assert dict(zip(found["row"], found["known"], strict=True)) == {1: 3, 3: 0}
    older = Tables(tmp_path, songs, "time").known_songs()  # only songs from before the first test song are known
    assert dict(zip(older["row"], older["known"], strict=True)) == {1: 1, 3: 0}


def test_interval_of_a_ratio_is_that_of_the_difference_where_the_reference_is_constant() -> None:
    from popularity.evaluation.report.intervals import compare_ratios

    scores = {"a": [80.0, 90.0, 85.0, 95.0], "base": [100.0] * 4}
    folds = pd.DataFrame(
        [
            {"model": m, "repeat": 0, "fold": f, "mse": mse, "songs_train": 80, "songs_test": 20}
            for m, values in scores.items()
            for f, mse in enumerate(values)
        ]
    )
    found = compare_ratios(folds, "base").set_index("model").loc["a"]
    assert found["ratio_low"] == pytest.approx(1 + found["low"] / 100)
    assert found["ratio_high"] == pytest.approx(1 + found["high"] / 100)


def test_songs_of_one_artist_count_as_one_when_they_err_alike() -> None:
    from popularity.evaluation.report.intervals import clustered_half_width

    values = np.random.default_rng(0).normal(10, 3, 200)
    alone = clustered_half_width(values, np.arange(200))
    assert alone == pytest.approx(1.96 * values.std(ddof=1) / np.sqrt(200), rel=0.01)
    # each song ten times over adds rows, not knowledge
    assert clustered_half_width(np.repeat(values, 10), np.repeat(np.arange(200), 10)) == pytest.approx(alone)
    assert np.isnan(clustered_half_width(values, np.zeros(200)))


def test_a_failed_model_does_not_flatten_the_others() -> None:
    from popularity.evaluation.report.ranking import ranking

    ratios = [0.8, 0.9, 1.0, 40.0]
    columns = {"folds": [5, 5, 5, 1], "ratio_to_reference": ratios, "ratio_low": ratios, "ratio_high": ratios}
    figure = ranking(pd.DataFrame({"model": ["a", "b", "base", "failed"], **columns}), "base")
    assert figure.axes[0].get_xlim()[1] < 3
    assert any(line.get_marker() == ">" for line in figure.axes[0].lines)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a", "b", "base", "failed (1)"]


def test_models_keep_their_looks_and_differ_without_colour() -> None:
    from popularity.evaluation.report.style import MOST, REFERENCE, looks

    names = [f"model{number}" for number in range(MOST)]
    chosen = looks([*names, "base"], "base")
    assert chosen["base"] == REFERENCE
    for of in ("colour", "marker", "dash"):
        assert len({getattr(look, of) for look in chosen.values()}) == MOST + 1
    again = looks(["new", names[2], "base"], "base", chosen)
    assert again[names[2]] == chosen[names[2]]
    assert again["new"] != again[names[2]]


# --- what is absent, and what cannot be -------------------------------------------------------------------------------


def test_a_table_that_is_absent_leaves_its_sections_out_and_says_so(made: Made, tmp_path: Path) -> None:
    from popularity.evaluation.report.page import report

    (tmp_path / "folds.parquet").write_bytes((made.folder / "folds.parquet").read_bytes())
    (tmp_path / "known_songs.svg").write_text("of an older run")
    page = _read(report(tmp_path, made.songs))
    for name in ("predictions.parquet", "summary.csv", "hits.parquet", "hit_summary.csv", "claims.csv"):
        assert f"Left out: {name} is not in the folder of results." in page.text
    assert "Ratio of squared errors" in page.tables
    assert (tmp_path / "ranking.svg").is_file()
    assert not (tmp_path / "known_songs.svg").exists()


def test_hit_models_alone_make_a_page(made: Made, tmp_path: Path) -> None:
    from popularity.evaluation.report.page import report

    empty = pd.read_parquet(made.folder / "folds.parquet").head(0)
    empty.to_parquet(tmp_path / "folds.parquet")
    for name in ("hits.parquet", "hit_summary.csv"):
        (tmp_path / name).write_bytes((made.folder / name).read_bytes())
    page = _read(report(tmp_path, made.songs, reference="linear"))
    assert "Left out: folds.parquet has no rows." in page.text
    assert "Counts over all folds and repeats" in page.tables


def test_one_model_and_one_fold(made: Made, tmp_path: Path) -> None:
    from popularity.evaluation.report.page import report

    for name in ("folds", "predictions"):
        table = pd.read_parquet(made.folder / f"{name}.parquet")
        chosen = table[(table["model"] == "mean") & (table["repeat"] == 0) & (table["fold"] == 0)]
        chosen.to_parquet(tmp_path / f"{name}.parquet", index=False)
    page = _read(report(tmp_path, made.songs))
    assert "Left out: there is no model beside the reference mean." in page.text
    assert page.table("Ratio of squared errors").iloc[0].tolist() == ["mean", "1", "1.000", "–", "–"]
    assert not (tmp_path / "differences.png").exists()


def test_two_models_on_one_fold_have_no_interval(made: Made, tmp_path: Path) -> None:
    from popularity.evaluation.report.page import report

    table = pd.read_parquet(made.folder / "folds.parquet")
    table[(table["repeat"] == 0) & (table["fold"] == 0)].to_parquet(tmp_path / "folds.parquet", index=False)
    shown = _read(report(tmp_path, made.songs)).table("Differences in points²")
    assert set(shown["from (95 %)"]) == {"–"}


def test_folds_that_repeats_share_are_shown_apart(made: Made, tmp_path: Path) -> None:
    from popularity.evaluation.report.page import report

    for name in ("folds.parquet", "predictions.parquet"):
        (tmp_path / name).write_bytes((made.folder / name).read_bytes())
    row = {"against": "mamba", "songs": 1006, "folds_repeated": 5, "folds_others": 20, "mse_others": 7.125}
    ends = {"difference_others": 0.5, "low_others": -1.5, "high_others": 2.5}
    repeated = [{"model": name, **row, **ends, "mse_repeated": 9, "difference_repeated": 4} for name in MODELS]
    pd.DataFrame(repeated).to_csv(tmp_path / "repeated_folds.csv", index=False)
    caption = (
        "Apart: 5 folds whose 1,006 songs (on average) are tested in several repeats, and 20 others; differences of "
        "MSE to mamba, over the folds that both have"
    )
    shown = _read(report(tmp_path, made.songs)).table(caption)
    assert shown.iloc[0].tolist() == [next(iter(MODELS)), "9.00", "4.00", "7.12", "0.50", "−1.50", "2.50"]
    assert "Apart:" not in made.page.text


def test_a_claim_stands_beside_what_was_measured_before_how(made: Made, tmp_path: Path) -> None:
    from popularity.evaluation.report.page import report

    for name in ("folds.parquet", "predictions.parquet"):
        (tmp_path / name).write_bytes((made.folder / name).read_bytes())
    numbers = {"theirs": 1.0, "theirs_low": 0.9, "theirs_high": 1.1, "splits": 5, "honest": 2.0, "honest_sd": 0.1}
    words = {"project": "x", "model": "y", "metric": "MSE", "reported": "3", "method": "leaks", "source": "page"}
    claim = {**words, **numbers}
    pd.DataFrame([claim]).to_csv(tmp_path / "claims.csv", index=False)
    shown = _read(report(tmp_path, made.songs, split="random")).table("Original claims beside measurements")
    told = ["project", "model", "metric", "reported", "their method here", "honest folds here"]
    assert list(shown)[: len(told)] == told
    assert sorted(list(shown)[-2:]) == ["method", "source"]


def test_models_on_fewer_folds_are_marked_and_stay_out_of_pictures_of_songs(made: Made, tmp_path: Path) -> None:
    from popularity.evaluation.paired import compare
    from popularity.evaluation.report.page import report
    from popularity.evaluation.summary import summarise

    folds, predictions = (pd.read_parquet(made.folder / f"{name}.parquet") for name in ("folds", "predictions"))
    best = compare(folds, "linear")["model"].iloc[0]

    def cut(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["model"] != best) | (table["repeat"] == 0)]

    folds = cut(folds)
    folds.to_parquet(tmp_path / "folds.parquet", index=False)
    cut(predictions).to_parquet(tmp_path / "predictions.parquet", index=False)
    summarise(folds, compare(folds, "linear")).to_csv(tmp_path / "summary.csv", index=False)
    page = report(tmp_path, made.songs, split="random", reference="linear").read_text(encoding="utf-8")
    assert f"{best} ({FOLDS})" in _section(page, "ranking")
    assert f"of those on {REPEATS * FOLDS} folds" in page, "the lowest error is not that of other folds"
    assert pd.read_csv(tmp_path / "summary.csv")["model"].iloc[-1] == best
    others = set(folds["model"]) - {best}
    assert any(f">{name}<" in _section(page, "bands") for name in others)
    assert f">{best}<" not in _section(page, "bands")


def test_known_songs_are_left_out_where_nobody_is_known(tmp_path: Path) -> None:
    from popularity.evaluation.report.comparison import Comparison
    from popularity.evaluation.report.tables import LeftOut, Tables

    songs = _named([("Ada", "One", "2001-01-01"), ("Bea", "Two", "2002-01-01")])
    parts = [{"model": "a", "repeat": 0, "fold": f, "row": f, "prediction": 1.0} for f in (0, 1)]
    pd.DataFrame(parts).to_parquet(tmp_path / "predictions.parquet")
    with pytest.raises(LeftOut, match="known in any fold of the split credits"):
        _ = Comparison(Tables(tmp_path, songs, "credits"), "a", ("a",)).by_known


def test_names_are_text_not_markup(tmp_path: Path) -> None:
    from popularity.evaluation.report.page import report

    songs = _songs(tmp_path, 60)
    songs["title"] = "<b>bold</b> & co"
    folds = _score(_predict(songs, 1, 2), songs)
    folds["model"] = folds["model"].replace({"mamba": "<script>alert(1)</script>"})
    folds.to_parquet(tmp_path / "folds.parquet", index=False)
    path = report(tmp_path, songs, title="A < B", protocol={"data": "<i>x</i>"})
    text = path.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "<i>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<h1>A &lt; B</h1>" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "expected the tables of a comparison"),
        ({"folds.parquet": pd.DataFrame({"model": ["a"], "mse": [1.0]})}, "folds.parquet: expected the column repeat"),
        ({"summary.csv": "not,a\n1\n"}, "summary.csv: expected the column model"),
        ({"folds.parquet": "no parquet"}, "folds.parquet: cannot be read as a table"),
    ],
)
def test_folders_that_cannot_be_reported_on(
    change: dict[str, pd.DataFrame | str], message: str, tmp_path: Path
) -> None:
    from popularity.evaluation.report.page import report

    for name, content in change.items():
        if isinstance(content, str):
            (tmp_path / name).write_text(content)
        else:
            content.to_parquet(tmp_path / name)
    with pytest.raises(InputError, match=message) as caught:
        report(tmp_path, _named([("Ada", "One", "2001-01-01")]))
    assert "\n" not in str(caught.value)


def test_songs_and_models_that_were_not_compared_are_refused(made: Made) -> None:
    from popularity.evaluation.report.page import report

    with pytest.raises(InputError, match=r"expected one of the models mamba, .*, found 'svm'"):
        report(made.folder, made.songs, reference="svm")
    with pytest.raises(InputError, match="these songs are not the ones compared"):
        report(made.folder, made.songs.head(100), reference="linear")
