"""The one error that a user, not a programmer, has to mend."""


class InputError(Exception):
    """Bad input: a file, a value, a flag or a combination of them that cannot be used.

    The message is one line that names what was wrong, what was expected and what came. The front door prints it as
    ``error: ...`` without a traceback and ends with exit code 2. Programming errors must not be wrapped in it.
    """
