"""What `popularity.features` says of titles, computed from code points: statistics and credits.

Glossary of shapes: ``B`` songs, ``T`` characters of all texts and what ends them, ``P`` names of a text.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.features.title_stats import SCRIPTS, script_of
from popularity.inference.export_characters import (
    Alphabet,
    Letters,
    behind,
    code_points,
    places,
    table_of,
    without_repeats,
)
from popularity.inference.export_lookup import taken

#: Names that a title credits and that are read; of more, the first ones.
TITLE_NAMES = 6
_FIELD, _FIELDS = 1 << 12, 5  # counts of up to 2,048 characters, and how many of them a number holds
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
        some = text.starts("feat", left=True) | text.starts("w/", left=True)
        for word in ("ft", "with", "con"):
            some = some | text.starts(word, left=True, right=True)
        rows = F.pad(places(text.any(some)), (2, 0))  # few; two more, for tensors that are not empty
        names = self._names(Letters(taken(text.given, rows), self.alphabet))
        return torch.zeros_like(text.stop).unsqueeze(1).repeat(1, TITLE_NAMES).index_put((rows,), names)

    def _names(self, text: Letters) -> Tensor:
        spaced = text.after_blank & behind(text.blank, 1)
        brackets, dash = text.any_of("()[]"), text.any_of("-–—") & spaced
        ends = brackets | text.end | dash | (text.any_of("/") & spaced)
        marks = self._featured(text), self._together(text, dash)
        credited, end = torch.zeros_like(ends), text.start
        for _ in range(2):
            begin = torch.minimum(*(self._names_begin(text, mark, end) for mark in marks))
            begin = torch.where(taken(brackets, begin), text.stop, begin)
            end = text.first(ends, torch.minimum(begin + 1, text.stop))
            credited = credited | ((text.place >= taken(begin, text.row)) & (text.place < taken(end, text.row)))
        inside = credited & ~self._separators(text, credited)
        keys = self.alphabet.names(text, inside, text.blank | text.any_of(".*-–—:"), TITLE_NAMES)
        keys = keys * ~self._versions(text, credited).unsqueeze(1)
        return without_repeats(keys * ~(keys.unsqueeze(2) == self.nobody).any(2))

    @staticmethod
    def _names_begin(text: Letters, mark: Tensor, least: Tensor) -> Tensor:
        """``(B,)`` first character of the names behind the first mark from a place on, the end where there is none."""
        place = text.first(mark > 0, least)
        length = taken(mark, place).long()
        begin = text.first(~text.blank, torch.minimum(place + length % _OPENED, text.stop))
        colon = taken(text.any_of("-:"), begin) & (length < _OPENED)
        return torch.where(colon, text.first(~text.blank, torch.minimum(begin + 1, text.stop)), begin)

    @staticmethod
    def _featured(text: Letters) -> Tensor:
        """``(T,)``: characters of a mark such as feat. that starts here, 0 where none does."""
        numbered = text.after_blank & behind(text.digit, -2)
        free = ~text.after_word & ~numbered & ~behind(text.end, -1)
        found = torch.zeros_like(text.low)
        for word in ("feat", "featuring", "ft"):
            dotted = behind(text.any_of("."), len(word))
            found = found + (text.starts(word, right=True) & free) * (len(word) + dotted.int())
        return found

    @staticmethod
    def _together(text: Letters, dash: Tensor) -> Tensor:
        """``(T,)``: the same for with, w/ and con in a bracket or behind a dash."""
        blank = text.after_blank
        opened = behind(text.any_of("(["), -1) & ~behind(text.end, -2)
        opened = opened | (blank & behind(dash, -2))
        found = torch.zeros_like(text.low)
        for word in ("with", "w/", "con", "duet with", "a duet with", "in duet with", "duetto con"):
            found = found + (text.starts(word) & opened & behind(text.blank, len(word))) * (len(word) + _OPENED)
        return found

    @staticmethod
    def _separators(text: Letters, credited: Tensor) -> Tensor:
        """``(T,)``: characters between two names."""
        parts = text.any_of(",;&")
        for word in ("and", "feat.", "ft.", "feat", "ft"):
            here = text.starts(word) & text.after_blank & behind(text.blank, len(word))
            for step in range(len(word)):
                parts = parts | behind(here, -step)
        # an x between two names, not the first letter of X Ambassadors
        lone = text.any_of("x") & text.after_blank & behind(text.blank, 1)
        return parts | (
            lone & behind(credited & ~parts, -2) & ~behind(text.any_of("&,;"), 2) & ~behind(text.starts("and"), 2)
        )

    @staticmethod
    def _versions(text: Letters, credited: Tensor) -> Tensor:
        """``(B,)``: a remix, a live version or the like stands where names would."""
        found = torch.zeros_like(credited)
        for word in _VERSIONS:
            found = found | text.starts(word, left=True, right=True)
        begins = credited & ~behind(credited, -1)
        for prefix in _PREFIXES:
            found = found | (text.starts(prefix) & begins)
        return text.any(found & credited)


class TitleStatistics(nn.Module):
    """`popularity.features.title_stats.title_statistics` of code points.

    Args:
        alphabet: of hashes.
    """

    flags: Tensor
    of: Tensor
    place: Tensor

    def __init__(self, alphabet: Alphabet) -> None:
        super().__init__()
        self.credits = Credits(alphabet)
        kinds: dict[tuple[bool, ...], int] = {}
        self.register_buffer("of", table_of(lambda c: kinds.setdefault(_flags(c), len(kinds) + 1), torch.uint8))
        flags = F.pad(torch.tensor([_flags(""), *kinds]).long(), (0, -len(_flags("")) % _FIELDS))
        # several counts in one number
        self.register_buffer("place", _FIELD ** torch.arange(_FIELDS))
        self.register_buffer("flags", (flags.unflatten(1, (-1, _FIELDS)) * self.place).sum(2))

    def forward(self, text: Letters) -> tuple[Tensor, Tensor]:
        """Statistics ``(B, 22)`` float32, NaN where missing, and hashes of the credited names ``(B, P)``."""
        packed = text.sums(taken(self.flags, taken(self.of, text.codes).int()))  # (B, words)
        counts = (packed.unsqueeze(2) // self.place % _FIELD).flatten(1).float()
        letters, upper, lower, brackets, foreign, punctuation = counts[:, :6].unbind(1)
        letters = letters.clamp_min(1)
        names = self.credits(text)
        begins = ~text.blank & ~text.end & (text.after_blank | behind(text.end, -1))
        year = self._year(text)
        columns = [
            (text.stop - text.start).float(),
            text.sums(begins.long()).float(),
            (names != 0).sum(1).float(),
            *(found.float() for found in self._patterns(text)),
            (~year.isnan()).float(),
            year,
            brackets,
            foreign,
            punctuation,
            ((upper == 0) & (lower > 0)).float(),
            upper / letters,
            *(counts[:, 6:] / letters.unsqueeze(1))[:, : len(SCRIPTS)].unbind(1),
        ]
        statistics = torch.stack(columns, 1)
        return statistics.masked_fill(text.empty.unsqueeze(1), torch.nan), names

    @staticmethod
    def _patterns(text: Letters) -> list[Tensor]:
        """``(B,)`` bool each, in the order of the patterns of `popularity.features.title_stats`."""

        def words(*some: str) -> Tensor:
            found = text.starts(some[0], left=True, right=True)
            for word in some[1:]:
                found = found | text.starts(word, left=True, right=True)
            return text.any(found)

        opener = text.any_of("-([")
        opened = text.in_front(opener) > 0
        spaced = opener | (text.any_of(" ") & behind(opener, -1))
        quoted = text.starts("from ") & behind(text.any_of("\"'“‘"), 5)
        about = (text.starts("from", right=True) & behind(spaced, -1)) | quoted
        return [
            text.any(text.starts("remix")),
            text.any(text.starts("live", left=True, right=True) & opened),
            text.any(text.starts("remaster")),
            words("mono", "stereo", "version", "edit", "mix"),
            text.any(about | text.starts("motion picture") | text.starts("soundtrack")) | words("theme"),
            text.any(text.starts(" - ")),
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
        passed = taken(whole.long().cumsum(0), text.stop)
        last = taken(F.pad(places(whole), (1, 0)), passed)  # up to the end of the text
        return torch.where(last >= text.start, taken(number, last).float(), torch.nan)


def _flags(char: str) -> tuple[bool, ...]:
    """What is counted of a character: letter, upper, lower, bracket, not ASCII, punctuation, and its script."""
    if not char:
        return (False,) * (6 + len(SCRIPTS))
    script = script_of(char) if char.isalpha() else ""
    punctuation = not (char.isalnum() or char.isspace())
    plain = (char.isalpha(), char.isupper(), char.islower(), char in "([{", not char.isascii(), punctuation)
    return (*plain, *(script == name for name in SCRIPTS))
