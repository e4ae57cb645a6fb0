"""Figures: what they draw agrees with the numbers, and edge cases draw at all."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from tests.conftest import Lazy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.text import Text

torch, mpl = Lazy("torch"), Lazy("matplotlib")
backend, mpl_text = Lazy("matplotlib.backends.backend_agg"), Lazy("matplotlib.text")
stats, scores = Lazy("scipy.stats"), Lazy("sklearn.metrics")
figures, metrics = Lazy("popularity.plots"), Lazy("popularity.metrics")

EDGES = np.linspace(-10, 110, 61)
POINT_FIGURES = ("predicted_against_true", "residuals", "popularity_histogram")


def _point_figures(truth: np.ndarray, predicted: np.ndarray) -> Iterator[Figure]:
    return (getattr(figures, name)(truth, predicted) for name in POINT_FIGURES)


def _songs(count: int, zeros: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth (n,), predictions (n,) and histograms (n, 60) with R2 near .3; a share of the truth is set to 0."""
    generator = np.random.default_rng(0)
    mean = 45 + 10 * generator.standard_normal(count)
    truth = np.clip(np.round(mean + 15 * generator.standard_normal(count)), 0, 100)
    truth[generator.random(count) < zeros] = 0
    mass = np.diff(stats.norm.cdf(EDGES[None], mean[:, None], 15), axis=1)
    return truth, mean, mass / mass.sum(axis=1, keepdims=True)


def _draw(figure: Figure) -> bytes:
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _line(axes: Axes, label: str) -> np.ndarray:
    """(points, 2) of the line, or of the error bar's line, with that label."""
    for container in axes.containers:
        if container.get_label() == label:
            return np.asarray(container.lines[0].get_xydata())
    return np.asarray(next(line for line in axes.lines if line.get_label() == label).get_xydata())


def _stairs(axes: Axes) -> list[np.ndarray]:
    return [patch.get_data().values for patch in axes.patches if hasattr(patch, "get_data")]


def test_predicted_against_true_states_r2_rmse_and_rows() -> None:
    truth, predicted, _ = _songs(600)
    note = figures.predicted_against_true(truth, predicted).axes[0].get_title()
    assert f"R² = {scores.r2_score(truth, predicted):.3f}" in note
    assert f"RMSE = {scores.root_mean_squared_error(truth, predicted):.2f} points" in note
    assert "n = 600" in note


def test_predicted_against_true_draws_identity_and_mean_truth_by_tenths() -> None:
    truth, predicted, _ = _songs(4000)
    axes = figures.predicted_against_true(truth, predicted).axes[0]
    identity = _line(axes, "predicted = true")
    np.testing.assert_array_equal(identity[:, 0], identity[:, 1])
    tenths = np.array_split(np.argsort(predicted), 10)
    expected = np.array([(predicted[rows].mean(), truth[rows].mean()) for rows in tenths])
    np.testing.assert_allclose(_line(axes, "mean truth, by tenths of the predictions"), expected)
    error = np.array([1.96 * truth[rows].std(ddof=1) / np.sqrt(len(rows)) for rows in tenths])
    bars = next(c for c in axes.containers if c.get_label().startswith("mean truth")).lines[2][0].get_segments()
    np.testing.assert_allclose([bar[1, 1] - bar[0, 1] for bar in bars], 2 * error)


def test_many_songs_are_counted_in_cells() -> None:
    truth, predicted, _ = _songs(5000, zeros=0.29)
    axes = figures.predicted_against_true(truth, predicted).axes[0]
    cells = axes.collections[0].get_array()
    assert cells.sum() == 5000
    assert cells[0].sum() == (truth <= 1).sum()  # the lowest row of cells holds 0 and 1


def test_predictions_far_off_are_counted_not_drawn() -> None:
    truth, predicted, _ = _songs(5000)
    predicted[:3] = [-500, 500, 1e6]
    axes = figures.predicted_against_true(truth, predicted).axes[0]
    assert "3 beyond the axis" in axes.get_title()
    assert axes.get_xlim() == (-10, 110)


