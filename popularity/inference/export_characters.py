"""Texts as tensors of code points, and what can be said of them without a text: for graphs without Python.

A text comes as a row of code points, padded behind its end with 0; a missing text is a row of zeros. What is asked of
texts is asked of all their characters in one row, since most texts are far shorter than the longest. Tables say of each
code point what Python says of the character, up to `LIMIT`; those above it are taken for Han, which most of them are.

Glossary of shapes: ``B`` songs, ``L`` characters of the longest text, ``T`` characters of all texts and what ends them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.data.credits import normalise_name, straight_quotes
from popularity.inference.export_lookup import taken

#: Code points from here on are read as one Han character.
LIMIT = 0x20000
#: Letters that patterns are made of; their places are codes of six bits, 0 for any other character. Five fit in int32.
_LETTERS = "\0abcdefghijklmnopqrstuvwxyz -()[].,;&:/\"'“‘–—*"
_BASE, _TOGETHER = 64, 5


def code_points(texts: Sequence[str]) -> Tensor:
    """Texts as ``(n, L)`` int64, with at least one column of padding."""
    longest = max(map(len, texts), default=0) + 1
    rows = [[*map(ord, text), *[0] * (longest - len(text))] for text in texts]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(texts), longest)


def table_of(value: Callable[[str], int], dtype: torch.dtype) -> Tensor:
    """A number for each character below `LIMIT`, and last that of Han above it; 0 for the padding and surrogates."""
    values = [0 if code == 0 or 0xD800 <= code < 0xE000 else value(chr(code)) for code in range(LIMIT + 1)]
    return torch.tensor(values, dtype=dtype)


def behind(x: Tensor, steps: int, fill: float = 0) -> Tensor:
    """``(T,)`` moved: each place holds what stands ``steps`` places behind it (before it, if negative)."""
    if steps >= 0:
        return F.pad(x, (0, steps), value=fill)[steps:]
    return F.pad(x, (-steps, 0), value=fill)[:steps]


def places(mask: Tensor) -> Tensor:
    """Places that are marked in a row, in rising order."""
    return mask.nonzero().squeeze(1)


def total(x: Tensor) -> Tensor:
    """``(B,)`` sums of ``(B, L)`` int64, modulo 2 ** 64.

    Not ``sum``: ONNX Runtime adds up whole numbers as float64, which holds 53 bits and ends at 2 ** 63.
    """
    return x.cumsum(1)[:, -1]


class Letters:
    """The letters of texts in one row, in which patterns are looked for. A 0 stands in front and behind each text.

    Args:
        codes: ``(B, L)`` code points.
        alphabet: says what they are.

    Attributes:
        given: ``(B, L)`` code points.
        codes: ``(T,)`` code points.
        low: ``(T,)`` places in the alphabet of patterns, lower-cased.
        place: ``(T,)`` numbers of the characters.
        row: ``(T,)`` numbers of the texts.
        start, stop: ``(B,)`` places of the first character of each text and of the 0 behind it.
        empty: ``(B,)`` bool: there is no text.
        word, blank, end, digit: ``(T,)`` bool; ``end`` is the 0.
        after_word, after_blank: ``(T,)`` bool: what stands in front of a character.
        hashed, size: ``(T,)`` parts of hashes.
    """

    def __init__(self, codes: Tensor, alphabet: Alphabet) -> None:
        self.given = codes
        size = (codes != 0).float().sum(1).long()  # ONNX Runtime adds up whole numbers slowly
        self.stop = (size + 1).cumsum(0)
        self.start, self.empty = self.stop - size, size == 0
        length: Any = self.stop[-1].item() + 1  # in a graph, a number that the texts tell
        torch._check(length >= 2)
        self.place = torch.arange(length, device=codes.device)
        ends = torch.zeros(length, dtype=torch.int64).scatter(0, self.stop, torch.ones_like(self.stop))
        self.row = ends.cumsum(0) - ends
        self.end = (ends > 0) | (self.place == 0)
        column = self.place - taken(self.start, self.row)
        flat = (self.row * codes.shape[1] + column).clamp(0, codes.numel())
        codes = F.pad(codes.flatten(), (0, 1))  # ONNX Runtime gives no column where all texts are empty
        self.codes = taken(alphabet.straight, taken(codes, flat).clamp(0, LIMIT)) * ~self.end
        self.low, kind = taken(alphabet.low, self.codes), taken(alphabet.kind, self.codes)
        self.hashed, self.size = taken(alphabet.hashed, self.codes), taken(alphabet.size, self.codes).long()
        self.word, self.blank = kind == 1, kind == 2
        self.digit = (self.codes >= 48) & (self.codes <= 57)
        self.after_word, self.after_blank = behind(self.word, -1), behind(self.blank, -1)
        self._packed = {1: self.low}
        for length in range(2, _TOGETHER + 1):
            following = behind(self.low, length - 1) * _BASE ** (length - 1)
            self._packed[length] = self._packed[length - 1] + following
        self._before_word = {length: ~behind(self.word, length) for length in range(1, 12)}

    def sums(self, x: Tensor) -> Tensor:
        """``(B, ...)`` sums over each text of ``(T, ...)`` whole numbers or float64."""
        passed = x.cumsum(0)
        return taken(passed, self.stop) - taken(passed, self.start - 1)

    def any(self, mask: Tensor) -> Tensor:
        """``(B,)`` bool: some character of a text is marked."""
        return self.sums(mask.long()) > 0

    def in_front(self, mask: Tensor) -> Tensor:
        """``(T,)`` number of marked characters of the text in front of each."""
        passed = mask.long().cumsum(0)
        return passed - mask.long() - taken(taken(passed, self.start - 1), self.row)

    def first(self, mask: Tensor, least: Tensor) -> Tensor:
        """``(B,)`` first marked place of each text from a place ``(B,)`` on, its end where there is none."""
        passed = taken(mask.long().cumsum(0) - mask.long(), least)
        found = F.pad(places(mask), (0, 1), value=1 << 40)
        return torch.minimum(taken(found, passed), self.stop)

    def any_of(self, letters: str) -> Tensor:
        """``(T,)``: the character is one of these."""
        found = self.low == _LETTERS.index(letters[0])
        for letter in letters[1:]:
            found = found | (self.low == _LETTERS.index(letter))
        return found

    def starts(self, text: str, *, left: bool = False, right: bool = False) -> Tensor:
        """``(T,)``: a text starts here.

        Args:
            text: in lower case.
            left: only where no letter or digit stands in front.
            right: only where no letter or digit follows.
        """
        head, tail = text[:_TOGETHER], text[_TOGETHER:]
        number = sum(_LETTERS.index(letter) * _BASE**place for place, letter in enumerate(head))
        found: Tensor = self._packed[len(head)] == number
        if tail:
            found = found & behind(self.starts(tail), len(head))
        if left:
            found = found & ~self.after_word
        return found & self._before_word[len(text)] if right else found


def _low(char: str) -> int:
    lowered = char.lower()
    return max(_LETTERS.find(lowered), 0) if len(lowered) == 1 else 0


def _expanded(char: str) -> str:
    """A character as `normalise_name` leaves it, taken apart so that accents may stand alone in either spelling."""
    return " " if char.isspace() else unicodedata.normalize("NFKD", normalise_name(f"-{char}-")[1:-1])


class Alphabet(nn.Module):
    """Tables over all characters, and hashes of texts.

    A hash is a polynomial in a large odd number, modulo 2 ** 64: products and sums of int64 wrap. A name's is over
    characters as `popularity.data.credits.normalise_name` leaves them, so that two spellings have one hash.
    """

    straight: Tensor
    low: Tensor
    kind: Tensor
    hashed: Tensor
    size: Tensor
    folded: Tensor
    folded_size: Tensor
    power: Tensor

    _ODD = 0x5851F42D4C957F2D
    _LONGEST = 2048

    def __init__(self) -> None:
        super().__init__()
        powers = [pow(self._ODD, place, 1 << 64) for place in range(self._LONGEST)]

        def hashed(text: str) -> int:
            return _signed(sum(ord(one) * powers[place] for place, one in enumerate(text)))

        tables = {
            "straight": table_of(lambda c: ord(straight_quotes(c)), torch.int64),
            "low": table_of(_low, torch.int32),
            "kind": table_of(lambda c: 1 * (c.isalnum() or c == "_") + 2 * c.isspace(), torch.uint8),
            "hashed": table_of(lambda c: hashed(_expanded(c)), torch.int64),
            "size": table_of(lambda c: len(_expanded(c)), torch.uint8),
            "folded": table_of(lambda c: hashed(c.casefold()), torch.int64),
            "folded_size": table_of(lambda c: len(c.casefold()), torch.uint8),
            "power": torch.tensor([_signed(value) for value in powers]),
        }
        for name, table in tables.items():
            self.register_buffer(name, table)

    def key(self, codes: Tensor) -> Tensor:
        """``(B,)`` hashes of names as they stand, 0 for a missing one."""
        return self._hash(codes, self.hashed, self.size)

    def folded_key(self, codes: Tensor) -> Tensor:
        """``(B,)`` hashes of texts whose case alone is folded, 0 for a missing one."""
        return self._hash(codes, self.folded, self.folded_size)

    def _hash(self, codes: Tensor, hashed: Tensor, sizes: Tensor) -> Tensor:
        codes = F.pad(codes, (0, 1))  # no text may be longer than nothing
        size = taken(sizes, codes).long()
        place = (size.cumsum(1) - size).clamp_max(self._LONGEST - 1)
        return total(taken(hashed, codes) * taken(self.power, place))

    def name(self, text: Letters, inside: Tensor, loose: Tensor) -> Tensor:
        """``(B,)`` hashes of the names with which texts begin, as :meth:`names` spells them; 0 where there is none.

        Args:
            text: of the songs.
            inside: ``(T,)`` bool: part of the name.
            loose: ``(T,)`` bool: dropped at the end of a name.
        """
        inside = inside & ~text.end
        core = (inside & ~loose).long()
        passed = core.cumsum(0)
        more = passed - core < taken(taken(passed, text.stop), text.row)
        first = text.place == taken(text.start, text.row)
        kept = inside & more & ~(text.blank & (text.after_blank | first))
        size = text.size * kept
        place = size.cumsum(0) - size
        place = (place - taken(taken(place, text.start), text.row)).clamp(0, self._LONGEST - 1)
        terms = (text.hashed * taken(self.power, place) * kept).cumsum(0)
        return taken(terms, text.stop) - taken(terms, text.start - 1)

    def names(self, text: Letters, inside: Tensor, loose: Tensor, most: int) -> Tensor:
        """Hashes of the names between separators, each as `popularity.data.credits.normalise_name` spells it.

        Args:
            text: of the songs.
            inside: ``(T,)`` bool: part of a name, not of a separator.
            loose: ``(T,)`` bool: dropped at the end of a name, as blanks and full stops are.
            most: names of a text; further ones are not read.

        Returns:
            ``(B, most)``, 0 where there are fewer.
        """
        inside = inside & ~text.end
        begins = inside & ~behind(inside, -1)
        count = begins.long().cumsum(0)
        # and one more, so that there is a name
        start = F.pad(places(begins), (0, 1), value=1)
        stop = F.pad(places(inside & ~behind(inside, 1)), (0, 1), value=1)
        name = (count - 1) * inside  # a product is faster than a choice
        core = (inside & ~loose).long()
        passed = core.cumsum(0)
        kept = inside & ~(text.blank & (text.after_blank | begins)) & (passed - core < taken(taken(passed, stop), name))
        size = text.size * kept
        place = size.cumsum(0) - size
        place = (place - taken(taken(place, start), name)).clamp(0, self._LONGEST - 1)
        terms = (text.hashed * taken(self.power, place) * kept).cumsum(0)
        keys = taken(terms, stop) - taken(terms, start - 1)
        before = taken(count, text.start - 1)
        number = torch.arange(most, device=count.device)
        there = number < (taken(count, text.stop) - before).unsqueeze(1)
        return taken(keys, (before.unsqueeze(1) + number) * there) * there


def without_repeats(keys: Tensor) -> Tensor:
    """``(B, P)`` keys, 0 for none and in the place of those that stand further in front too."""
    rows = F.pad(places((keys[:, 1:] != 0).any(1)), (2, 0))  # few songs; two more, for tensors that are not empty
    some = taken(keys, rows)
    repeated = (some.unsqueeze(2) == some.unsqueeze(1)).tril(-1).any(2)
    return keys.index_put((rows,), some * ~repeated)


def _signed(value: int) -> int:
    value %= 1 << 64
    return value - (1 << 64) if value >= 1 << 63 else value
