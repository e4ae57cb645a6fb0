"""What only many rows can tell, such as the unit of a column: decided once for a file that is read in parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Decision = TypeVar("Decision")


class Decisions:
    """Decisions about one file, each made on the first rows that tell and kept for all rows that follow."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def once(self, name: str, decide: Callable[[], Decision]) -> Decision:
        """The decision of this name, made now if it was not made before.

        Args:
            name: of the decision.
            decide: makes it; None where these rows do not tell, so that later rows are asked again.
        """
        made: Decision = self._made.get(name) if name in self._made else decide()  # type: ignore[assignment]
        if made is not None:
            self._made[name] = made
        return made
