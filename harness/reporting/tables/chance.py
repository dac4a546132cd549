"""What guessing has: the error rate, and -log p(y), of a guess that is the same for all rows.

Measurements say what it is for the labels that they were made on (column ``chance``); of those by earlier versions,
which do not, it is that of as many equally frequent classes as the data set has.
"""

from __future__ import annotations

import math

from harness.data import CATALOGUE

ERROR, OF_LABELS = "error", ("-log p~*(y|x)", "-log p(y|x)")
MEANING = "at chance, not better than guessing by more than two standard errors"


def chance_level(metric: str, dataset: str, measured: float) -> float:
    """The level of a metric on a data set, given what measurements say, NaN for nothing; NaN where there is none."""
    entry = CATALOGUE.get(dataset)
    if math.isfinite(measured) or entry is None or entry.classes is None:
        return measured
    uniform = {ERROR: 1.0 - 1.0 / entry.classes, **dict.fromkeys(OF_LABELS, math.log(entry.classes))}
    return uniform.get(metric, math.nan)


def is_at_chance(value: float, sem: float, level: float) -> bool:
    """Whether a value is not below the level by more than two standard errors; an error that is not known is none."""
    return math.isfinite(level) and value > level - (2.0 * sem if math.isfinite(sem) else 0.0)


def words(metric: str, dataset: str, level: str) -> str:
    """What guessing has, for a note."""
    return f"guessing has {level} as `{metric}` on {dataset}"
