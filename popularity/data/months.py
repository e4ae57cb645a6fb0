"""Months as words, in the languages of Europe whose names for them do not contradict each other."""

from __future__ import annotations

import re

from popularity.data.numbers import plain_letters

# How the names begin; `$` marks an abbreviation that counts only as a whole word, for longer words begin like it too.
# Croatian is left out: its listopad is October (Czech and Polish: November), its srpnja July (Czech srpna: August) and
# its lip. June (Polish: July).
_MONTHS = (
    "jan ene gen ocak oca$ stycz sty$ leden ledna$ led$ ianu ian$ tammi янв яну січ",
    "feb fev subat sub$ luty luteg lut$ unor uno$ helmi фев лют",
    "mar maart mrt$ brez bre$ maalis мар берез бер$",
    "apr abr avr nisan nis$ kwie kwi$ dubn duben dub$ huhti апр квіт",
    "may mai mag mei$ maj$ maja$ majus kvet kve$ touko май мая$ трав",
    "jun juin giu haz$ haziran czerw cze$ cerven cervna cvn$ iuni iun$ kesa$ kesaku июн юни черв",
    "jul juil lug temmuz tem$ lipie lipc lip$ cervenec cervence cvc$ iuli iul$ heina июл юли лип",
    "aug ago aou agus agu$ avg sierp sie$ srpen srpna$ srp$ eloku elo$ авг серп",
    "sep set eylul eyl$ wrzes wrz$ zari zar$ szept syys сен сеп верес вер$",
    "oct okt out ott ekim eki$ pazdz paz$ rijen rijna rij$ lokaku loka$ окт жовт",
    "nov kasim kas$ listopad lis$ noiem noi$ marras ноя ное листоп",
    "dec dez dic aralik ara$ grud gru$ prosin pro$ desem des$ joulu дек груд",
)
_MONTH = {plain_letters(start).rstrip("$"): month for month, row in enumerate(_MONTHS, 1) for start in row.split()}
_LETTER = r"[^\W\d_]"
# Sorted backwards, so that a longer beginning is tried before a shorter one
_STARTS = sorted(map(plain_letters, " ".join(_MONTHS).split()), reverse=True)
_START = "|".join(_STARTS).replace("$", f"(?!{_LETTER})")
# Before a day and another month, a weekday: Tuesday is `mar.` in French, Spanish and Italian, Sunday `Paz` in Turkish
_WEEKDAY = rf"{_LETTER}+[.,]*\s+(?:\d\d?[.\s/-]+)?(?:de\s+)?(?:{_START})|mar(?:di|tes|tedi|ti)\b"
_WORD = re.compile(rf"(?<!{_LETTER})(?!{_WEEKDAY})({_START})")
_FIRST_WORD = re.compile(rf"[\W\d]*(?:de\s+)?{_WORD.pattern}")


def find_month(text: str) -> int | None:
    """The month, from 1 to 12, that a word of a text names; None where none does.

    >>> find_month("4 février 2001"), find_month("mar. 4 déc. 2018"), find_month("soon")
    (2, 12, None)
    """
    word = _WORD.search(plain_letters(text))
    return _MONTH[word[1]] if word else None


def begins_with_month(text: str) -> bool:
    """Whether the first word of a text is a month."""
    return _FIRST_WORD.match(plain_letters(text)) is not None
