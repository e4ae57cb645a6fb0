"""TF-IDF of n-grams as a graph: `popularity.features.ngrams` of code points.

Letters lead from node to node of a tree, in tables. What a song's n-grams add up to is the sum of rows of a table, for
those that a text has once; the few others are counted.

Glossary of shapes: ``B`` songs, ``T`` characters of all texts and what ends them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from popularity.features.ngrams import TextEncoder
from popularity.inference.export_characters import Letters, behind, places, table_of
from popularity.inference.export_lookup import Tables, taken

_LONGEST = 4  # letters of an n-gram; the shortest have two


class Components(Tables):
    """Leading components of the TF-IDF of n-grams, and scores: `popularity.features.ngrams.TextEncoder` of code points.

    Args:
        text: fitted. Its scores read the n-grams of characters that its components are of.
    """

    def __init__(self, text: TextEncoder) -> None:
        super().__init__()
        terms = text.vocabulary[text.read]
        letters = sorted({char for term in terms for char in term} - {" "})
        place = {char: number + 2 for number, char in enumerate(letters)}  # 0: no letter of these; 1: blank
        code = table_of(lambda c: 1 if c.isspace() else place.get(c.lower(), 0), torch.int32)
        code[0] = 1  # what ends a text is a blank
        self.register_buffer("letter", code)
        self.letters = len(letters) + 2
        self.nodes = self.pairs = 0
        node = self._tree(terms, {" ": 1, **place})
        moments = [(text.intercept[name], *text.score_moments[name]) for name in text.scores]
        intercept, mean, spread = np.array(moments).reshape(-1, 3).T
        weights = (
            np.stack([text.coefficients[name] for name in text.scores], 1) if text.scores else np.zeros((len(terms), 0))
        )
        weights = np.concatenate([text.projection / text.scale, weights / spread], axis=1)
        # of each node: what it adds to the sums, and to the square of the length
        idf = text.idf[text.read][:, None]
        rows = np.zeros((self.nodes, weights.shape[1] + 1))
        rows[node] = np.concatenate([weights * idf, idf**2], axis=1)
        self.register_buffer("weights", torch.from_numpy(rows).float())
        shift = np.concatenate([np.zeros(text.components), (intercept - mean) / spread])
        self.register_buffer("shift", torch.from_numpy(shift * bool(terms)).float())

    def _tree(self, terms: Sequence[str], letters: Mapping[str, int]) -> list[int]:
        """Make the tree in which letters lead from node to node of the n-grams; node 0 is a dead end.

        Args:
            terms: the n-grams.
            letters: of which they are made; their numbers are those of the nodes of one letter.

        Returns:
            The nodes of the n-grams.
        """
        node = dict(letters)
        for size in range(2, _LONGEST + 1):
            starts = sorted({term[:size] for term in terms if len(term) >= size})
            node |= {start: number for number, start in enumerate(starts, len(node) + 1)}
            if size == 2:
                self.pairs = len(node) + 1  # nodes of up to two letters come first
        self.nodes = len(node) + 1
        following = np.zeros((self.nodes, self.letters), dtype=np.int32)
        for start, number in node.items():
            if len(start) > 1:
                following[node[start[:-1]], letters[start[-1]]] = number
        inner = max((number for start, number in node.items() if len(start) < _LONGEST), default=0)
        self.register_buffer("following", torch.from_numpy(following[: inner + 1].ravel()))
        return [node[term] for term in terms]

    def forward(self, text: Letters) -> Tensor:
        """``(B, components + scores)`` float32, within -4 and 4."""
        letter = taken(self.letter, text.codes)
        nodes = [behind(letter, -1, 1)]  # an n-gram may begin in front of a text
        for step in range(_LONGEST - 1):
            nodes.append(taken(self.following, nodes[-1] * self.letters + behind(letter, step, 1)))
        rows = [taken(self.weights, node) for node in nodes[1:]]
        again, more = self._repeated(text, nodes[1:])
        sums = sum(rows[1:], rows[0])
        sums = text.sums(sums.index_put((again,), taken(sums, again) + more).double())
        norm = sums[:, -1:].sqrt()
        mixed = (sums[:, :-1] / torch.where(norm > 0, norm, 1)).float()
        return (mixed + self.shift).clamp(-4, 4)

    def _repeated(self, text: Letters, nodes: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Places where n-grams begin that a text has several times, and what this adds to their rows of ``weights``."""
        pair = nodes[0]
        place = text.row * self.pairs + pair
        count = torch.zeros(text.stop.shape[0] * self.pairs, dtype=torch.int16)
        count = taken(count.scatter_add(0, place, torch.ones_like(place, dtype=torch.int16)), place).int()
        # a longer n-gram is repeated only if the first two letters are; two more, for tensors that are not empty
        again = F.pad(places((count > 1) & (pair > 0)), (2, 0))
        node = torch.stack([taken(some, again) for some in nodes], 1).flatten()
        key = taken(text.row, again).unsqueeze(1).expand(-1, len(nodes)).flatten() * self.nodes + node
        _, index, counts = torch.unique(key, return_inverse=True, return_counts=True)
        times = taken(counts, index).float().unsqueeze(1)
        # of n times, each counts for an n-th of 1 + log n, and of its square
        weight = 1 + times.log()
        factor = torch.cat([(weight / times).expand(-1, self.weights.shape[1] - 1), weight.square() / times], 1) - 1
        return again, (taken(self.weights, node) * factor).unflatten(0, (-1, len(nodes))).sum(1)
