"""The one error that the user, not the programmer, has to fix."""

from __future__ import annotations

import errno

#: What a full disk, a quota or a limit on the size of files raises.
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
#: With a read-only disk, missing permission and impossible paths: never the programmer's fault.
OF_THE_SYSTEM = NO_SPACE | {errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP}


class InputError(Exception):
    """Bad input: a file, a value, a flag or a combination of them that cannot be used.

    The message is one line: where the problem is (file, column, row or flag), what was expected and what was found, as
    in ``songs.csv: column 'tempo', row 3: expected a number, got 'fast'``. The command line prints it as ``error: ...``
    without a traceback and ends with exit code 2. Never wrap a programming error in it.

    What a file or a flag holds may be quoted as it stands: line breaks and control characters in it are escaped.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """Escape line breaks and control characters, which would break a line in two or steer a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def one_line(message: str, limit: int = 400) -> str:
    """Fold another library's message into one line of at most ``limit`` characters."""
    text = " ".join(message.split())
    return text if len(text) <= limit else f"{text[:limit]} ..."
