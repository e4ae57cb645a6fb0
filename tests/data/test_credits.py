"""Names in artist columns and titles."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popularity.data.credits import (
    artist_names,
    credits,
    normalise_name,
    normalise_names,
    title_credits,
    titles_credits,
)


def table(artists: list[str | None], titles: list[str | None]) -> pd.DataFrame:
    return pd.DataFrame({"artist": pd.Series(artists, dtype="str"), "title": pd.Series(titles, dtype="str")})


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("Uptown Funk (feat. Bruno Mars)", ["bruno mars"]),
        ("Only God Can Judge Me (ft. Rappin' 4-Tay)", ["rappin' 4-tay"]),
        ("Get Low featuring Ying Yang Twins", ["ying yang twins"]),
        ("If We Ever Meet Again (Featuring Katy Perry)", ["katy perry"]),
        ("The Dirt (Est. 1981) [feat. Machine Gun Kelly]", ["machine gun kelly"]),
        ("My First Kiss - feat. Ke$ha", ["ke$ha"]),
        ("Rapture (feat.Nadia Ali)", ["nadia ali"]),
        ("WINTER FLOWER(Feat.RM)", ["rm"]),
        ("Slipping Away feat Cheney - Original Mix", ["cheney"]),
        ("Waves feat. Chris Brown & T.I - Robin Schulz Remix", ["chris brown", "t.i"]),
        ("Finesse - Remix; feat. Cardi B", ["cardi b"]),
        ("Pink Toes (Offset, DaBaby feat. Gunna)", ["gunna"]),
        ("LOVE. FEAT. ZACARI.", ["zacari"]),
        ("Stay (with Justin Bieber)", ["justin bieber"]),
        ("Bad Things - With Camila Cabello", ["camila cabello"]),
        ("I've Been Waiting (w/ ILoveMakonnen & Fall Out Boy)", ["ilovemakonnen", "fall out boy"]),
        ("Love Saw It (Duet with Karyn White)", ["karyn white"]),
        ("Margarita (con Marracash)", ["marracash"]),
        (
            "Every Time I Close My Eyes (with Mariah Carey, Kenny G & Sheila E.)",
            ["mariah carey", "kenny g", "sheila e"],
        ),
        ("Hello - Feat. Dr. Dre And MC Ren", ["dr. dre", "mc ren"]),
        ("All of Me (feat. A x B; C)", ["a", "b", "c"]),
        ("Industry (feat. Lil Nas X & Jack Harlow)", ["lil nas x", "jack harlow"]),
        ("TAlk tO Me (with Rich The Kid feat. Lil Wayne) - Remix", ["rich the kid", "lil wayne"]),
        ("Live Forever - Dunisco featuring JeyJeySax Remix", ["jeyjeysax"]),
        ("Child - feat. Myles Kennedy; Live at Spotify, London", ["myles kennedy", "london"]),
        ("TOTSUKA feat. サイプレス上野", ["サイプレス上野"]),
        ("One Touch (with \u202aJess Glynne)", ["jess glynne"]),
        ("Song (feat.  BEYONCÉ) [feat. Beyoncé]", ["beyoncé"]),
    ],
)
def test_a_title_credits(title: str, names: list[str]) -> None:
    assert title_credits(title) == tuple(names)


@pytest.mark.parametrize(
    "title",
    [
        "Dancing With Myself",
        "Running Up That Hill (A Deal With God) - 2018 Remaster",
        "It's Not Living (If It's Not With You)",
        "(I Can't Help) Falling In Love With You",
        "(With You) Tonight",
        "Quit Playing Games (With My Heart)",
        "On Our Own - With Rap",
        "Love Will Never Do (Without You)",
        "With Arms Wide Open - New Version With Strings",
        "Arroz Con Pollo",
        "Birds of a Feather",
        "Featuring You",
        "No Small Feat",
        "Six 10 ft under",
        "After Hours",
        "Paradise - Bazzi Remix",
        "Summertime Sadness - Cedric Gervais Remix",
        "",
        "feat.",
        "Song (feat. )",
    ],
)
def test_a_title_credits_nobody(title: str) -> None:
    assert title_credits(title) == ()


def test_artist_names_split_at_semicolons_only() -> None:
    songs = table(
        ["Simon & Garfunkel", "Tyler, The Creator", " A ;B;a", None, "Earth, Wind & Fire;The  Emotions", "Lil Nas X"],
        ["x"] * 6,
    )
    assert artist_names(songs) == [
        ("simon & garfunkel",),
        ("tyler, the creator",),
        ("a", "b"),
        (),
        ("earth, wind & fire", "the emotions"),
        ("lil nas x",),
    ]


def test_credits_put_the_artist_column_first_and_repeat_nobody() -> None:
    songs = table(["A;B", "A", None, "A"], ["S (feat. C & b)", None, "T (with D)", "U"])
    assert credits(songs) == [("a", "b", "c"), ("a",), ("d",), ("a",)]


def test_a_name_known_from_the_column_is_not_split_in_titles() -> None:
    titles = ["Potato Salad", "Rusty (feat. Earl, Tyler, The Creator & Domo)", "Ashes (feat. Live at Noon)"]
    alone = table(["Domo", "Domo", "Domo"], titles)
    assert credits(alone)[1] == ("domo", "earl", "tyler", "the creator")
    with_tyler = table(["Tyler, The Creator", "Domo", "Live at Noon"], titles)
    assert credits(with_tyler)[1] == ("domo", "earl", "tyler, the creator")
    assert credits(with_tyler)[2] == ("live at noon",)  # known, so not taken for a remark about the recording


def test_rows_need_no_range_index() -> None:
    songs = table(["A", "B", None], ["x (feat. C)", "y", "z"]).set_index(pd.Index([7, 7, 3]))
    assert credits(songs) == [("a", "c"), ("b",), ()]


@settings(deadline=None)
@given(st.text(st.characters(codec="latin-1")))
def test_a_normalised_name_ignores_case_blanks_and_closing_stops(name: str) -> None:
    key = normalise_name(name)
    assert normalise_name(key) == key
    assert normalise_name(f"  {name} ") == key
    assert normalise_name(name.swapcase()) == normalise_name(name.swapcase().lower())
    assert "  " not in key


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("  The   Beatles ", "the beatles"),
        ("M.I.A.", "m.i.a"),
        ("fun.", "fun"),
        ("...", "..."),
        ("Destiny’s", "destiny's"),
    ],
)
def test_normalised_names(written: str, key: str) -> None:
    assert normalise_name(written) == key


NAME = st.text(st.characters(codec="ascii", categories=["Lu"]), min_size=3, max_size=8)


@settings(deadline=None)
@given(
    st.lists(NAME, min_size=1, max_size=4, unique=True).filter(lambda names: not {"FEAT", "AND", "MIX"} & set(names)),
    st.sampled_from(
        ["{} (feat. {})", "{} [ft. {}]", "{} - featuring {}", "{} (with {}) - Remix", "{} - with {} (Live)"]
    ),
    st.sampled_from([", ", " & ", " and ", " x ", "; "]),
)
def test_every_credited_name_is_found(names: list[str], form: str, separator: str) -> None:
    found = title_credits(form.format("A Song", separator.join(names)))
    stop = {"YOU", "HIM", "HER", "THEM", "LOVE", "RAP", "VOCALS", "INTRO", "OUTRO", "BAND", "CHOIR", "PIANO", "FRIENDS"}
    stop |= {"LYRICS", "STRINGS", "REMIX", "EDIT", "VERSION", "EXPLICIT", "REMASTER"}
    assert found == tuple(name.casefold() for name in names if name not in stop)


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=30)), max_size=20))
def test_the_quick_look_leaves_out_no_title_that_credits_somebody(titles: list[str | None]) -> None:
    titles = [*titles, *(f"{title} (feat. X)" for title in titles)]
    column = pd.Series(titles, dtype="str")
    expected = [() if pd.isna(title) else title_credits(title) for title in column]
    assert titles_credits(column) == expected


def test_credits_in_the_real_songs(spotify_4771: Path) -> None:
    """The counts were read off by eye: of all credits, a handful are no names ("flowers in my hair")."""
    raw = pd.read_csv(spotify_4771).rename(columns={"artist_name": "artist", "track_name": "title"})
    raw = raw.drop_duplicates("track_id").drop_duplicates(["artist", "title"])
    in_column, everybody = artist_names(raw), credits(raw)
    guests = [names[len(known) :] for names, known in zip(everybody, in_column, strict=True)]
    assert sum(map(bool, guests)) == 367
    primaries = {names[0] for names in in_column}
    mentions = [name for names in guests for name in names]
    assert len(mentions) == pytest.approx(455, abs=10)
    assert sum(name in primaries for name in mentions) / len(mentions) > 0.6
    assert {"bruno mars", "jess glynne", "rappin' 4-tay"} <= set(mentions)
    assert not {"you", "me", "myself", "god", "my heart"} & set(mentions)


def test_many_names_in_a_title_take_a_few_looks_each() -> None:
    """The looks at runs of pieces once grew with the square of the names, and each look with their number."""
    looks: list[str] = []

    class Known(tuple[str, ...]):
        def __contains__(self, name: object) -> bool:
            looks.append(str(name))
            return super().__contains__(name)

    whole = ", ".join(f"part {number}" for number in range(16))
    names = [f"name {number}" for number in range(500)]
    (found,) = titles_credits(pd.Series([f"Song (feat. {', '.join([whole, *names])})"]), Known([whole]))
    assert found == (whole, *names)
    assert len(looks) < 20 * len(names)


_CHARACTERS = st.one_of(st.characters(max_codepoint=127), st.sampled_from("..; \t"), st.characters(codec="utf-8"))


@given(st.lists(st.text(_CHARACTERS)))
def test_many_names_are_normalised_as_one_is(names: list[str]) -> None:
    assert normalise_names(names) == [normalise_name(name) for name in names]
