"""Where `fit` spends its time on the embedded data, from the command to the table: ``python benchmarks/startup.py``.

CPU time of the process, from its first instruction. Start-up is what is left when the parts below it are taken out:
imports, the parser, and building the Trainer; what a part imports when it is first used counts there. The import of
Lightning, with PyTorch, is told of alone, since nothing here can make it shorter. Arguments are passed on:
``python benchmarks/startup.py --trainer.max_epochs 2``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

START = "start-up"
ORDER = (START, "reading", "encoding", "training", "testing")


class Parts:
    """CPU seconds of parts, without those of the parts that they call."""

    def __init__(self) -> None:
        self.seconds = Counter[str]()
        self.running, self.since = [START], 0.0

    def turn(self) -> None:
        """Add the time since the last turn to the part that runs."""
        now = time.process_time()
        self.seconds[self.running[-1]] += now - self.since
        self.since = now

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Count what a function of a class or module takes as this part."""
        function: Callable[..., Any] = getattr(owner, name)

        @wraps(function)
        def watched(*arguments: Any, **options: Any) -> Any:
            self.turn()
            self.running.append(part)
            try:
                return function(*arguments, **options)
            finally:
                self.turn()
                self.running.pop()

        setattr(owner, name, watched)


def main() -> None:
    """Fit, print, save."""
    parts = Parts()
    began = time.process_time()
    from lightning.pytorch import Trainer

    lightning = time.process_time() - began
    from popularity import cli
    from popularity.__main__ import main as popularity
    from popularity.features.encoder import HistoryEncoder

    for owner, name, part in (
        (cli.PopularityDataModule, "load", "reading"),
        (HistoryEncoder, "fit", "encoding"),
        (HistoryEncoder, "encode", "encoding"),
        (cli, "suit", "training"),
        (Trainer, "fit", "training"),
        (Trainer, "test", "testing"),
        (cli, "print_scores", "testing"),
    ):
        parts.watch(owner, name, part)
    with tempfile.TemporaryDirectory() as folder:
        code = popularity(["fit", "--log_dir", folder, *sys.argv[1:]])
    if code:
        raise SystemExit(code)
    parts.turn()
    from common import save, table

    figures = {part: parts.seconds[part] for part in ORDER}
    together = sum(figures.values())
    figures = {START: figures.pop(START), f"{START}: import of Lightning": lightning, **figures, "together": together}
    save("startup", figures, table(["part", "CPU s"], [[name, f"{value:.1f}"] for name, value in figures.items()]))


if __name__ == "__main__":
    main()
