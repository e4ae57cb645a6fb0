"""The table of verbs: ``python -m popularity VERB``. Heavy packages are imported by the verb that needs them."""

from __future__ import annotations

import difflib
import io
import os
import select
import sys
from contextlib import suppress
from importlib import import_module

from popularity import __version__
from popularity.errors import OF_THE_SYSTEM, InputError
from popularity.help import FLAGS, short_help
from popularity.program import program, stop_signals, stopped

#: verb -> (module with ``main(argv)``, what it does)
VERBS = {
    "fit": ("popularity.cli", "train a model, test the best checkpoint and print a table"),
    "validate": ("popularity.cli", "score a checkpoint on the validation songs"),
    "test": ("popularity.cli", "score a checkpoint on the test songs"),
    "predict": ("popularity.cli", "write the predicted popularity of new songs to a file"),
    "explain": ("popularity.inference.explain", "show what a trained model reads from songs, and why it predicts so"),
    "export": ("popularity.inference.export", "write a trained model as one file, ONNX or PyTorch"),
    "what_if": ("popularity.inference.what_if", "change features of a song and see how its prediction moves"),
    "app": ("popularity.inference.app", "serve a page on this computer to play with a checkpoint"),
    "report": ("popularity.reports.card", "write a model card of a checkpoint, one page"),
    "tune": ("popularity.tuning.cli", "search hyper-parameters with Optuna, in any number of processes"),
    "compare": ("popularity.compare", "compare models on identical folds, with intervals"),
    "features": ("popularity.inference.recordings_verb", "estimate the audio columns of recordings"),
    "data": ("popularity.data.describe", "show what the loader understands of a data set"),
}
#: Words of other programs for the same verbs.
SYNONYMS = {"train": "fit", "evaluate": "test", "score": "test", "search": "tune", "benchmark": "compare"}

#: Exit codes beside 0 and those of `popularity.program.Stopped`: bad input, and a reader that has gone (128 + SIGPIPE).
BAD_INPUT, CLOSED_PIPE = 2, 141


def usage() -> str:
    """The help text."""
    verbs = "\n".join(f"  {name:10}{what}" for name, (_, what) in VERBS.items())
    return (
        f"usage: {program()} VERB [options]\n\n"
        "Predict a song's Spotify popularity with Mamba.\n\n"
        f"verbs:\n{verbs}\n\n"
        f"`{program()} VERB --help` lists the options of a verb, `{program()} --version` prints the version.\n"
        f"Start with: {program()} fit --config mamba"
    )


def main(argv: list[str] | None = None) -> int:
    """Run a verb; returns the exit code. Bad input ends in one line on standard error and code 2."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] in ("-v", "--version"):
        print(f"popularity {__version__}")
        return 0
    try:
        if argv[0] not in VERBS:
            raise InputError(_unknown(argv[0]))
        if argv[0] in FLAGS and argv[1:] in (["-h"], ["--help"]):
            print(short_help(argv[0]))
            return 0
        argv = argv[:-1] if argv[1:] == ["--help", "all"] else argv
        module = VERBS[argv[0]][0]
        # Lightning's command line has several verbs and wants to know which
        import_module(module).main(argv if module == "popularity.cli" else argv[1:])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:  # of a file that another package reads or writes: for ours there is an InputError
        if error.errno not in OF_THE_SYSTEM:
            raise
        print(f"error: {str(error.filename or 'cannot write')[:200]}: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as error:
        with suppress(OSError):  # the terminal may be gone: that is what SIGHUP says
            print(stopped(error), file=sys.stderr)
        return stopped(error).code
    return 0


def run() -> int:
    """Run the verb of the command line, and end quietly if the reader of the output stops early, as ``head`` does."""
    if os.getcwd() not in sys.path:  # `python -m` looks for own networks in this folder, a console script would not
        sys.path.append(os.getcwd())
    if isinstance(sys.stdout, io.TextIOWrapper):  # a title that the terminal has no letters for is no reason to end
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            with stop_signals():
                code = main()
        finally:  # not when Python ends, where nothing can be caught any more
            sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_has_gone():
            raise  # another pipe: to a worker process, say
        # for what is left in the buffer, which Python writes when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return CLOSED_PIPE
    return code


def _unknown(verb: str) -> str:
    meant = SYNONYMS.get(verb) or next(iter(difflib.get_close_matches(verb, VERBS, n=1)), None)
    return f"expected a verb ({', '.join(VERBS)}), got {verb!r}{f'; did you mean {meant}?' if meant else ''}"


def _reader_has_gone() -> bool:
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


if __name__ == "__main__":
    sys.exit(run())
