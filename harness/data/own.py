"""A user's data set: where its parts are, and how files, arrays or a plugin's function become a verified ``Dataset``.

What it is identified by is the digest of its content alone, which counts neither name nor format nor files: the same
rows from a text, an .npz or a notebook are one data set. The parts are three files, or one file that holds them all,
or one that is split by a seed; a part may also be a share of the training rows. Rows are 0/1, or grey levels, which are
kept as bytes 0..255 and read as probabilities of a one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.data import parts as cutting
from harness.data import readers
from harness.data.assembly import MOST_CLASSES
from harness.data.catalogue import CATALOGUE
from harness.data.dataset import PARTS, Dataset, Status, content_digest, pack
from harness.data.parts import Table
from harness.data.user_files import Asked, Found, content_of, read_content, read_file
from harness.errors import DataError

NUMBERS = "biuf"  # kinds of arrays
WORDS = ("title", "source", "licence")
FULL = 255  # the level of a certain one
SHOWN = 8  # names of arrays in a message


@dataclass(frozen=True)
class OwnData:
    """A user's data set, not read yet; relative paths count from the current folder.

    train, valid, test: files; valid and test may be a share of the training rows (0.1) or their number (500). file: one
    with all rows, of which ``split`` has shares or numbers of train, valid and test, unless it holds arrays of these
    names. seed: of shares and splits. labels: the column or array that has them (-1: the last column), or files by part
    with one label per row. variable: the array of an .npz or .mat file with several. columns: their number, for packed
    bits (``numpy.packbits``) and for sparse files. binarize: models see draws from the grey levels, as a ``Dataset``
    says. header: whether texts have one. load: a function that gives the
    arrays by the names of the parts, in place of files. folder: what messages call the place of ``load``.
    """

    name: str
    train: Path | None = None
    valid: Path | float | None = None
    test: Path | float | None = None
    file: Path | None = None
    split: tuple[float, ...] | None = None
    seed: int = 0
    labels: str | int | Mapping[str, Path] | None = None
    variable: str | None = None
    columns: int | None = None
    grey: bool = False
    binarize: bool = False
    header: bool | None = None
    title: str = ""
    source: str = ""
    licence: str = ""
    load: Callable[[], Any] | None = field(default=None, compare=False)
    code: Path | None = None  # the file with ``load``

    @classmethod
    def from_settings(cls, name: str, values: Mapping[str, Any], folder: Path = Path()) -> OwnData:
        """From an entry of the settings that was checked; its paths count from ``folder``."""
        given = {key: value for key, value in values.items() if value is not None}
        for key in ("file", *PARTS):
            if isinstance(given.get(key), str):
                given[key] = _path(folder, given[key])
        if isinstance(given.get("labels"), Mapping):
            given["labels"] = {part: _path(folder, each) for part, each in given["labels"].items()}
        if "split" in given:
            given["split"] = tuple(given["split"])
        return cls(name, **given)

    @property
    def files(self) -> list[Path]:
        """All files that it is read from."""
        named = [self.code, self.file, *(getattr(self, part) for part in PARTS)]
        if isinstance(self.labels, Mapping):
            named += self.labels.values()
        return [each for each in named if isinstance(each, Path)]

    @property
    def asked(self) -> Asked:
        """What its files are read with."""
        labels = None if isinstance(self.labels, Mapping) else self.labels
        return Asked(self.grey, labels, self.columns, self.header)


def _path(folder: Path, name: str) -> Path:
    return Path(os.path.abspath(folder / Path(name).expanduser()))


def read_own(own: OwnData) -> Dataset:
    """The data set, read and checked. Raises DataError that names file and line or row, what was expected and found."""
    if own.load is not None:
        return from_arrays(own, _loaded(own))
    origin = f"user: {', '.join(dict.fromkeys(path.name for path in own.files))}"
    if own.file is None:
        tables = {part: _table_in(own, getattr(own, part), part) for part in PARTS if _is_path(own, part)}
        return _assembled(own, cutting.with_shares(tables, _shares(own), own.seed), origin)
    found = read_file(own.file, own.asked)
    if own.split is None:
        return _assembled(own, _parts_in(own, found), origin)
    table = _one_table(own, found, own.file, "file")
    return _assembled(own, cutting.split(table, own.split, own.seed), origin)


def from_arrays(own: OwnData, given: Any) -> Dataset:
    """The data set in arrays, tensors or data frames by part (and ``PART_labels``), or in a sequence of the three."""
    if not isinstance(given, Mapping):
        if not isinstance(given, list | tuple) or len(given) != len(PARTS):
            raise DataError(own.name, "arrays train, valid and test", type(given).__name__)
        given = dict(zip(PARTS, given, strict=True))
    allowed = {*PARTS, *(f"{part}_labels" for part in PARTS)}
    if strange := sorted(map(str, set(given) - allowed)):
        raise DataError(own.name, f"arrays {', '.join(sorted(allowed))}", ", ".join(strange))
    tables = {}
    for part in PARTS:
        if given.get(part) is not None and not isinstance(given[part], int | float):
            where = f"{own.name}, {part}"
            labels = given.get(f"{part}_labels")
            tables[part] = Table(where, _rectangle(own, where, _array(where, given[part])), _optional(where, labels))
    shares = {part: given[part] for part in PARTS if isinstance(given.get(part), int | float)}
    return _assembled(own, cutting.with_shares(tables, {**_shares(own), **shares}, own.seed), f"arrays: {own.name}")


def split_arrays(own: OwnData, rows: Any, labels: Any = None) -> Dataset:
    """The data set of all rows in one array, cut as ``own.split`` says."""
    table = Table(own.name, _rectangle(own, own.name, _array(own.name, rows)), _optional(own.name, labels))
    return _assembled(own, cutting.split(table, own.split or (), own.seed), f"arrays: {own.name}")


def _loaded(own: OwnData) -> Any:
    try:
        return own.load()
    except DataError:
        raise
    except Exception as error:  # any that somebody else's code may raise
        raise DataError(own.code, "a load() that returns the arrays", f"{type(error).__name__}: {error}") from error


def _is_path(own: OwnData, part: str) -> bool:
    return isinstance(getattr(own, part), Path)


def _shares(own: OwnData) -> dict[str, float]:
    return {part: share for part in PARTS if isinstance(share := getattr(own, part), int | float)}


def _table_in(own: OwnData, path: Path, part: str) -> Table:
    return _one_table(own, read_file(path, own.asked), path, part)


def _one_table(own: OwnData, found: Found, path: Path, part: str) -> Table:
    """The one table of a file that the settings mean, with its labels."""
    arrays, where = found.arrays, str(path)
    if "" in arrays:
        values, labels = arrays[""], found.labels if own.labels is not None else None
    else:
        key = _key_of(own, arrays, path, part)
        where, values = f"{path}, {key}", arrays[key]
        labels = None
        if isinstance(own.labels, str):
            labels = next((arrays[each] for each in (f"{part}_{own.labels}", own.labels) if each in arrays), None)
            if labels is None:
                raise DataError(f"{path}, labels", f"an array {own.labels!r}", _listed(arrays))
    if isinstance(own.labels, int) and found.labels is None:
        raise DataError(f"{path}, labels", "the name of an array of labels, or a file of them", str(own.labels))
    if isinstance(own.labels, Mapping):
        labels = _labels_in(own.labels[part])
    columns = _declared(arrays, path)
    return Table(where, _rectangle(own, where, values, columns), labels, found.sparse)


def _key_of(own: OwnData, arrays: Mapping[str, np.ndarray], path: Path, part: str) -> str:
    if own.variable is not None:
        if own.variable not in arrays:
            raise DataError(path, f"an array {own.variable!r}", _listed(arrays))
        return own.variable
    keys = [key for key in (part, f"{part}_data") if key in arrays]
    keys = keys or [key for key, values in arrays.items() if values.ndim >= 2 and min(values.shape) > 0]
    if len(keys) != 1:
        raise DataError(path, "one matrix, or the name of one as `variable`", _listed(arrays))
    return keys[0]


def _parts_in(own: OwnData, found: Found) -> dict[str, Table]:
    """The three parts in one file with arrays of their names; MADE's files say ``train_data``."""
    path, arrays, tables = own.file, found.arrays, {}
    for part in PARTS:
        key = next((each for each in (part, f"{part}_data") if each in arrays), None)
        if key is None:
            expected = "arrays train, valid and test, or a `split` for a file of all rows"
            raise DataError(path, expected, "one table" if "" in arrays else _listed(arrays))
        labels = None
        if isinstance(own.labels, str):
            if f"{part}_{own.labels}" not in arrays:
                raise DataError(f"{path}, labels", f"an array '{part}_{own.labels}'", _listed(arrays))
            labels = arrays[f"{part}_{own.labels}"]
        elif isinstance(own.labels, Mapping):
            labels = _labels_in(own.labels[part])
        where = f"{path}, {key}"
        tables[part] = Table(where, _rectangle(own, where, arrays[key], _declared(arrays, path)), labels)
    return tables


