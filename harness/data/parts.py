"""Tables of rows cut into train, valid and test: by shares and a seed, drawn without replacement, in the file's order.

What is drawn follows from the seed and the number of rows alone, so that rows and labels in two files, or in a file and
a notebook, are cut alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from harness.data.dataset import PARTS
from harness.errors import DataError


class Table(NamedTuple):
    """Rows before they are checked. where: what messages call them. sparse: columns may be missing on the right."""

    where: str
    values: np.ndarray  # [rows, columns]
    labels: np.ndarray | None = None  # [rows]
    sparse: bool = False

    def rows(self, chosen: np.ndarray) -> Table:
        """The rows of these numbers."""
        return self._replace(
            values=self.values[chosen], labels=None if self.labels is None else self.labels.reshape(-1)[chosen]
        )


def split(table: Table, shares: Sequence[float], seed: int) -> dict[str, Table]:
    """All rows, cut by three shares that add up to 1, or three numbers of rows that add up to all."""
    _check_labels(table)
    n = len(table.values)
    whole = all(isinstance(share, int) for share in shares)
    total = math.fsum(shares)
    if len(shares) != len(PARTS) or min(shares) <= 0 or not math.isclose(total, n if whole else 1.0, rel_tol=1e-9):
        expected = f"a split into train, valid and test: shares that add up to 1, or numbers that add up to {n}"
        raise DataError(table.where, expected, f"{list(shares)}")
    ends = np.cumsum(shares) if whole else np.rint(np.cumsum(shares) * n)
    return _cut(table, ends[:-1].astype(int), PARTS, seed)


def with_shares(tables: Mapping[str, Table], shares: Mapping[str, float], seed: int) -> dict[str, Table]:
    """The tables of three parts, of which some are a share of the training rows, or a number of them."""
    for part in PARTS:
        if part not in tables and part not in shares:
            raise DataError(", ".join(table.where for table in tables.values()) or "data", f"a part {part}", "none")
    if "train" not in tables:
        raise DataError("data", "training rows", "a share of them")
    if not shares:
        return dict(tables)
    train = tables["train"]
    _check_labels(train)
    n = len(train.values)
    sizes = {part: share if isinstance(share, int) else round(share * n) for part, share in shares.items()}
    for part, share in shares.items():
        if share <= 0 or (not isinstance(share, int) and share >= 1):
            raise DataError(f"{train.where}, {part}", "a share between 0 and 1, or a number of rows", f"{share}")
    order = [part for part in ("test", "valid") if part in sizes]
    rest = n - sum(sizes.values())
    if rest < 1:
        raise DataError(train.where, f"more than {n - rest} rows, of which {' and '.join(order)} are taken", f"{n}")
    ends = np.cumsum([rest, *(sizes[part] for part in order)])
    return {**tables, **_cut(train, ends[:-1], ("train", *order), seed)}


def widened(table: Table, n_columns: int) -> Table:
    """A sparse table with zeros where its file names no column; any other as it is."""
    missing = n_columns - table.values.shape[1]
    if not table.sparse or not missing:
        return table
    return table._replace(values=np.pad(table.values, ((0, 0), (0, missing))))


def _cut(table: Table, ends: np.ndarray, names: Sequence[str], seed: int) -> dict[str, Table]:
    order = np.random.default_rng(seed).permutation(len(table.values))
    found = {}
    for name, chosen in zip(names, np.split(order, ends), strict=True):
        if not len(chosen):
            raise DataError(table.where, f"rows enough for {name}", f"{len(table.values)}")
        found[name] = table.rows(np.sort(chosen))._replace(where=f"{table.where} ({name})")
    return found


def _check_labels(table: Table) -> None:
    if table.labels is not None and table.labels.size != len(table.values):
        raise DataError(f"{table.where}, labels", f"{len(table.values)} labels", f"shape {table.labels.shape}")
