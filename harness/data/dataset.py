"""A data set once it has been read: three parts of rows, perhaps labels, a status and a digest.

The digest covers the canonical form only (shapes, packed bits or grey levels, labels, in order), neither the name nor
the file it came from, so two routes to the same data end in the same digest.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Status:
    """Whether rows and split are those of the literature, and what the reader of a table must know about them.

    official: None of a user's data set, of which there is no other version.
    """

    official: bool | None
    note: str = ""

    def __str__(self) -> str:
        word = {True: "official", False: "stand-in", None: "own"}[self.official]
        return ": ".join(filter(None, [word, self.note]))


class Content(NamedTuple):
    """The rows of a data set and nothing else; uint8 [rows, columns], labels uint8 [rows] or None for each part."""

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    labels: tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None] = (None, None, None)


@dataclass(frozen=True)
class Dataset:
    """A data set ready for use; 0/1, or grey levels 0..255 where `grey` is True.

    binarize: grey levels are probabilities, and models see draws from them: of training rows new ones in every update,
    of other rows the same ones always (Salakhutdinov and Murray, 2008).
    """

    name: str
    train: np.ndarray  # uint8 [rows, columns]
    valid: np.ndarray  # uint8 [rows, columns]
    test: np.ndarray  # uint8 [rows, columns]
    grey: bool
    train_labels: np.ndarray | None  # uint8 [rows]
    valid_labels: np.ndarray | None  # uint8 [rows]
    test_labels: np.ndarray | None  # uint8 [rows]
    status: Status
    origin: str
    digest: str
    binarize: bool = False
    title: str = ""  # of a user's data set; '': its name

    @property
    def n_features(self) -> int:
        """The number of columns."""
        return self.train.shape[1]


def pack(rows: np.ndarray, grey: bool) -> np.ndarray:
    """The stored form of a part: bits packed along columns (uint8 [rows, ceil(columns/8)]), grey levels as they are."""
    return np.ascontiguousarray(rows) if grey else np.packbits(rows, axis=1)


def unpack(packed: np.ndarray, columns: int, grey: bool) -> np.ndarray:
    """The inverse of `pack`: uint8 [rows, columns]."""
    return packed if grey else np.unpackbits(np.ascontiguousarray(packed), axis=1, count=columns)


def content_digest(
    packed: Sequence[np.ndarray],
    labels: Sequence[np.ndarray | None],
    columns: int,
    grey: bool,
    unordered: Sequence[str] = (),
    binarize: bool = False,
) -> str:
    """sha256 of the packed parts and their labels; a part named in `unordered` counts as a set of rows.

    binarize: of a ``Dataset``. The same levels are other data to a model that sees draws from them.
    """
    digest = hashlib.sha256(b"binarize;" if binarize else b"")
    for part, rows, part_labels in zip(PARTS, packed, labels, strict=True):
        if part in unordered:
            rows = rows[np.lexsort(rows.T[::-1])]  # noqa: PLW2901
        digest.update(f"{part} {rows.shape[0]} {columns} {'grey' if grey else 'bits'};".encode())
        digest.update(np.ascontiguousarray(rows).data)
        if part_labels is not None:
            digest.update(f"labels {len(part_labels)};".encode())
            digest.update(np.ascontiguousarray(part_labels).data)
    return digest.hexdigest()
