"""What each section says above its plots: what one sees, and what it does not prove."""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """The text of a section; ``{reference}`` stands for the model that others are compared with."""

    title: str
    sees: str
    limits: str


WORDS: dict[str, Words] = {
    "scores": Words(
        "All scores",
        "One row per model, best first, those on fewer folds after the others; each score is the mean over the folds "
        "that the model was tested on. MSE is the mean squared error in points², RMSE its root, MAE the mean distance "
        "in points; R² is the share of the spread explained; Spearman says how well songs are put in order; within 5: "
        "share of songs with an error of at most 5 points. The tinted row is the reference.",
        "A small difference between two rows is not yet a difference between two models: see the intervals below. A "
        "model with fewer folds was tested on fewer songs, and seconds depend on the machine.",
    ),
    "ranking": Words(
        "Ranking",
        "The squared error of each model as a share of that of the reference, {reference}, on the same folds. Left "
        "of the dashed line is better. The bar is a 95 % interval over folds, widened because folds share most of "
        "their training songs (Nadeau and Bengio, 2003). A number in brackets: tested on so many folds only, and "
        "so below the others, since a ratio of other folds is another one.",
        "It ranks these models on this one table of songs. Bars that overlap each other do not mean that two models "
        "are equal, and another data set or another year of popularity can change the order.",
    ),
    "differences": Words(
        "Paired differences",
        "Each pale dot is one fold: the model's squared error minus that of {reference} on the very same songs. The "
        "blue mark is their mean with the corrected 95 % interval; an interval left of the dashed line is a win "
        "that chance hardly explains. A thin black line, where there is one, is the interval over songs: what other "
        "artists would have given these fitted models (bootstrap).",
        "With many models beside one reference, about one interval in twenty misses zero by chance alone. Dots of "
        "one model are not independent: folds overlap in their training songs, and repeats test the same songs "
        "again.",
    ),
    "claims": Words(
        "Reported and measured",
        "Results that earlier projects reported, beside the same method measured here: once with their way of "
        "splitting, leaks included, and once with honest folds.",
        "Songs, or the day on which popularity was measured, may differ from theirs, so a gap does not prove a "
        "mistake in one particular figure.",
    ),
    "predicted": Words(
        "Predicted against true",
        "Darker cells of two by two points hold more predictions (logarithmic shades). On the dashed diagonal a "
        "prediction is right; the orange line is the mean truth of ten equally large groups of predictions, and "
        "lies on the diagonal where a model is right on average.",
        "An orange line on the diagonal shows honest averages, not good predictions of single songs: the height of "
        "the cloud is what remains unknown.",
    ),
    "residuals": Words(
        "Residuals",
        "The first plot shows how prediction errors are spread. The second sets quantiles of the errors against "
        "those of a normal distribution; on the thin dashed line errors are normal.",
        "Errors need not be normal for a model to be good. Popularity stops at 0 and at 100, and a few songs are "
        "far less popular than others like them: no bell curve follows that, so the ends often bend for every model.",
    ),
    "bands": Words(
        "Error by popularity",
        "Songs in bands of ten points of their true popularity: the typical error above, the mean error in the "
        "middle, the number of songs below. Intervals are 95 %, clustered by artist.",
        "Bands are cut by the answer, so every honest model predicts too much at the bottom and too little at the "
        "top. That slope alone is no fault; compare models within a band.",
    ),
    "known": Words(
        "Error by known songs",
        "How many songs by the credited artists were among the training songs of the fold, guests and names "
        "credited in titles included. Left is a cold start, right an artist the model knows well. Intervals are 95 "
        "%, clustered by artist.",
        "Artists with many songs also differ from the others in fame and in how alike their songs are. A falling "
        "line mixes what is known about them with what kind of artists they are.",
    ),
    "hits": Words(
        "Hit prediction",
        "Scores of telling hits from the rest. AUROC is the chance that a hit is ranked above another song; "
        "accuracy stands beside what always guessing the majority would reach. Where a row is tinted, the AUROC "
        "difference is to it on the same folds, above 0 for the better, with a corrected 95 % interval.",
        "Where hits are rare a high accuracy means nothing, and F1, precision and recall depend on the threshold, "
        "which was chosen without the test songs.",
    ),
    "curves": Words(
        "ROC and precision-recall",
        "Every point is a threshold, from strict at the left to lenient at the right; curves are means over folds, "
        "and so are the numbers in the legends (AUROC, average precision).",
        "ROC looks flattering where hits are rare; precision-recall shows what share of the songs called hits are "
        "hits. Neither says whether the probabilities can be taken at their word: see calibration.",
    ),
    "confusion": Words(
        "Confusion",
        "What became of the hits (upper row) and of the others (lower row), summed over all folds, each fold at the "
        "threshold chosen without its test songs. Percentages are shares of a row; counts include every repeat.",
        "The threshold serves one goal only. Someone who pays differently for a missed hit than for a false alarm "
        "would choose another, and the squares would change.",
    ),
    "cutoffs": Words(
        "Scores against the cut-off",
        "The same models when a hit is defined more and more strictly; definitions relative to the other songs "
        "stand apart at the right.",
        "Scores at different cut-offs are scores of different tasks. Average precision and F1 fall as hits get "
        "rarer even for an equally good model.",
    ),
    "calibration": Words(
        "Calibration",
        "Songs in ten groups by the probability that a model gave: on the dashed line, of the songs given 30 % "
        "three in ten are hits.",
        "A model that gives every song the base rate lies on the line too. Calibration is about honesty, the ROC "
        "curve about skill. What undersampling and class weights do to probabilities has been put right here by the "
        "share of hits among the training songs, or by a logistic curve fitted to inner folds of them.",
    ),
    "correlations": Words(
        "Correlations",
        "Spearman's rank correlation of every pair of columns: blue where both rise together, orange where one "
        "falls as the other rises.",
        "Correlation is not cause. A pale cell can hide a curved relation, and popularity is also made by things "
        "that no audio column holds.",
    ),
    "coefficients": Words(
        "Linear coefficients",
        "Least squares on the audio columns, fitted to the training songs of each fold: points of popularity for "
        "one standard deviation more of a column, the others held equal. Lines are 95 % intervals of the "
        "delete-d jackknife (Shao & Wu, 1989).",
        "Columns overlap (energy and loudness partly say the same), so that one coefficient can grow at another's "
        "cost. A louder master does not make a song popular. Under `time`, where training songs grow from fold to "
        "fold, the intervals are a rough guide.",
    ),
    "importance": Words(
        "Permutation importance",
        "How much the squared error on test songs rises when one column is shuffled among them; lines are one "
        "standard deviation.",
        "It says what one model uses, not what matters in the world. A column whose content stands in another one "
        "too looks unimportant.",
    ),
    "largest": Words(
        "Largest errors",
        "The songs that were predicted furthest above and below their popularity, mean of all repeats.",
        "Extreme errors show where a model has no information, such as a sudden fashion or a forgotten version of a "
        "famous song. They are a handful of songs, picked because they are wrong.",
    ),
}
