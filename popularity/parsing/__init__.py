"""Flags and YAML: parsers whose errors are one line with "did you mean", and the configs that the package ships."""

from popularity.parsing.configs import refuse_bomb, resolve_config, shipped_config, shipped_configs
from popularity.parsing.parser import Parser, options_of

__all__ = [
    "Parser",
    "options_of",
    "refuse_bomb",
    "resolve_config",
    "shipped_config",
    "shipped_configs",
]
