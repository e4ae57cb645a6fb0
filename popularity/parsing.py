"""A parser of flags and YAML that refuses in one line instead of a page of usage."""

from __future__ import annotations

from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from popularity.errors import InputError


def one_line(message: str, limit: int = 400) -> str:
    """Fold a message into one line of at most ``limit`` characters."""
    text = " ".join(message.split())
    return text if len(text) <= limit else f"{text[:limit]} ..."


class Parser(ArgumentParser):
    """Raises `InputError` where its parent prints usage and leaves the process."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise the message, folded into one line."""
        raise InputError(one_line(message)) from ex

    def parse_path(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Parse a configuration file; what is wrong with it names the file."""
        try:
            return super().parse_path(path, *args, **kwargs)
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: expected a YAML file, came a binary file") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
