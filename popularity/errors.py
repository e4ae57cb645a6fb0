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
    """