def _listed(arrays: Mapping[str, np.ndarray]) -> str:
    named = [f"{name} {values.shape}" for name, values in arrays.items()]
    return ", ".join(named[:SHOWN]) + " ..." * (len(named) > SHOWN) or "none"


def _declared(arrays: Mapping[str, np.ndarray], path: Path) -> int | None:
    """The number of columns that a file of packed bits declares."""
    if "n_features" not in arrays:
        return None
    value = arrays["n_features"]
    if value.shape or value.dtype.kind not in "iu" or value < 1:
        raise DataError(f"{path}, n_features", "a whole number above 0", f"{value.dtype} of shape {value.shape}")
    return int(value)


def _labels_in(path: Path) -> np.ndarray:
    """Labels in a file of their own: an array, or a text of one per line."""
    content = content_of(path)
    if content.startswith((readers.ZIP_MAGIC, b"\x93NUMPY")):
        arrays = read_content(path, content, Asked()).arrays
        if len(arrays) != 1:
            raise DataError(path, "one array of labels", _listed(arrays))
        return next(iter(arrays.values()))
    words = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace").split("\n")
    return np.array([word.strip() for word in words if word.strip()])


def _array(where: str, values: Any) -> np.ndarray:
    """An array of numpy, a tensor, a data frame, a sparse matrix or nested lists as an array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    if hasattr(values, "toarray"):
        values = values.toarray()
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise DataError(where, "a rectangular array of numbers", f"{type(values).__name__} ({error})") from error


def _optional(where: str, labels: Any) -> np.ndarray | None:
    return None if labels is None else _array(f"{where}_labels", labels)


def _rectangle(own: OwnData, where: str, values: np.ndarray, columns: int | None = None) -> np.ndarray:
    """The values as rows; images are laid flat, packed bits unpacked. columns: that the file declares."""
    if values.dtype.kind not in NUMBERS:
        raise DataError(where, "numbers", f"{values.dtype}")
    if values.ndim < 2 or not values.size:
        raise DataError(where, "at least one row of at least one column", f"an array of shape {values.shape}")
    values = values.reshape(len(values), -1)
    columns = own.columns if own.columns is not None else columns
    if columns is None or values.shape[1] == columns:
        return values
    if values.dtype == np.uint8 and values.shape[1] == (columns + 7) // 8 and not own.grey:
        bits = np.unpackbits(values, axis=1)
        if bits[:, columns:].any():
            raise DataError(where, f"packed bits of {columns} columns, then zeros", "a one beyond the last column")
        return bits[:, :columns]
    raise DataError(where, f"{columns} columns", f"{values.shape[1]} columns")


def _assembled(own: OwnData, tables: dict[str, Table], origin: str) -> Dataset:
    """Checked rows of one kind, labels as classes, and the digest of it all."""
    n_columns = max(table.values.shape[1] for table in tables.values())
    wide = {part: cutting.widened(table, n_columns) for part, table in tables.items()}
    first = next(iter(wide.values()))
    for table in wide.values():
        if table.values.shape[1] != first.values.shape[1]:
            expected = f"{first.values.shape[1]} columns, as in {first.where}"
            raise DataError(table.where, expected, f"{table.values.shape[1]} columns")
        if not len(table.values):
            raise DataError(table.where, "at least one row", "none")
    rows = _grey(wide) if own.grey else {part: _bits(table) for part, table in wide.items()}
    ordered = [np.ascontiguousarray(rows[part]) for part in PARTS]
    labels = _classes(wide)
    packed = [pack(each, own.grey) for each in ordered]
    digest = content_digest(packed, labels, n_columns, own.grey, binarize=own.binarize)
    status = _status(own.name, digest)
    return Dataset(own.name, *ordered, own.grey, *labels, status, origin, digest, own.binarize, own.title)


def _bits(table: Table) -> np.ndarray:
    try:
        return readers.bits(table.where, table.values, table.values.shape[1])
    except DataError as error:
        if table.values.min() >= 0 and table.values.max() <= FULL:
            raise DataError(error.file, error.expected, f"{error.found} (grey levels? say grey: true)") from error
        raise


def _grey(tables: Mapping[str, Table]) -> dict[str, np.ndarray]:
    """Levels 0..255 as bytes; where no part has one above 1, they are shares of 255."""
    for table in tables.values():
        wrong = ~((table.values >= 0) & (table.values <= FULL))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            found = f"{table.values[row, column]} in column {column + 1}"
            raise DataError(f"{table.where}, row {row + 1}", "grey levels 0..255, or 0..1", found)
    scale = FULL if max(float(table.values.max()) for table in tables.values()) <= 1 else 1
    return {part: np.rint(table.values.astype(np.float64) * scale).astype(np.uint8) for part, table in tables.items()}


def _classes(tables: Mapping[str, Table]) -> list[np.ndarray | None]:
    """Labels as classes 0 .. n-1, in the order of the training rows' labels."""
    if all(table.labels is None for table in tables.values()):
        return [None] * len(PARTS)
    for table in tables.values():
        where = f"{table.where}, labels"
        if table.labels is None:
            raise DataError(where, "labels for all three parts, or for none", "none")
        if table.labels.size != len(table.values):
            raise DataError(where, f"{len(table.values)} labels", f"shape {table.labels.shape}")
    given = {part: _sortable(table.labels.reshape(-1)) for part, table in tables.items()}
    known = np.unique(given["train"])
    if len(known) > MOST_CLASSES:
        raise DataError(f"{tables['train'].where}, labels", f"at most {MOST_CLASSES} classes", f"{len(known)}")
    for part, values in given.items():
        if strange := [value for value in np.unique(values).tolist() if value not in known.tolist()]:
            expected = f"labels that training rows have ({', '.join(map(str, known.tolist()[:SHOWN]))})"
            raise DataError(f"{tables[part].where}, labels", expected, repr(strange[0]))
    return [np.searchsorted(known, given[part]).astype(np.uint8) for part in PARTS]


def _sortable(labels: np.ndarray) -> np.ndarray:
    """Labels as numbers where all are, else as words."""
    try:
        return labels.astype(np.float64)
    except ValueError:
        return labels.astype(str)


def _status(name: str, digest: str) -> Status:
    """Official or a stand-in where the catalogue has a data set of this name, else neither."""
    if name not in CATALOGUE:
        return Status(official=None)
    known = (route.status for route in CATALOGUE[name].routes if route.digest == digest)
    return next(known, Status(official=False, note="the user's own data, not the catalogue's"))
