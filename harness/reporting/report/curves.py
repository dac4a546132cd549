"""Learning curves as small drawings in SVG: the validation loss by update, one line per seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from harness.storage.measurements import read_csv
from harness.storage.runs import RunFolder

WIDTH, HEIGHT = 320.0, 96.0  # of the drawing, in its own units
SETTLED = 0.1  # of the updates: what the loss was before, much more, is cut off at the upper edge


@dataclass(frozen=True)
class Curve:
    """Points of every seed's line, as SVG has them, and what the axes are: highest and lowest loss, last update."""

    lines: Mapping[int, str]
    best: Mapping[int, tuple[float, float]]
    highest: float
    lowest: float
    last: int


def curve_of(folders: Mapping[int, RunFolder]) -> Curve | None:
    """The curves in these folders, by seed; None where no seed has two validations.

    Raises DataError, naming the file, for one that is damaged.
    """
    found = {seed: curve for seed, folder in folders.items() if len(curve := _read(folder)) > 1}
    if not found:
        return None
    last = max(int(curve["update"].iloc[-1]) for curve in found.values())
    late = pd.concat([curve.loc[curve["update"] >= SETTLED * last, "valid_loss"] for curve in found.values()])
    highest, lowest = float(late.max()), min(float(curve["valid_loss"].min()) for curve in found.values())

    def place(update: float, loss: float) -> tuple[float, float]:
        height = (highest - min(loss, highest)) / (highest - lowest) if highest > lowest else 0.5
        return round(WIDTH * update / last, 1), round(HEIGHT * height, 1)

    lines, best = {}, {}
    for seed, curve in found.items():
        points = [place(*point) for point in zip(curve["update"], curve["valid_loss"], strict=True)]
        lines[seed] = " ".join(f"{x:g},{y:g}" for x, y in points)
        best[seed] = points[int(curve["valid_loss"].to_numpy().argmin())]
    return Curve(lines, best, highest, lowest, last)


def _read(folder: RunFolder) -> pd.DataFrame:
    """Finite validation losses by update; none where training left no curve."""
    if not folder.curve_file.exists() or not folder.status_file.exists():
        return pd.DataFrame()
    curve = read_csv(folder.checked(folder.curve_file, folder.status()), ("update", "valid_loss"))
    return curve[curve["valid_loss"].map(math.isfinite)]
