"""What a new data set is like, before anything is trained on it: sizes, ones, dead columns, rows that occur twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.data.dataset import PARTS, Dataset

TEST, TRAIN = "test", "train"
NAMES = {"train": ("train", "trn", "trai"), "valid": ("valid", "val", "vld", "dev"), "test": ("test", "tst", "ts")}
FEW = 10  # columns that are named


@dataclass(frozen=True)
class Survey:
    """rows, ones: by part; ones are the share of ones, or the mean level over 255 of grey data.

    constant: columns, counted from 1, that have one value in all training rows. repeated: test rows that occur among
    the training rows as well. classes: of the labels; None without.
    """

    rows: dict[str, int]
    columns: int
    grey: bool
    ones: dict[str, float]
    constant: list[int]
    repeated: int
    classes: int | None
    digest: str

    def lines(self) -> list[str]:
        """The survey in words."""
        rows = ", ".join(f"{part} {n:,}" for part, n in self.rows.items())
        ones = ", ".join(f"{part} {share:.4f}" for part, share in self.ones.items())
        named = ", ".join(map(str, self.constant[:FEW])) + " ..." * (len(self.constant) > FEW)
        share = self.repeated / self.rows[TEST]
        return [
            f"columns: {self.columns:,}",
            f"rows: {rows}",
            f"{'mean grey level, of 1' if self.grey else 'share of ones'}: {ones}",
            f"constant columns in train: {len(self.constant)}" + (f" ({named})" if named else ""),
            f"test rows that are in train as well: {self.repeated:,} ({share:.1%})",
            f"labels: {'none' if self.classes is None else f'{self.classes} classes'}",
            f"digest: {self.digest}",
        ]


def survey(data: Dataset) -> Survey:
    """The survey of a data set that was read."""
    train, test = data.train, data.test
    constant = np.flatnonzero((train == train[0]).all(axis=0)) + 1
    seen = {row.tobytes() for row in train}
    scale = 255 if data.grey else 1
    return Survey(
        {part: len(getattr(data, part)) for part in PARTS},
        data.n_features,
        data.grey,
        {part: float(getattr(data, part).mean(dtype=np.float64)) / scale for part in PARTS},
        constant.tolist(),
        sum(row.tobytes() in seen for row in test),
        None if data.train_labels is None else int(data.train_labels.max()) + 1,
        data.digest,
    )


def by_part(files: list[Path]) -> dict[str, Path] | None:
    """Which of two or three files is which part, by their names, else three in their order; None where that fails."""
    found: dict[str, Path] = {}
    for path in files:
        words = path.name.lower().replace("-", ".").replace("_", ".").split(".")
        parts = [part for part, names in NAMES.items() if set(words) & set(names)]
        if len(parts) == 1:
            found.setdefault(parts[0], path)
    if len(found) == len(files):
        return found
    return dict(zip(PARTS, files, strict=True)) if len(files) == len(PARTS) else None
