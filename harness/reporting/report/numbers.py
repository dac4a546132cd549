"""Values of measurements as text: one line of provenance for each, numbers to six digits, digests to twelve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# columns of the table of all numbers: what each is, and what it took to make it
FIRST = ("dataset", "method", "variant", "seed", "metric", "value", "sem", "k", "n_rows", "status")
MORE = (
    *("mc_error", "bias", "bias_error", "estimator", "n_updates", "train_seconds", "seconds", "message"),
    *("config_digest", "data_digest"),
)
PROVENANCE = (*FIRST, *MORE)


def provenance(row: Mapping[str, Any]) -> list[str]:
    """The cells of a measurement, in the order of ``PROVENANCE``."""
    return [shown(row[name])[:12] if name.endswith("digest") else shown(row[name]) for name in PROVENANCE]


def shown(value: Any) -> str:
    """A value as text: nothing for what is not known, whole numbers without a point, others to six digits."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.6g}" if value % 1 else f"{value:.0f}"
    return str(value)
