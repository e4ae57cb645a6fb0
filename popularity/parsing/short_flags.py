"""Short names of flags that all verbs share, whatever group a verb has the setting in."""

from __future__ import annotations

from argparse import Action

#: Short name -> the flag that it stands for in verbs that do not have it by the short name.
SHORT = {
    "source": "data.source",
    "columns": "data.columns",
    "cache_dir": "data.cache_dir",
    "seed": "seed_everything",
}
#: Who predicts means the songs to predict.
_OF_PREDICT = {"source": "data.predict_source"}


def add_short_flags(flags: dict[str, Action], verb: str) -> None:
    """Let ``--source`` stand for ``--data.source``, and so on; help shows both.

    Args:
        flags: of a parser, by name with dashes; changed in place.
        verb: that the parser is for.
    """
    for short, long in {**SHORT, **(_OF_PREDICT if verb == "predict" else {})}.items():
        action = flags.get(f"--{long}")
        if action is not None and f"--{short}" not in flags:
            action.option_strings = [*action.option_strings, f"--{short}"]
            flags[f"--{short}"] = action
