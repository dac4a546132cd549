"""The rules of the check: its level, its power, what is better, and the size from which on a difference matters.

What there is to know of a metric of a user stands in the measurements themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.plugins.metrics import HIGHER, LOWER, NATS, NEITHER, PERCENT, SHARE

SHARED_ERROR = ("-log p*", "-2 log Z", "log Z")  # all test rows share the error of log Z: it does not shrink with them
ROWS_OF = {"-log p*": "-log p~*", "-log p~": "-log p"}  # metrics that differ from another one by a number at most
EXACT_IN_K = ("bound -log p", "bound -log p*", "-2 log Z", "log Z")  # more samples change their error, not their mean
UNDIRECTED = ("log Z",)
HIGHER_IS_BETTER = ("ess p", "ess p*")  # all other metrics are losses, or zero at best (-2 log Z)


@dataclass(frozen=True)
class Scale:
    """What the numbers of a metric are. unit, better: as a metric has them. matters: the difference from which on it
    matters; None where the settings say it, by unit."""

    unit: str
    better: str
    matters: float | None = None


def scale_of(metric: str) -> Scale:
    """That of a metric of the harness: percent (effective sample sizes), a share (error rates), else nats."""
    unit = PERCENT if metric.startswith("ess ") else SHARE if metric == "error" else NATS
    return Scale(unit, NEITHER if metric in UNDIRECTED else HIGHER if metric in HIGHER_IS_BETTER else LOWER)


def variance_scale(scale: Scale, value: float) -> float:
    """The scale of the variance between seeds, over cells of very different values; above 0.

    Measured on the published runs: for numbers in nats it is nearly proportional to the value, for shares (here p, or
    p / 100 for percent) to p (1 - p). Numbers in units of a user's own are taken for ones like those in nats.
    """
    if scale.unit not in (PERCENT, SHARE):
        return max(abs(value), 1e-3)
    whole = 100.0 if scale.unit == PERCENT else 1.0
    part = min(max(value / whole, 1e-3), 1.0 - 1e-3)
    return part * (1.0 - part) * whole**2


@dataclass(frozen=True)
class Size:
    """The larger of ``absolute`` and ``relative`` times the value, but no more than ``at_most``."""

    absolute: float
    relative: float
    at_most: float

    def of(self, value: float) -> float:
        return min(max(self.absolute, self.relative * abs(value)), self.at_most)


@dataclass(frozen=True)
class Rules:
    """level: of all tests of a comparison together. power: with which the smallest difference is found."""

    level: float
    power: float
    sizes: Mapping[str, Size]  # by unit

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Rules:
        """From the settings' section ``check``."""
        section = settings["check"]
        sizes = {name: Size(**values) for name, values in section["sizes"].items()}
        return cls(section["level"], section["power"], sizes)

    def size(self, scale: Scale, value: float) -> float:
        """The size from which on a difference from ``value`` matters, in the metric's unit."""
        return self.sizes[scale.unit].of(value) if scale.matters is None else scale.matters
