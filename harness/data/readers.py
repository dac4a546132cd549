"""Readers of the formats in which the public homes hand out the data; bytes in, uint8 arrays out.

Each names the file (and line, where there are lines) in a DataError when it meets an empty or truncated file, a wrong
number of columns or a value that is neither 0 nor 1. Nothing here knows about data sets, caches or networks.
"""

import io
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterable

import numpy as np

from harness.data import forms
from harness.errors import DataError

IDX_UINT8 = 8
ZIP_MAGIC = b"PK"
MOST_BYTES = 2**31  # of arrays in one file, unpacked; the largest public set takes a tenth
ZERO, NEWLINE = b"0"[0], b"\n"[0]
# What numpy and zipfile raise for a damaged file, or (RuntimeError) for one that is encrypted or packed in another way.
_NPZ_TROUBLE = (ValueError, EOFError, OSError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_comma_text(file: object, content: bytes, columns: int) -> np.ndarray:
    """0/1 text, one row per line, digits separated by commas; uint8 [rows, columns]."""
    return _read_digits(file, content, columns, b",")


def read_amat(file: object, content: bytes, columns: int) -> np.ndarray:
    """Larochelle's .amat text, one row per line, digits separated by blanks; uint8 [rows, columns]."""
    return _read_digits(file, content, columns, b" ")


def _read_digits(file: object, content: bytes, columns: int, separator: bytes) -> np.ndarray:
    if not content.strip():
        raise DataError(file, f"lines of {columns} columns", "an empty file")
    # Every upstream file is a regular grid of bytes: digit, separator, digit, ..., newline.
    if len(content) % (2 * columns) == 0:
        grid = np.frombuffer(content, np.uint8).reshape(-1, 2 * columns)
        digits, marks = grid[:, ::2], grid[:, 1::2]
        if (marks[:, :-1] == separator[0]).all() and (marks[:, -1] == NEWLINE).all() and _are_bits(digits, ZERO):
            return digits - np.uint8(ZERO)
    return _read_irregular_digits(file, content, columns, separator)


def _are_bits(values: np.ndarray, zero: int = 0) -> bool:
    return bool(((values == zero) | (values == zero + 1)).all())


def _read_irregular_digits(file: object, content: bytes, columns: int, separator: bytes) -> np.ndarray:
    """Line by line: accepts odd blanks and line ends, and otherwise finds the line to complain about."""
    rows = []
    lines = content.splitlines()
    for number, line in enumerate(lines, start=1):
        values = line.split() if separator.isspace() else line.replace(b" ", b"").split(separator)
        if strange := set(values) - {b"0", b"1"}:
            column = next(i for i, value in enumerate(values) if value in strange)
            if len(values) == columns:
                found = f"{values[column].decode(errors='replace')!r} in column {column + 1}"
                raise DataError(f"{file}, line {number}", "values that are 0 or 1", found)
        if len(values) != columns:
            end = " in the last line (a truncated file?)" if number == len(lines) else ""
            raise DataError(f"{file}, line {number}", f"{columns} columns", f"{len(values)} columns{end}")
        rows.append(b"".join(values))
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, columns) - np.uint8(ZERO)


def read_npz(file: object, content: bytes, keys: Iterable[str]) -> dict[str, np.ndarray]:
    """The named arrays of an .npz file (and any others it has); never unpickles.

    What its headers declare is checked before room is made for it: DataError for more than MOST_BYTES, or other than
    the file holds.
    """
    keys = tuple(keys)
    if not content.startswith(ZIP_MAGIC):
        raise DataError(file, f"an .npz file (numpy.savez) with the arrays {', '.join(keys)}", forms.found(content))
    try:
        _check_declared(file, content)
        with warnings.catch_warnings(), np.load(io.BytesIO(content), allow_pickle=False) as archive:
            # Headers written by Python 2 say (1186L, 180L); numpy reads them and warns.
            warnings.filterwarnings("ignore", message=".*created on Python 2.*", category=UserWarning)
            if missing := [key for key in keys if key not in archive.files]:
                raise DataError(file, f"the arrays {', '.join(keys)}", f"no {', '.join(missing)}")
            return {key: archive[key] for key in archive.files}
    except _NPZ_TROUBLE as error:
        raise DataError(file, "a whole .npz file", f"one that cannot be read ({error})") from error