def test_running_quantiles_follow_a_known_distribution() -> None:
    generator = np.random.default_rng(1)
    predicted = np.linspace(20, 80, 20_000)
    truth = predicted + 3 + predicted / 10 * generator.standard_normal(20_000)
    axes = figures.residuals(truth, predicted).axes[0]
    median, band = _line(axes, "running median"), _line(axes, "10-90 % band")
    np.testing.assert_allclose(median[:, 1], 3, atol=0.8)
    np.testing.assert_allclose(band[:, 1], 3 + band[:, 0] / 10 * stats.norm.ppf(0.1), atol=0.8)
    assert f"mean {(truth - predicted).mean():+.2f}" in axes.get_title()


def test_residual_bars_hold_all_songs() -> None:
    truth, predicted, _ = _songs(800)
    bars = figures.residuals(truth, predicted).axes[1].patches
    assert sum(bar.get_width() for bar in bars) == pytest.approx(100)
    above = sum(bar.get_width() for bar in bars if bar.get_y() >= -1e-9)
    assert above == pytest.approx((truth >= predicted).mean() * 100)


def test_histogram_puts_truth_and_prediction_in_the_same_bins() -> None:
    truth, predicted, _ = _songs(700, zeros=0.29)
    predicted[:2] = [-3, 104]
    axes = figures.popularity_histogram(truth, predicted).axes[0]
    true_heights, predicted_heights = _stairs(axes)
    bins = np.linspace(0, 100, 21)
    np.testing.assert_allclose(true_heights, np.histogram(truth, bins)[0] / 7)
    np.testing.assert_allclose(predicted_heights, np.histogram(np.clip(predicted, 0, 100), bins)[0] / 7)
    assert f"exactly 0: {(truth == 0).mean() * 100:.1f} %" in axes.get_title()


def test_calibration_draws_the_transform_and_the_coverage() -> None:
    truth, _, mass = _songs(1000)
    figure = figures.calibration(truth, mass, EDGES)
    transform = metrics.probability_integral_transform(truth, mass, EDGES)
    np.testing.assert_allclose(_stairs(figure.axes[0])[0], np.histogram(transform, 20, (0, 1))[0] / 10)
    observed = _line(figure.axes[1], "observed")
    np.testing.assert_allclose(observed[:, 0], range(10, 100, 10))
    np.testing.assert_allclose(observed[:, 1], metrics.interval_coverage(transform) * 100)


def test_binomial_band_holds_a_calibrated_model_and_not_a_narrow_one() -> None:
    truth, mean, mass = _songs(2000)
    narrow = np.diff(stats.norm.cdf(EDGES[None], mean[:, None], 7), axis=1)
    outside = []
    for probabilities in (mass, narrow / narrow.sum(axis=1, keepdims=True)):
        axes = figures.calibration(truth, probabilities, EDGES).axes[0]
        band = next(patch for patch in axes.patches if not hasattr(patch, "get_data")).get_extents()
        low, high = axes.transData.inverted().transform(band)[:, 1]
        heights = _stairs(axes)[0]
        outside.append(int(((heights < low - 1e-9) | (heights > high + 1e-9)).sum()))
    assert outside[0] <= 3  # one in twenty is expected outside
    assert outside[1] >= 15


@pytest.mark.parametrize("name", POINT_FIGURES)
@pytest.mark.parametrize("count", [1, 3, 4000])
@pytest.mark.parametrize("case", ["songs", "constant predictions", "equal targets", "perfect"])
def test_edge_cases_draw_without_warnings(name: str, count: int, case: str) -> None:
    truth, predicted, _ = _songs(count, zeros=0.29)
    if case == "constant predictions":
        predicted[:] = 41.5
    elif case == "equal targets":
        truth[:] = 50
    elif case == "perfect":
        predicted = truth
    assert _draw(getattr(figures, name)(truth, predicted)).startswith(b"\x89PNG")


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("case", ["songs", "equal targets", "one-hot"])
def test_calibration_of_few_songs_draws_without_warnings(count: int, case: str) -> None:
    truth, _, mass = _songs(count)
    if case == "equal targets":
        truth[:] = 0
    elif case == "one-hot":
        mass = np.eye(60)[np.full(count, 30)]
    assert _draw(figures.calibration(truth, mass, EDGES)).startswith(b"\x89PNG")


