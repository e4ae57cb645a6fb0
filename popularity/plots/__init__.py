"""All pictures, for TensorBoard and for the report: pure functions from arrays to a matplotlib Figure.

Nothing here touches pyplot or any other global state, so a figure can be plotted in a training process, on any thread,
without a display. Popularity is in points (0-100); a residual is true minus predicted.
"""

from popularity.plots.comparison import bars, correlation_map, errors_by_group, forest, scores_by_cutoff
from popularity.plots.explanations import changes, curves, sum_of_parts, what_if_line, what_if_map
from popularity.plots.hits import hit_curves
from popularity.plots.songs import calibration, popularity_histogram, predicted_against_true, residuals
from popularity.plots.style import STYLES, line_styles, svg

__all__ = [
    "STYLES",
    "bars",
    "calibration",
    "changes",
    "correlation_map",
    "curves",
    "errors_by_group",
    "forest",
    "hit_curves",
    "line_styles",
    "popularity_histogram",
    "predicted_against_true",
    "residuals",
    "scores_by_cutoff",
    "sum_of_parts",
    "svg",
    "what_if_line",
    "what_if_map",
]
