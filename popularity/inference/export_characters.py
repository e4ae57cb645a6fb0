"""Texts as tensors of code points, and what can be said of them without a text: for graphs without Python.

A text is a row of code points, padded behind its end with 0; a missing text is a row of zeros. Tables say of each code
point what Python says of the character, up to `LIMIT`; those above it are taken for Han, which most of them are.

Glossary of shapes: ``B`` songs, ``L`` characters of the longest text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from popularity.data.credits import normalise_name
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
    """``(B, L)`` moved: each place holds what stands ``steps`` places behind it (before it, if negative)."""
    if steps >= 0:
        return F.pad(x, (0, steps), value=fill)[:, steps:]
    return F.pad(x, (-steps, 0), value=fill)[:, : x.shape[1]]


def first(mask: Tensor) -> Tensor:
    """``(B, 1)`` place of the first marked character of each row, the length of the rows where there is none."""
    length = mask.shape[1]
    return torch.where(mask, torch.arange(length, device=mask.device), length).amin(1, keepdim=True)


def at(x: Tensor, place: Tensor) -> Tensor:
    """``(B, 1)`` values of ``(B, L)`` at a place ``(B, 1)``; the last column, which is padding, if it lies outside."""
    return x.gather(1, place.clamp(0, x.shape[1] - 1))


def total(x: Tensor) -> Tensor:
    """``(B,)`` sums of ``(B, L)`` int64, modulo 2 ** 64.

    Not ``sum``: ONNX Runtime adds up whole numbers as float64, which holds 53 bits and ends at 2 ** 63.
    """
    return x.cumsum(1)[:, -1]


class Letters:
    """The letters of texts, in which patterns are looked for.

    Args:
        codes: ``(B, L)`` code points.
        low: ``(B, L)`` places in the alphabet of patterns, lower-cased.
        kind: ``(B, L)``, 1 for letters, digits and the underscore, 2 for blanks.

    Attributes:
        place: ``(L,)`` numbers of the characters.
        word, blank, end, digit: ``(B, L)`` bool; ``end`` is the padding.
        after_word, after_blank, after_none: ``(B, L)`` bool: what stands in front of a character.
    """

    def __init__(self, codes: Tensor, low: Tensor, kind: Tensor) -> None:
        self.codes, self.low = codes, low
        self.place = torch.arange(codes.shape[1], device=codes.device)
        self.word, self.blank, self.end = kind == 1, kind == 2, codes == 0
        self.digit = (codes >= 48) & (codes <= 57)
        self.after_word, self.after_blank = behind(self.word, -1), behind(self.blank, -1)
        self._packed = {1: low}
        for size in range(2, _TOGETHER + 1):
            self._packed[size] = self._packed[size - 1] + behind(low, size - 1) * _BASE ** (size - 1)
        self._before_word = {size: ~behind(self.word, size) for size in range(1, 12)}

    def any_of(self, letters: str) -> Tensor:
        """``(B, L)``: the character is one of these."""
        found = self.low == _LETTERS.index(letters[0])
        for letter in letters[1:]:
            found = found | (self.low == _LETTERS.index(letter))
        return found

    def starts(self, text: str, *, left: bool = False, right: bool = False) -> Tensor:
        """``(B, L)``: a text starts here.

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

    low: Tensor
    kind: Tensor
    hashed: Tensor
    size: Tensor
    folded: Tensor
    folded_size: Tensor
    power: Tensor
    inverse: Tensor

    _ODD = 0x5851F42D4C957F2D
    _LONGEST = 2048

    def __init__(self) -> None:
        super().__init__()
        powers = [pow(self._ODD, place, 1 << 64) for place in range(self._LONGEST)]

        def hashed(text: str) -> int:
            return _signed(sum(ord(one) * powers[place] for place, one in enumerate(text)))

        tables = {
            "low": table_of(_low, torch.int32),
            "kind": table_of(lambda c: 1 * (c.isalnum() or c == "_") + 2 * c.isspace(), torch.uint8),
            "hashed": table_of(lambda c: hashed(_expanded(c)), torch.int64),
            "size": table_of(lambda c: len(_expanded(c)), torch.uint8),
            "folded": table_of(lambda c: hashed(c.casefold()), torch.int64),
            "folded_size": table_of(lambda c: len(c.casefold()), torch.uint8),
            "power": torch.tensor([_signed(value) for value in powers]),
            "inverse": torch.tensor([_signed(pow(value, -1, 1 << 64)) for value in powers]),
        }
        for name, table in tables.items():
            self.register_buffer(name, table)

    def letters(self, codes: Tensor) -> Letters:
        """What patterns are looked for in."""
        return Letters(codes, taken(self.low, codes), taken(self.kind, codes))

    def key(self, codes: Tensor) -> Tensor:
        """``(B,)`` hashes of names as they stand, 0 for a missing one."""
        return self._hash(codes, self.hashed, self.size)

    def folded_key(self, codes: Tensor) -> Tensor:
        """``(B,)`` hashes of texts whose case alone is folded, 0 for a missing one."""
        return self._hash(codes, self.folded, self.folded_size)

    def _hash(self, codes: Tensor, hashed: Tensor, sizes: Tensor) -> Tensor:
        size = taken(sizes, codes).long()
        place = (size.cumsum(1) - size).clamp_max(self._LONGEST - 1)
        return total(taken(hashed, codes) * taken(self.power, place))

    def names(self, text: Letters, inside: Tensor, loose: Tensor, most: int) -> Tensor:
        """Hashes of the names between separators, each as `popularity.data.credits.normalise_name` spells it.

        Args:
            text: of the songs.
            inside: ``(B, L)`` bool: part of a name, not of a separator.
            loose: ``(B, L)`` bool: dropped at the end of a name, as blanks and full stops are.
            most: names of a text; further ones are not read.

        Returns:
            ``(B, most)``, 0 where there are fewer.
        """
        codes, stop = text.codes, ~inside
        begins = inside & behind(stop, -1, 1)
        # what is no name, and what is too much, goes to a column of its own
        part = torch.where(inside, begins.cumsum(1) - 1, most).clamp_max(most)
        kept = inside & ~(text.blank & (text.after_blank | begins))
        size = torch.where(kept, taken(self.size, codes).long(), 0).long()
        place = (size.cumsum(1) - size).clamp_max(self._LONGEST - 1)
        empty = torch.zeros_like(codes[:, :1]).expand(-1, most + 1)
        core = torch.where(inside & ~loose, text.place, -1)
        last = (empty - 1).scatter_reduce(1, part, core, "amax")
        kept = kept & (text.place <= last.gather(1, part))
        begin = (empty + self._LONGEST - 1).scatter_reduce(1, part, torch.where(kept, place, self._LONGEST - 1), "amin")
        terms = torch.where(kept, taken(self.hashed, codes) * taken(self.power, place), 0)
        return (empty.scatter_add(1, part, terms) * taken(self.inverse, begin))[:, :most]


def _signed(value: int) -> int:
    value %= 1 << 64
    return value - (1 << 64) if value >= 1 << 63 else value