def test_one_true_value_has_no_r2() -> None:
    assert "R² undefined" in figures.predicted_against_true(np.full(9, 5.0), np.arange(9.0)).axes[0].get_title()


@pytest.mark.slow
def test_a_hundred_thousand_songs_draw_quickly() -> None:
    truth, predicted, mass = _songs(100_000)
    for name in (*POINT_FIGURES, "calibration"):
        given = (truth, mass, EDGES) if name == "calibration" else (truth, predicted)
        start = time.process_time()  # not the wall clock, which other work on the machine delays
        _draw(getattr(figures, name)(*given))
        assert time.process_time() - start < 2


@pytest.mark.parametrize("count", [3, 600, 100_000])
def test_no_text_covers_other_text(count: int) -> None:
    truth, predicted, mass = _songs(count, zeros=0.29)
    for figure in (*_point_figures(truth, predicted), figures.calibration(truth, mass, EDGES)):
        canvas = backend.FigureCanvasAgg(figure)
        canvas.draw()
        texts = [t for t in figure.findobj(mpl_text.Text) if t.get_visible() and t.get_text().strip()]
        hidden = {t for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for t in _outside(axis)}
        boxes = [(t.get_text(), t.get_window_extent()) for t in texts if t not in hidden]
        for index, (text, box) in enumerate(boxes):
            assert box.x0 >= 0, text
            assert box.x1 <= figure.bbox.width, text
            for other, its_box in boxes[index + 1 :]:
                assert not box.overlaps(its_box), f"{text!r} covers {other!r}"


def _outside(axis: Axis) -> list[Text]:
    """Labels of ticks that matplotlib keeps ready but does not draw."""
    drawn = {id(tick) for tick in axis._update_ticks()}
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    return [label for t in ticks if id(t) not in drawn for label in (t.label1, t.label2)]


def test_leaves_matplotlibs_global_state_alone() -> None:
    import matplotlib.pyplot as plt

    before, count = dict(mpl.rcParams), len(plt.get_fignums())
    truth, predicted, mass = _songs(100)
    assert len(list(_point_figures(truth, predicted))) == 3
    figures.calibration(truth, mass, EDGES)
    assert len(plt.get_fignums()) == count
    assert dict(mpl.rcParams) == before


def test_takes_tensors_and_leaves_them_alone() -> None:
    truth, predicted, mass = (torch.from_numpy(array).float() for array in _songs(50))
    copies = truth.clone(), predicted.clone(), mass.clone()
    assert all(_draw(figure) for figure in _point_figures(truth, predicted))
    assert _draw(figures.calibration(truth, mass, torch.from_numpy(EDGES)))
    assert all(torch.equal(now, then) for now, then in zip((truth, predicted, mass), copies, strict=True))


@pytest.mark.parametrize("name", POINT_FIGURES)
def test_refuses_what_cannot_be_drawn(name: str) -> None:
    draw = getattr(figures, name)
    good = np.array([10.0, 20.0, 30.0])
    bad = np.array([10.0, np.nan, np.inf])
    with pytest.raises(ValueError, match="target: expected finite values, got 2 that are not"):
        draw(bad, good)
    with pytest.raises(ValueError, match="prediction: expected finite values, got 2 that are not"):
        draw(good, bad)
    with pytest.raises(ValueError, match=r"one shape \(n,\), n > 0, got \(3,\) and \(2,\)"):
        draw(good, good[:2])
    with pytest.raises(ValueError, match="n > 0"):
        draw(good[:0], good[:0])


def test_calibration_refuses_nan() -> None:
    truth, _, mass = _songs(5)
    truth[2] = np.nan
    with pytest.raises(ValueError, match="target: expected finite values, got 1 of 5 that are not"):
        figures.calibration(truth, mass, EDGES)