def _check_declared(file: object, content: bytes) -> None:
    """DataError where the members of a .npz declare more than MOST_BYTES, or arrays of other sizes than they have."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        if (declared := sum(member.file_size for member in members)) > MOST_BYTES:
            raise DataError(file, f"at most {MOST_BYTES} bytes of arrays", f"{declared} declared")
        for member in members:
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                header = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message=".*created on Python 2.*", category=UserWarning)
                    shape, _, dtype = header(stream)
                held, wanted = member.file_size - stream.tell(), math.prod(shape) * dtype.itemsize
            if wanted != held and not dtype.hasobject:
                what = f"{file}, {member.filename.removesuffix('.npy')}"
                raise DataError(what, f"{wanted} bytes for {dtype} of shape {shape}", f"{held}")


def read_made_npz(file: object, content: bytes, columns: int) -> list[np.ndarray]:
    """MADE's .npz of float32 parts: train, valid, test, each uint8 [rows, columns]."""
    keys = ("train_data", "valid_data", "test_data")
    arrays = read_npz(file, content, keys)
    return [bits(f"{file}, {key}", arrays[key], columns) for key in keys]


def bits(file: object, values: np.ndarray, columns: int) -> np.ndarray:
    """The array as uint8 [rows, columns]; DataError for another shape or a value that is neither 0 nor 1."""
    check_shape(file, values, columns)
    if not _are_bits(values):
        row, column = np.argwhere((values != 0) & (values != 1))[0]
        found = f"{values[row, column]} in column {column + 1}"
        raise DataError(f"{file}, row {row + 1}", "values that are 0 or 1", found)
    return values.astype(np.uint8, order="C", copy=False)


def check_shape(file: object, values: np.ndarray, columns: int) -> None:
    """DataError unless the array is a table with at least one row and that many columns."""
    if values.ndim != 2 or values.shape[1] != columns:
        raise DataError(file, f"rows of {columns} columns", f"an array of shape {values.shape}")
    if not len(values):
        raise DataError(file, "at least one row", "none")


def read_mat(file: object, content: bytes, keys: Iterable[str]) -> dict[str, np.ndarray]:
    """The named variables of a MATLAB v5 file."""
    from scipy.io import loadmat, whosmat

    if not content:
        raise DataError(file, "a MATLAB v5 file", "an empty file")
    keys = tuple(keys)
    try:
        sizes = {name: math.prod(shape) for name, shape, _ in whosmat(io.BytesIO(content)) if name in keys}
        if sum(sizes.values()) > MOST_BYTES:
            raise DataError(file, f"at most {MOST_BYTES} values", f"{sum(sizes.values())} declared")
        variables = loadmat(io.BytesIO(content), variable_names=keys)
    except DataError:
        raise
    except Exception as error:  # scipy raises what its C code happens to meet: TypeError, zlib.error, IndexError...
        raise DataError(file, "a whole MATLAB v5 file", f"one that cannot be read ({error})") from error
    if missing := [key for key in keys if key not in variables]:
        raise DataError(file, f"the variables {', '.join(keys)}", f"no {', '.join(missing)}")
    return {key: variables[key] for key in keys}


def read_idx(file: object, content: bytes) -> np.ndarray:
    """MNIST's idx format of unsigned bytes: uint8 [items] or [items, rows, columns]."""
    if len(content) < 4:
        raise DataError(file, "an idx file", f"{len(content)} bytes" if content else "an empty file")
    zeros, kind, n_axes = struct.unpack(">HBB", content[:4])
    if zeros or kind != IDX_UINT8 or not n_axes or len(content) < 4 + 4 * n_axes:
        raise DataError(file, "an idx file of unsigned bytes", f"a file that starts with {content[:4].hex()}")
    shape = struct.unpack(f">{n_axes}I", content[4 : 4 + 4 * n_axes])
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes)
    if values.size != math.prod(shape):
        raise DataError(file, f"{math.prod(shape)} values, of shape {shape}", f"{values.size} values")
    return values.reshape(shape)
