"""Data sets of a program: arrays, tensors or data frames made into what ``run`` trains on, by the rules for files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.data import Dataset, OwnData, from_arrays, split_arrays
from harness.errors import ConfigError
from harness.plugins.names import wrong_name

LABELS = "labels"


def dataset(
    name: str,
    train: Any = None,
    valid: Any = None,
    test: Any = None,
    *,
    rows: Any = None,
    split: Sequence[float] = (0.8, 0.1, 0.1),
    labels: Any = None,
    seed: int = 0,
    grey: bool = False,
    binarize: bool = False,
    title: str = "",
    source: str = "",
    licence: str = "",
) -> Dataset:
    """A data set in memory, for ``run``; the same rows from files are the same data set.

    train, valid, test: [N, D] of 0/1, or images [N, H, W] (grey: levels 0..255 or 0..1, read as probabilities); arrays,
    tensors, data frames or sparse matrices. valid and test may be a share of the training rows (0.1) or a number of
    them. rows: all rows instead, cut by ``split`` into train, valid and test. binarize: models see draws from the grey
    levels, of training rows new ones in every update. seed: of what is drawn. labels: of the
    rows, [N], or by part. Results of a run are filed, and random numbers seeded, under the name. Raises ConfigError for
    a name or arguments that do not go together, DataError that names part, row and column for data that are wrong.
    """
    if wrong := wrong_name(name):
        raise ConfigError(f"dataset: {wrong}")
    if binarize and not grey:
        raise ConfigError(f"dataset {name}: expected grey=True beside binarize, found none")
    own = OwnData(
        name,
        split=tuple(split),
        seed=seed,
        grey=grey,
        binarize=binarize,
        title=title,
        source=source,
        licence=licence,
    )
    given = {"train": train, "valid": valid, "test": test}
    if rows is not None:
        if any(part is not None for part in given.values()):
            raise ConfigError(f"dataset {name}: expected rows, or train, valid and test, found both")
        return split_arrays(own, rows, labels)
    if train is None:
        raise ConfigError(f"dataset {name}: expected train, valid and test, or rows to split, found neither")
    if labels is not None:
        of_parts = labels if isinstance(labels, Mapping) else {"train": labels}
        given |= {f"{part}_{LABELS}": values for part, values in of_parts.items()}
    return from_arrays(own, given)
