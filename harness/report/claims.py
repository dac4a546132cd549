"""The thesis' qualitative claims, judged from the csv data of the figures.

Each claim compares two measured numbers and their errors: it ``holds`` where the difference has the claimed sign by
more than two standard errors, ``does not hold`` where it has the other sign by as much, and is ``undecided`` between.
A claim whose numbers this run did not make is ``not measured``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

HOLDS, FAILS, UNDECIDED, NOT_MEASURED = "holds", "does not hold", "undecided", "not measured"
MNIST = "binarized_mnist"


@dataclass(frozen=True)
class Claim:
    text: str
    verdict: str
    measured: str


def claims_of(folder: Path) -> list[Claim]:
    """All claims, judged by the csv files of the figures in ``folder``."""
    return [judge(folder) for judge in CLAIMS]


def _verdict(difference: float, error: float) -> str:
    """Of a difference that is claimed to be positive."""
    if not math.isfinite(difference):
        return NOT_MEASURED
    if abs(difference) <= 2.0 * error or not math.isfinite(error):
        return UNDECIDED
    return HOLDS if difference > 0 else FAILS


def _rows(folder: Path, figure: str, **values: object) -> pd.DataFrame:
    """Rows of a figure's csv with these values; none where the figure or a column does not exist."""
    path = folder / f"{figure}.csv"
    if not path.exists():
        return pd.DataFrame()
    frame = pd.read_csv(path)
    if not set(values) <= set(frame.columns):
        return pd.DataFrame()
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def less_sensitive_to_k(folder: Path) -> Claim:
    """Section 3.7.2: by how much estimates grow from K = 10 to K = 1000."""
    text = "Estimates of BiHM's log p* depend less on K than those of RWS' log p (growth from K = 10 to 1,000)."
    growth = {}
    for method, metric in (("bihm", "log p*"), ("rws", "log p")):
        rows = _rows(folder, "figure_3_3", dataset=MNIST, method=method, metric=metric).drop_duplicates("k")
        rows = rows.set_index("k") if len(rows) else rows
        if not {10, 1000} <= set(rows.index):
            return Claim(text, NOT_MEASURED, f"no estimates of {method} at both K")
        growth[method] = rows["value"][1000] - rows["value"][10], rows["sem_to_last"][10]
    (bihm, bihm_error), (rws, rws_error) = growth["bihm"], growth["rws"]
    measured = f"BiHM {bihm:.2f} ± {bihm_error:.2f} nats, RWS {rws:.2f} ± {rws_error:.2f} nats"
    return Claim(text, _verdict(rws - bihm, math.hypot(bihm_error, rws_error)), measured)


CLAIMS: tuple[Callable[[Path], Claim], ...] = (less_sensitive_to_k,)
