"""Annotations for hyperparameters and settings of analyses that say which numbers make sense.

``Annotated[int, Range(at_least=1)]``: settings are checked against it when they are read, from the source text alone
(see ``harness.plugins.signatures``). A method may write its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any


@dataclass(frozen=True)
class Range:
    """Bounds of a number, or the fewest items of a list and whether these ascend."""

    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    items: int | None = None
    ascending: bool | None = None

    @property
    def schema(self) -> dict[str, Any]:
        """The same as JSON schema (with the word ``ascending``, see ``harness.schema``)."""
        words = {
            "minimum": self.at_least,
            "maximum": self.at_most,
            "exclusiveMinimum": self.above,
            "exclusiveMaximum": self.below,
            "minItems": self.items,
            "ascending": self.ascending,
        }
        return {word: value for word, value in words.items() if value is not None}


Size = Annotated[int, Range(at_least=1, at_most=1_000_000_000)]  # of a layer, or how many there are of something
Count = Annotated[int, Range(at_least=0, at_most=1_000_000_000)]  # the same where none is fine
Draws = Annotated[int, Range(at_least=2, at_most=1_000_000_000)]  # of what has a standard error
Sizes = Annotated[list[Size], Range(items=1)]
Ascending = Annotated[list[Size], Range(items=1, ascending=True)]
AscendingCounts = Annotated[list[Count], Range(items=1, ascending=True)]
Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(at_least=0)]
Share = Annotated[float, Range(at_least=0, below=1)]  # such as that of units left out at random
