"""TF-IDF of n-grams as a graph: `popularity.features.ngrams` of code points.

Letters lead from node to node of a tree, in tables. A row of a table holds what the n-grams on the way to a node add to
a text's sums, as if the text had each of them once; for the few that it has several times, the difference is added.

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
        node, parent = self._tree(terms, {" ": 1, **place})
        moments = [(text.intercept[name], *text.score_moments[name]) for name in text.scores]
        intercept, mean, spread = np.array(moments).reshape(-1, 3).T
        weights = (
            np.stack([text.coefficients[name] for name in text.scores], 1) if text.scores else np.zeros((len(terms), 0))
        )
        weights = np.concatenate([text.projection / text.scale, weights / spread], axis=1)
        # of each n-gram: what it adds to the sums, and to the square of the length
        idf = text.idf[text.read][:, None]
        rows = np.zeros((self.nodes, weights.shape[1] + 1))
        rows[node] = np.concatenate([weights * idf, idf**2], axis=1)
        for number in range(1, self.nodes):  # parents come first
            rows[number] += rows[parent[number]]
        self.register_buffer("weights", torch.from_numpy(rows).float())
        shift = np.concatenate([np.zeros(text.components), (intercept - mean) / spread])
        self.register_buffer("shift", torch.from_numpy(shift * bool(terms)).float())

    def _tree(self, terms: Sequence[str], letters: Mapping[str, int]) -> tuple[list[int], list[int]]:
        """Make the tree in which letters lead from node to node of the n-grams; node 0 is a dead end.

        Args:
            terms: the n-grams.
            letters: of which they are made; their numbers are those of the nodes of one letter.

        Returns:
            The nodes of the n-grams, and for each node the one that leads to it. Longer ones have higher numbers.
        """
        node = dict(letters)
        for size in range(2, _LONGEST + 1):
            starts = sorted({term[:size] for term in terms if len(term) >= size})
            node |= {start: number for number, start in enumerate(starts, len(node) + 1)}
            if size == 2:
                self.pairs = len(node) + 1  # nodes of up to two letters come first
        self.nodes = len(node) + 1
        following, parent = np.zeros((self.nodes, self.letters), dtype=np.int32), [0] * self.nodes
        for start, number in node.items():
            if len(start) > 1:
                parent[number] = node[start[:-1]]
                following[parent[number], letters[start[-1]]] = number
        inner = max((number for start, number in node.items() if len(start) < _LONGEST), default=0)
        self.register_buffer("following", torch.from_numpy(following[: inner + 1].ravel()))
        return [node[term] for term in terms], parent

    def forward(self, text: Letters) -> Tensor:
        """``(B, components + scores)`` float32, within -4 and 4."""
        letter = taken(self.letter, text.codes)
        nodes = [behind(letter, -1, 1)]  # an n-gram may begin in front of a text
        for step in range(_LONGEST - 1):
            nodes.append(taken(self.following, nodes[-1] * self.letters + behind(letter, step, 1)))
        longest = torch.maximum(torch.maximum(*nodes[1:3]), nodes[3])  # a dead end is 0
        # a character in front of all texts is no letter of any
        sums = torch.zeros(text.stop.shape[0], self.weights.shape[1])
        sums = sums.index_put((text.row,), taken(self.weights, longest), accumulate=True)
        sums = sums.index_put(*self._repeated(text, nodes[1:]), accumulate=True)
        norm = sums[:, -1:].sqrt()
        mixed = sums[:, :-1] / torch.where(norm > 0, norm, 1)
        return (mixed + self.shift).clamp(-4, 4)

    def _repeated(self, text: Letters, nodes: Sequence[Tensor]) -> tuple[tuple[Tensor], Tensor]:
        """Texts that have an n-gram several times ``(R,)``, and what each time of it adds to their sums.

        Args:
            text: of the songs.
            nodes: ``(T,)`` of the n-grams of two, three and four letters that begin at each character.
        """
        pair = nodes[0]
        place = text.row * self.pairs + pair
        count = torch.zeros(text.stop.shape[0] * self.pairs, dtype=torch.int16)
        count = taken(count.scatter_add(0, place, torch.ones_like(place, dtype=torch.int16)), place)
        repeated, again = count > 1, []
        for step, node in enumerate(nodes):
            # a longer n-gram is repeated only where all pairs of its letters are
            repeated = repeated & behind(repeated, 1) if step else repeated
            again.append(F.pad(places(repeated & (node > 0)), (2, 0)))  # two more, for tensors that are not empty
        found = [taken(node, some) for node, some in zip(nodes, again, strict=True)]
        before = [taken(node, some) for node, some in zip((torch.zeros_like(pair), *nodes[:-1]), again, strict=True)]
        row, node = taken(text.row, torch.cat(again)), torch.cat(found)
        longer = taken(text.row, torch.cat(again[1:])) * self.nodes + torch.cat(found[1:])
        _, index, counts = torch.unique(longer, return_inverse=True, return_counts=True)
        times = torch.cat([taken(count, again[0]).float(), taken(counts, index).float()]).unsqueeze(1)
        # of n times, each counts for an n-th of 1 + log n, and of its square
        weight = 1 + times.log()
        own = taken(self.weights, node) - taken(self.weights, torch.cat(before))
        more = torch.cat([own[:, :-1] * (weight / times - 1), own[:, -1:] * (weight.square() / times - 1)], 1)
        return (row,), more