def test_a_failed_model_does_not_flatten_the_others() -> None:
    means = [0.8, 0.9, 1.0, 40.0]
    columns = {
        "folds": [5, 5, 5, 1],
        "mean": means,
        "low": [0.7, 0.8, np.nan, np.nan],
        "high": [0.9, 1.0, np.nan, np.nan],
    }
    table = pd.DataFrame({"model": ["a", "b", "base", "failed"], **columns})
    axes = figures.forest(table, 1.0, "ratio", ".3f", {"a": np.array([0.6, 0.95])}).axes[0]
    left, right = axes.get_xlim()
    assert left < 0.6, "every fold is inside"
    assert right < 3
    assert [line.get_marker() for line in axes.lines].count(">") == 1
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "base", "failed (1)"]
    assert figures.forest(table.head(1), 1.0, "ratio", ".3f").axes[0].get_xlim()[1] > 1, "no difference is in sight"


def test_models_differ_without_colour() -> None:
    for of in ("color", "marker", "linestyle"):
        assert len({style[of] for style in figures.STYLES}) == len(figures.STYLES) == 7


def test_errors_by_group_show_each_models_errors_and_what_groups_hold() -> None:
    table = pd.DataFrame({"model": ["a", "a", "b"], "group": [0, 2, 0], "predictions": [5, 7, 5]})
    table = table.assign(residual=[-1.0, 2.0, 3.0], residual_half=[0.5, np.nan, 0.1])
    styles = {"a": figures.STYLES[0], "b": figures.STYLES[1]}
    upper, lower = figures.errors_by_group(table, {"residual": "points"}, ["x", "y", "z"], "group", styles).axes
    np.testing.assert_allclose(_line(upper, "a")[:, 1], [-1, 2])
    assert upper.get_ylim()[0] < -1.5
    assert [bar.get_height() for bar in lower.patches] == [5, 0, 7]


def test_cutoffs_in_points_are_joined_and_the_others_stand_alone() -> None:
    table = pd.DataFrame({"model": "a", "cutoff": ["50", "median", "75"], "auroc": [0.7, 0.6, 0.8]})
    names = {"50": "≥ 50", "75": "≥ 75", "median": "median"}
    joined, alone = figures.scores_by_cutoff(table, {"auroc": "AUROC"}, names, {"a": figures.STYLES[1]}).axes[0].lines
    np.testing.assert_allclose(joined.get_ydata(), [0.7, 0.8])
    assert (joined.get_linestyle(), alone.get_linestyle()) == ("-", "None")
    np.testing.assert_allclose(alone.get_xydata(), [[2, 0.6]])


def test_svg_is_text_with_ids_of_its_own_and_the_same_every_time() -> None:
    def draw(name: str) -> str:
        return figures.svg(figures.bars(["a_b", "c"], np.array([1.0, -2.0]), np.array([0.5, 0.1]), "points"), name)

    assert draw("one") == draw("one")
    assert ">a b</text>" in draw("one")
    ids = [set(re.findall(r' id="([^"]*)"', draw(name))) for name in ("one", "two")]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_a_sum_of_parts_ends_at_the_prediction():
    values = np.array([-5.0, 3.0, 1.5])
    figure = figures.sum_of_parts(["some songs known", "title", "energy 0.5"], values, 40.0, "A song")
    axes = figure.axes[0]
    bars = sorted(axes.patches, key=lambda bar: bar.get_y())
    assert [bar.get_x() + bar.get_width() for bar in bars] == pytest.approx([35, 38, 39.5])
    assert axes.lines[-1].get_xdata() == pytest.approx([40, 39.5])
    texts = [label.get_text() for label in axes.child_axes[0].get_yticklabels()]
    assert texts == ["40.0", "\u22125.0", "+3.0", "+1.5", "39.5"]


def test_a_map_of_two_features_has_the_first_on_the_horizontal_axis():
    x, y = np.array([0.0, 0.5, 1.0]), np.array([100.0, 120.0])
    table = pd.DataFrame({"prediction": np.arange(6.0), "low": np.arange(6.0) - 1, "high": np.arange(6.0) + 2})
    figure = figures.what_if_map(("energy", "tempo"), x, y, table, np.array([0.5, 120.0]))
    upper = figure.axes[0]
    assert upper.get_xlabel() == "energy"
    assert upper.collections[0].get_array().reshape(2, 3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert figure.axes[1].collections[0].get_array().ravel().tolist() == [3] * 6
