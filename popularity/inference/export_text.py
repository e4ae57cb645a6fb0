"""What `popularity.features` says of titles and albums, computed from code points: statistics, credits, n-grams.

Glossary of shapes: ``B`` songs, ``L`` characters of the longest text, ``P`` names of a text.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.features.ngrams import TextEncoder
from popularity.features.title_stats import SCRIPTS, script_of
from popularity.inference.export_characters import (
    Alphabet,
    Letters,
    at,
    behind,
    code_points,
    first,
    table_of,
)
from popularity.inference.export_lookup import Lookup, taken

#: Names that a title credits and that are read; of more, the first ones.
TITLE_NAMES = 6
_OPENED = 16  # added to the length of marks that no colon may follow
_SPANISH = ("el", "la", "de", "que", "mi", "tu", "los", "por", "amor", "una", "con")
_NO_NAMES = (
    *("me", "you", "u", "us", "him", "her", "them", "it", "love", "friends", "rap", "lyrics", "vocals", "intro"),
    *("outro", "the orchestra", "the choir", "the strings", "the piano", "the band", "orchestra", "choir", "strings"),
    *("piano", "band"),
)
_VERSIONS = ("remix", "remaster", "remastered", "version", "edit", "mix", "explicit")
_PREFIXES = ("live ", "recorded ", "prod ", "prod. ", "produced ", "remix ", "remixed ")


class Credits(nn.Module):
    """Names that a title credits: `popularity.data.credits.title_credits` for up to two credits of six names in all.

    Args:
        alphabet: of hashes.
    """

    nobody: Tensor

    def __init__(self, alphabet: Alphabet) -> None:
        super().__init__()
        self.alphabet = alphabet
        keys = alphabet.key(code_points(_NO_NAMES))
        self.register_buffer("nobody", keys.clone())  # a slice would be written whole

    def forward(self, text: Letters) -> Tensor:
        """``(B, P)`` hashes of names, 0 where there are fewer."""
        spaced = text.after_blank & behind(text.blank, 1)
        brackets, dash = text.any_of("()[]"), text.any_of("-–—") & spaced
        ends = brackets | text.end | dash | (text.any_of("/") & spaced)
        marks = self._featured(text), self._together(text, dash)
        credited, end = torch.zeros_like(ends), torch.zeros_like(text.codes[:, :1])
        for _ in range(2):
            begin = torch.minimum(*(self._names_begin(text, mark, end) for mark in marks))
            begin = torch.where(at(brackets | text.end, begin), text.place.shape[0], begin)
            end = first(ends & (text.place > begin))
            credited = credited | ((text.place >= begin) & (text.place < end))
        inside = credited & ~self._separators(text)
        keys = self.alphabet.names(text, inside, text.blank | text.any_of(".*-–—:"), TITLE_NAMES)
        keys = keys * ~self._versions(text, credited).unsqueeze(1)
        keys = keys * ~(keys.unsqueeze(2) == self.nobody).any(2)
        repeated = (keys.unsqueeze(2) == keys.unsqueeze(1)).tril(-1).any(2)
        return keys * ~repeated

    @staticmethod
    def _names_begin(text: Letters, mark: Tensor, least: Tensor) -> Tensor:
        """``(B, 1)`` first character of the names behind the first mark from a place on; L where there is none."""
        place = first((mark > 0) & (text.place >= least))
        length = at(mark, place).long()
        begin = first(~text.blank & (text.place >= place + length % _OPENED))
        colon = at(text.any_of("-:"), begin) & (length < _OPENED)
        return torch.where(colon, first(~text.blank & (text.place > begin)), begin)

    @staticmethod
    def _featured(text: Letters) -> Tensor:
        """``(B, L)``: characters of a mark such as feat. that starts here, 0 where none does."""
        numbered = text.after_blank & behind(text.digit, -2)
        free = ~text.after_word & ~numbered & (text.place > 0)
        found = torch.zeros_like(text.low)
        for word in ("feat", "featuring", "ft"):
            dotted = behind(text.any_of("."), len(word))
            found = found + (text.starts(word, right=True) & free) * (len(word) + dotted.int())
        return found

    @staticmethod
    def _together(text: Letters, dash: Tensor) -> Tensor:
        """``(B, L)``: the same for with, w/ and con in a bracket or behind a dash."""
        blank = text.after_blank
        opened = behind(text.any_of("(["), -1) & (text.place > 1)
        opened = opened | (blank & behind(dash, -2))
        found = torch.zeros_like(text.low)
        for word in ("with", "w/", "con", "duet with", "a duet with", "in duet with", "duetto con"):
            found = found + (text.starts(word) & opened & behind(text.blank, len(word))) * (len(word) + _OPENED)
        return found

    @staticmethod
    def _separators(text: Letters) -> Tensor:
        """``(B, L)``: characters between two names."""
        lone = text.any_of("x") & text.after_blank & behind(text.blank, 1)
        parts = text.any_of(",;&") | (lone & ~behind(text.any_of("&,;"), 2) & ~behind(text.starts("and"), 2))
        for word in ("and", "feat.", "ft.", "feat", "ft"):
            here = text.starts(word) & text.after_blank & behind(text.blank, len(word))
            for step in range(len(word)):
                parts = parts | behind(here, -step)
        return parts

    @staticmethod
    def _versions(text: Letters, credited: Tensor) -> Tensor:
        """``(B,)``: a remix, a live version or the like stands where names would."""
        found = torch.zeros_like(credited)
        for word in _VERSIONS:
            found = found | text.starts(word, left=True, right=True)
        begins = credited & ~behind(credited, -1)
        for prefix in _PREFIXES:
            found = found | (text.starts(prefix) & begins)
        return (found & credited).any(1)


class TitleStatistics(nn.Module):
    """`popularity.features.title_stats.title_statistics` of code points.

    Args:
        alphabet: of hashes.
    """

    flags: Tensor
    of: Tensor

    def __init__(self, alphabet: Alphabet) -> None:
        super().__init__()
        self.credits = Credits(alphabet)
        kinds: dict[tuple[bool, ...], int] = {}
        self.register_buffer("of", table_of(lambda c: kinds.setdefault(_flags(c), len(kinds) + 1), torch.uint8))
        self.register_buffer("flags", torch.tensor([_flags(""), *kinds]).float())

    def forward(self, text: Letters) -> tuple[Tensor, Tensor]:
        """Statistics ``(B, 22)`` float32, NaN where missing, and hashes of the credited names ``(B, P)``."""
        counts = taken(self.flags, taken(self.of, text.codes).long()).sum(1)
        letters, upper, lower, brackets, foreign, punctuation = counts[:, :6].unbind(1)
        letters = letters.clamp_min(1)
        names = self.credits(text)
        begins = ~text.blank & ~text.end & (text.after_blank | (text.place == 0))
        year = self._year(text)
        columns = [
            (~text.end).sum(1).float(),
            begins.sum(1).float(),
            (names != 0).sum(1).float(),
            *(found.float() for found in self._patterns(text)),
            (~year.isnan()).float(),
            year,
            brackets,
            foreign,
            punctuation,
            ((upper == 0) & (lower > 0)).float(),
            upper / letters,
            *(counts[:, 6:] / letters.unsqueeze(1)).unbind(1),
        ]
        statistics = torch.stack(columns, 1)
        return statistics.masked_fill(text.end[:, :1], torch.nan), names

    @staticmethod
    def _patterns(text: Letters) -> list[Tensor]:
        """``(B,)`` bool each, in the order of the patterns of `popularity.features.title_stats`."""

        def words(*some: str) -> Tensor:
            found = text.starts(some[0], left=True, right=True)
            for word in some[1:]:
                found = found | text.starts(word, left=True, right=True)
            return found.any(1)

        opener = text.any_of("-([")
        opened = text.place > first(opener)
        spaced = opener | (text.any_of(" ") & behind(opener, -1))
        quoted = text.starts("from ") & behind(text.any_of("\"'“‘"), 5)
        about = (text.starts("from", right=True) & behind(spaced, -1)) | quoted
        return [
            text.starts("remix").any(1),
            (text.starts("live", left=True, right=True) & opened).any(1),
            text.starts("remaster").any(1),
            words("mono", "stereo", "version", "edit", "mix"),
            (about | text.starts("motion picture") | text.starts("soundtrack")).any(1) | words("theme"),
            text.starts(" - ").any(1),
            words(*_SPANISH),
        ]

    @staticmethod
    def _year(text: Letters) -> Tensor:
        """``(B,)`` float32 last year from 1950 to 2029, NaN where there is none."""
        whole = ~text.after_word & ~behind(text.word, 4)
        value, number = (text.codes - 48).int(), torch.zeros_like(text.low)
        for step in range(4):
            whole = whole & behind(text.digit, step)
            number = number * 10 + behind(value, step)
        whole = whole & (number >= 1950) & (number <= 2029)
        last = torch.where(whole, text.place, -1).amax(1, keepdim=True)
        return torch.where(last >= 0, at(number, last).float(), torch.nan).squeeze(1)


def _flags(char: str) -> tuple[bool, ...]:
    """What is counted of a character: letter, upper, lower, bracket, not ASCII, punctuation, and its script."""
    if not char:
        return (False,) * (6 + len(SCRIPTS))
    script = script_of(char) if char.isalpha() else ""
    punctuation = not (char.isalnum() or char.isspace())
    plain = (char.isalpha(), char.isupper(), char.islower(), char in "([{", not char.isascii(), punctuation)
    return (*plain, *(script == name for name in SCRIPTS))


class Components(nn.Module):
    """Leading components of the TF-IDF of n-grams, and scores: `popularity.features.ngrams.TextEncoder` of code points.

    Args:
        text: fitted. Its scores read the n-grams of characters that its components are of.
    """

    letter: Tensor
    idf: Tensor
    weights: Tensor
    shift: Tensor

    _SIZES = (2, 3, 4)

    def __init__(self, text: TextEncoder) -> None:
        super().__init__()
        terms = text.vocabulary[text.read]
        letters = sorted({char for term in terms for char in term} - {" "})
        place = {char: number + 2 for number, char in enumerate(letters)}  # 0: no letter of these; 1: blank
        self.base = len(letters) + 2
        self.register_buffer("letter", table_of(lambda c: 1 if c.isspace() else place.get(c.lower(), 0), torch.int32))
        place[" "] = 1
        packed = [sum(place[char] * self.base**i for i, char in enumerate(term)) for term in terms]
        self.find = Lookup(torch.tensor(packed, dtype=torch.int64))
        # the last row is that of n-grams without a place
        self.register_buffer("idf", F.pad(torch.from_numpy(text.idf[text.read].copy()).float(), (0, 1)))
        moments = [(text.intercept[name], *text.score_moments[name]) for name in text.scores]
        intercept, mean, spread = np.array(moments).reshape(-1, 3).T
        weights = (
            np.stack([text.coefficients[name] for name in text.scores], 1) if text.scores else np.zeros((len(terms), 0))
        )
        weights = np.concatenate([text.projection / text.scale, weights / spread], axis=1)
        self.register_buffer("weights", F.pad(torch.from_numpy(weights).float(), (0, 0, 0, 1)))
        shift = np.concatenate([np.zeros(text.components), (intercept - mean) / spread])
        self.register_buffer("shift", torch.from_numpy(shift * bool(terms)).float())

    def forward(self, codes: Tensor) -> Tensor:
        """``(B, components + scores)`` float32, within -4 and 4."""
        letters = torch.where(codes == 0, 1, taken(self.letter, codes).long())
        packed = F.pad(letters, (1, 0), value=1)
        found = []
        known, whole = packed > 0, packed
        for size in range(1, max(self._SIZES)):
            following = behind(packed, size, 1)
            known, whole = known & (following > 0), whole + following * self.base**size
            found.append(torch.where(known, whole, 0))
        index = self.find(torch.cat(found, 1))
        index = torch.where(index < 0, len(self.idf) - 1, index)
        count = self.idf.new_zeros(codes.shape[0], len(self.idf)).scatter_add(1, index, torch.ones_like(index).float())
        count = count.gather(1, index)
        # an n-gram that occurs several times is met as often, each time with its share
        weight = taken(self.idf, index) * (1 + count.log())
        norm = (weight.square() / count).sum(1, keepdim=True).sqrt()
        share = weight / count / torch.where(norm > 0, norm, 1)
        mixed = torch.bmm(share.unsqueeze(1), taken(self.weights, index)).squeeze(1)
        return (mixed + self.shift).clamp(-4, 4)
