"""Why this number: the prediction of a song as a sum of parts, by integrated gradients through the network itself.

The path begins at the average song without known songs and ends at the song (Sundararajan, Taly & Yan 2017, "Axiomatic
attribution for deep networks", equation 1; captum's implementation). How many known songs a song has, and in which
roles, cannot change gradually. So the first step, from no known songs to as many average ones, is taken at once and is
a part of its own; from there on integrated gradients follow a straight line: each number moves from the average song's,
each category from unknown, each known song from an average song with average popularity.

Boosted trees, where some predict beside the network, have no gradients. Their share of the prediction is parted by the
Shapley values of their features, from the mean of their predictions; what they read of known songs is one part.

Glossary of shapes: ``D`` sampled histories, ``H`` known songs, ``C`` categories.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from popularity.data.schema import AUDIO
from popularity.errors import InputError
from popularity.features.base import Encoder
from popularity.features.encoder import HistoryEncoder
from popularity.features.related import NO_SONG
from popularity.features.song import ColumnEncoder, FeatureEncoder, piecewise_linear
from popularity.features.stacked import StackedEncoder
from popularity.inference.explain_features import KNOWN_SONGS, feature_of_tabular, features_of_numbers
from popularity.inference.explain_model import Model

#: Attributions add up to the difference from the baseline within this share of it.
TOLERANCE = 0.02

#: More steps are taken until the share is as small as this: an end of the scale on the path costs accuracy.
ENOUGH = 0.001

_STEPS, _MOST_STEPS = 32, 512
_SHARE = "share of "  # marks how far a tensor of categories has come from unknown
_ROWS = 256  # steps of the path that go through the network at once


@dataclass(frozen=True)
class Attribution:
    """One prediction as a sum, in points.

    Attributes:
        prediction: mean of the model, calibrated.
        baseline: prediction of the average song without known songs.
        having: effect of having known songs at all, as many and in the roles that it has, and of all that trees read of
            known songs.
        features: feature -> effect.
        known: row of a known song -> effect of its popularity, its features and its date.
        roles: row of a known song -> its role, see `popularity.features.related`.
    """

    prediction: float
    baseline: float
    having: float
    features: dict[str, float]
    known: dict[int, float]
    roles: dict[int, int]

    @property
    def gap(self) -> float:
        """Share of the difference from the baseline by which the parts miss it; a difference below 1 counts as 1."""
        parts = self.having + sum(self.features.values()) + sum(self.known.values())
        difference = self.prediction - self.baseline
        return abs(parts - difference) / max(abs(difference), 1.0)


def check_captum() -> None:
    """Refuse to begin without captum.

    Raises:
        InputError: it is not installed.
    """
    try:
        import captum.attr  # noqa: F401 - an extra
    except ModuleNotFoundError as error:
        raise InputError(
            "--parts songs: the package captum is missing, install this project's extra [explain]"
        ) from error


def attribute(model: Model, song: pd.DataFrame) -> Attribution:
    """Explain the prediction of one song.

    Args:
        model: trained.
        song: a song table of one row.

    Raises:
        InputError: an own encoder, whose numbers have unknown origins.
    """
    path, steps = _Path(model, song), _STEPS
    while True:
        found = path.integrate(steps)
        if found.gap <= ENOUGH or 2 * steps > _MOST_STEPS:
            return found
        steps *= 2


def average_song(encoder: Encoder) -> dict[str, Tensor]:
    """What an encoder gives for the average song: tensors of floats without the dimension of songs; known songs too."""
    if isinstance(encoder, HistoryEncoder):
        song, month = encoder.known["song"].mean(0), encoder.known["month"].nanmean()
        own = {"song": song, "month": month, "extras": torch.zeros(encoder.inputs.extras)}
        known = {"history_song": song, "history_month": month, "history_label": torch.zeros(())}
        return {**own, **known}
    if isinstance(encoder, FeatureEncoder):
        numeric = torch.zeros(encoder.inputs.numeric)
        bins = piecewise_linear(numeric, torch.from_numpy(encoder.edges).float())
        title = torch.zeros(encoder.inputs.title)
        title[-1] = float(not encoder.present[-1])  # no title, where no song has one
        return {"numeric": numeric, "bins": bins, "title": title}
    if isinstance(encoder, ColumnEncoder):  # what is missing becomes the mean of the training songs
        return {"columns": encoder.encode(pd.DataFrame(np.nan, index=[0], columns=list(AUDIO)))["columns"][0]}
    raise InputError(f"explain: expected an encoder of this project, got {type(encoder).__name__}")


class _Path:
    """The straight line from the average song to a song, as captum walks it. All tensors have one row, the song."""

    def __init__(self, model: Model, song: pd.DataFrame) -> None:
        self.module, self.encoder = model.module, model.encoder
        self.features = features_of_numbers(self.encoder)
        generator = torch.Generator().manual_seed(0)
        encoded = self.encoder.encode(song)
        self.trees = self._of_trees(encoded)
        rows = self.encoder.sample(encoded, generator, training=False, samples=model.samples)
        rows.pop("length", None)
        self.known = rows.get("known")  # (1, D, H)
        batch = self.encoder.attach(rows)
        self.by_sample = {name for name in batch if name in self.encoder.padded or name.startswith("history_")}
        batch = self._turned(batch)
        self.role = batch.get("role")
        average = average_song(self.encoder)
        self.start, self.end, self.fixed = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
        for name, value in batch.items():
            if not value.is_floating_point() or not value.numel() or name == "tree":
                self.fixed[name] = value
                continue
            still = value.isnan() | average[name].isnan()
            self.start[name], self.end[name] = torch.where(still, value, average[name]), value
        self.codes = torch.tensor(self.encoder.inputs.codes, dtype=torch.long)
        tables = (item for item in self.module.net.named_modules() if isinstance(item[1], nn.Embedding))
        self.tables = {
            f"{name}.weight": table.weight.detach()
            for name, table in tables
            if table.num_embeddings == int(self.codes.sum())
        }
        for name in ("category", "history_category") if self.tables else ():
            if name in batch and batch[name].numel():
                self.end[_SHARE + name] = torch.ones(batch[name].shape)
                self.start[_SHARE + name] = torch.zeros(batch[name].shape)
        self.by_sample |= {_SHARE + name for name in self.by_sample}

    def integrate(self, steps: int) -> Attribution:
        """Follow the line in so many steps."""
        from captum.attr import IntegratedGradients

        found = IntegratedGradients(self._forward).attribute(
            inputs=tuple(self.end.values()),
            baselines=tuple(self.start.values()),
            additional_forward_args=tuple(self.fixed.values()),
            n_steps=steps,
            internal_batch_size=_ROWS,
        )
        features, known = self._summed(dict(zip(self.end, found, strict=True)))
        baseline, start = self._value(self.start, nobody=True), self._value(self.start)
        for feature, points in self.trees.items():
            features[feature] = features.get(feature, 0.0) + points
        having = start - baseline + features.pop(KNOWN_SONGS, 0.0)
        baseline -= sum(self.trees.values())  # which the trees' whole prediction was part of
        return Attribution(self._value(self.end), baseline, having, features, known, self._roles())

    def _of_trees(self, encoded: dict[str, Tensor]) -> dict[str, float]:
        """What the trees' share of the prediction owes to each feature, in points; nothing where there are no trees."""
        if not isinstance(self.encoder, StackedEncoder):
            return {}
        share, found = float(self.module.calibration.slope * self.module.calibration.weight), dict[str, float]()
        for name, points in self.encoder.contributions(encoded).items():
            feature = feature_of_tabular(name)
            found[feature] = found.get(feature, 0.0) + share * float(points[0])
        return found

    def _summed(self, found: Mapping[str, Tensor]) -> tuple[dict[str, float], dict[int, float]]:
        """Effects of each feature, and of each known song over all samples that it stands in."""
        features, known = dict[str, float](), dict[int, float]()
        for name, values in found.items():
            name = name.removeprefix(_SHARE)
            values = torch.nan_to_num(values.detach().double())
            if name not in self.by_sample:
                for feature, value in zip(self.features[name], values.flatten().tolist(), strict=True):
                    features[feature] = features.get(feature, 0.0) + value
                continue
            assert self.known is not None
            assert self.role is not None
            here = self.role != NO_SONG
            of_song = values.reshape(*here.shape, -1).sum(-1)[here]
            for row, value in zip(self.known[here].tolist(), of_song.tolist(), strict=True):
                known[row] = known.get(row, 0.0) + value
        return features, known

    def _roles(self) -> dict[int, int]:
        if self.known is None or self.role is None:
            return {}
        here = self.role != NO_SONG
        return dict(zip(self.known[here].tolist(), self.role[here].tolist(), strict=True))

    def _value(self, moving: Mapping[str, Tensor], *, nobody: bool = False) -> float:
        """Prediction at one place; with ``nobody``, without known songs."""
        fixed = dict(self.fixed)
        if nobody and "role" in fixed:
            fixed["role"] = torch.full_like(fixed["role"], NO_SONG)
            if "same_album" in fixed:
                fixed["same_album"] = torch.zeros_like(fixed["same_album"])
        with torch.no_grad():
            return float(self._forward(*moving.values(), *fixed.values()))

    def _forward(self, *tensors: Tensor) -> Tensor:
        """Predictions ``(B,)`` of tensors that lead with ``B`` steps, in the order of ``end`` and ``fixed``."""
        batch = dict(zip([*self.end, *self.fixed], tensors, strict=True))
        # captum asks for the gradient of every input, also of those that this song's sequence has no use for
        unused = sum((0.0 * torch.nan_to_num(batch[name]).sum() for name in self.end), torch.zeros(()))
        batch = self._turned(batch)
        shares = {name[len(_SHARE) :]: batch.pop(name) for name in list(batch) if name.startswith(_SHARE)}
        raw = torch.func.functional_call(self.module.net, self._mixed(batch, shares), (batch,))
        head, calibration = self.module.head, self.module.calibration
        prediction: Tensor = head.predict(head.mix(raw) if raw.ndim == 3 else raw)
        if not calibration.is_identity():  # only the mean: a calibrated distribution would be solved for at every step
            shift = calibration.shift(prediction, batch.get("tree"))
            prediction = (shift + calibration.slope * prediction).clamp(0.0, 100.0)
        return prediction + unused

    def _turned(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Swap songs and samples where a tensor has both: networks want the samples in front, captum the songs."""
        return {name: value.transpose(0, 1) if name in self.by_sample else value for name, value in batch.items()}

    def _mixed(self, batch: dict[str, Tensor], shares: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tables of category embeddings with a row for every code of the batch, part of the way from unknown to it.

        The codes of the batch are replaced by those of the new rows.
        """
        if not shares:
            return {}
        unknown = self.codes.cumsum(0) - self.codes  # (C,) row of code 0 of each category
        begin, rows = int(self.codes.sum()), []
        for name in shares:
            row = batch[name] + unknown
            batch[name] = begin + torch.arange(row.numel()).view(row.shape) - unknown
            begin += row.numel()
            rows.append((row.flatten(), unknown.expand_as(row).flatten()))
        goal, origin = (torch.cat(part) for part in zip(*rows, strict=True))
        share = torch.cat([share.flatten() for share in shares.values()]).unsqueeze(1)
        return {
            name: torch.cat([table, torch.lerp(table[origin], table[goal], share)])
            for name, table in self.tables.items()
        }
