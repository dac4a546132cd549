"""Files of users in the formats that numbers are kept in, read without being told which: bytes in, arrays out.

The content decides the format, not the file's name: texts and libsvm's (see ``texts``), numpy's .npy and .npz,
parquet, MATLAB's v5 and v7.3, each perhaps gzipped. Nothing is unpickled. What cannot be read is a DataError with file,
what was expected and what was found.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harness.data import forms, readers, texts, verify
from harness.errors import DataError

FORMATS = "a text of numbers, libsvm, .npy, .npz, .parquet or .mat file"
PICKLE = re.compile(rb"\x80[\x02-\x05]")


class Asked(NamedTuple):
    """What is known of a file beforehand. labels: the column or array that has them; columns: how many there are."""

    grey: bool = False
    labels: str | int | None = None
    columns: int | None = None
    header: bool | None = None


class Found(NamedTuple):
    """The content of a file. arrays: by name; that of a file with one table is ''. labels: of that table."""

    arrays: dict[str, np.ndarray]
    labels: np.ndarray | None = None
    sparse: bool = False  # columns that no row of this file has may be missing on the right


def read_file(path: Path, asked: Asked) -> Found:
    """The arrays of a file. Raises DataError where it is missing, damaged or of a format that is not read."""
    return read_content(path, content_of(path), asked)


def content_of(path: Path) -> bytes:
    """The bytes of a file, unzipped. Raises DataError."""
    try:
        if path.is_dir():
            raise DataError(path, "a file", "a folder")
        if (size := path.stat().st_size) > verify.MOST_BYTES:
            raise DataError(path, f"at most {verify.MOST_BYTES} bytes", f"{size}")
        content = path.read_bytes()
    except OSError as error:
        raise DataError(path, "a file that can be read", error.strerror) from error
    return verify.unzipped(path, content)


def read_content(file: object, content: bytes, asked: Asked) -> Found:
    """``read_file`` for bytes that are there already."""
    if not content:
        raise DataError(file, FORMATS, "an empty file")
    if PICKLE.match(content):
        raise DataError(file, FORMATS, forms.found(content))
    for magic, read in _READERS.items():
        if content.startswith(magic):
            return read(file, content, asked)
    return _text(file, content, asked)


def _text(file: object, content: bytes, asked: Asked) -> Found:
    if texts.is_libsvm(content):
        text = texts.read_libsvm(file, content, asked.grey, asked.columns)
        return Found({"": text.values}, text.labels, sparse=asked.columns is None)
    text = texts.read_text(file, content, asked.grey, asked.labels, asked.header)
    return Found({"": text.values}, text.labels)


def _npz(file: object, content: bytes, asked: Asked) -> Found:
    return Found(readers.read_npz(file, content, ()))


def _npy(file: object, content: bytes, asked: Asked) -> Found:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*created on Python 2.*", category=UserWarning)
            return Found({"": np.load(io.BytesIO(content), allow_pickle=False)})
    except (ValueError, EOFError, OSError, TypeError, MemoryError) as error:
        raise DataError(file, "a whole .npy file of numbers", f"one that cannot be read ({error})") from error


def _parquet(file: object, content: bytes, asked: Asked) -> Found:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        found = f"one that cannot be read ({str(error).splitlines()[0]})"
        raise DataError(file, "a whole .parquet file", found) from error
    labels = asked.labels
    names = [name for name in table.column_names if not re.fullmatch(r"__index_level_\d+__", name)]
    if isinstance(labels, int):
        if not 0 < abs(labels) <= len(names):
            raise DataError(f"{file}, labels", f"a column 1 .. {len(names)}, or -1 for the last", str(labels))
        labels = names[labels - 1 if labels > 0 else labels]
    if labels is not None and labels not in names:
        raise DataError(f"{file}, labels", f"a column {labels!r}", f"columns {', '.join(names[:5])} ...")
    found = None if labels is None else np.asarray(table.column(labels).to_pylist())
    columns = []
    for name in (name for name in names if name != labels):
        column, where = table.column(name), f"{file}, column {name!r}"
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise DataError(where, "a value in every row", f"none in row {row + 1}")
        if not (
            pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
        ):
            raise DataError(where, "numbers", str(column.type))
        columns.append(column.to_numpy())
    if not columns or not table.num_rows:
        raise DataError(file, "at least one column of numbers and one row", f"shape {table.shape}")
    return Found({"": np.stack(columns, axis=1)}, found)


def _mat(file: object, content: bytes, asked: Asked) -> Found:
    from scipy.io import whosmat

    try:
        names = [name for name, _, kind in whosmat(io.BytesIO(content)) if kind not in ("char", "cell", "struct")]
    except Exception as error:  # scipy raises what its C code happens to meet
        raise DataError(file, "a whole MATLAB v5 file", f"one that cannot be read ({error})") from error
    variables = readers.read_mat(file, content, names)
    return Found({name: _dense(f"{file}, {name}", value) for name, value in variables.items()})


def _dense(where: str, values: Any) -> np.ndarray:
    if hasattr(values, "toarray"):
        if math.prod(values.shape) > readers.MOST_BYTES:
            raise DataError(where, f"at most {readers.MOST_BYTES} values", f"{values.shape[0]} x {values.shape[1]}")
        return values.toarray()
    return np.asarray(values)


def _hdf(file: object, content: bytes, asked: Asked) -> Found:
    """The matrices of a MATLAB v7.3 file, which is HDF5: MATLAB's first axis is HDF5's last."""
    try:
        import h5py
    except ImportError as error:
        expected = "h5py for HDF5, which MATLAB's v7.3 files are: pip install h5py, or save('-v7') in MATLAB"
        raise DataError(file, expected, "no h5py installed") from error
    try:
        with h5py.File(io.BytesIO(content)) as archive:
            found = {name: value for name, value in archive.items() if isinstance(value, h5py.Dataset)}
            if sum(value.size for value in found.values()) > readers.MOST_BYTES:
                raise DataError(file, f"at most {readers.MOST_BYTES} values", "more")
            return Found({name: value[()].T for name, value in found.items() if value.dtype.kind in "biuf"})
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise DataError(file, "a whole MATLAB v7.3 file", f"one that cannot be read ({error})") from error


_READERS = {
    readers.ZIP_MAGIC: _npz,
    b"\x93NUMPY": _npy,
    b"PAR1": _parquet,
    b"MATLAB 5.0": _mat,
    b"MATLAB 7.3": _hdf,
    b"\x89HDF": _hdf,
}
