"""How this program was started, for help texts."""

from __future__ import annotations

import sys
from pathlib import Path


def program() -> str:
    """``popularity`` for the console script, else ``python -m popularity``."""
    return "popularity" if Path(sys.argv[0]).stem == "popularity" else "python -m popularity"
