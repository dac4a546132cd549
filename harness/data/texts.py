"""Texts of users: 0/1 or grey levels separated by commas, semicolons, tabs or blanks, and libsvm's sparse lines.

The catalogue's texts are read by ``readers``, which knows their number of columns and their separator. Here both are
read off the first line. A first line of names, or one that counts the columns, is a header. What is not a number where
one should be, or not 0 or 1 in a text that is not of grey levels, is a DataError with file, line and column.
"""

from __future__ import annotations

import csv
import re
from array import array
from typing import NamedTuple

import numpy as np

from harness.errors import DataError

BITS = "values that are 0 or 1"
LEVELS = "grey levels, as numbers"
ROWS = "rows of numbers separated by commas, semicolons, tabs or blanks"
FEWEST_COUNTED = 3  # columns of a header that counts: "0,1" may be a row
NO_NAMES = ("na", "n/a", "null", "none", "missing", "true", "false", "yes", "no", "t", "f", "y", "n")  # but values
_PAIR = re.compile(rb"\d+:[-+.\deE]+")
_SVM_LINE = re.compile(rb"[-+]?[\d.]+(\s+\d+:[-+.\deE]+)*\s*(#.*)?")
SHOWN = 20  # characters of a strange value in a message


class Text(NamedTuple):
    """values: float64 [rows, columns], without the column of labels. labels: as they are written, or None."""

    values: np.ndarray
    labels: np.ndarray | None
    header: tuple[str, ...]


class _Numbers(dict):
    """The value of every word, found once: few words make up most files. A word that is no value raises ValueError."""

    def __init__(self, grey: bool):
        super().__init__()
        self.grey = grey

    def __missing__(self, word: bytes) -> float:
        value = float(word.strip(b"\"' "))
        if not (np.isfinite(value) if self.grey else value in (0.0, 1.0)):
            raise ValueError(word)
        self[word] = value
        return value


def is_libsvm(content: bytes) -> bool:
    """Whether the first lines of a text are libsvm's: a label, then column:value."""
    lines = [line.strip() for line in content[:100_000].splitlines()[:50]]
    lines = [line for line in lines[:-1] or lines if line]
    return any(_PAIR.search(line) for line in lines) and bool(_SVM_LINE.fullmatch(lines[0]))


def read_text(
    file: object, content: bytes, grey: bool = False, label: str | int | None = None, header: bool | None = None
) -> Text:
    """A text of one row per line. label: the column of labels, by its name in the header or its number.

    Numbers count from 1, or from the end with -1. header: whether there is one; None: as the first line looks.
    """
    content = _plain(file, content)
    regular = None if grey or label is not None or header else _regular(content)
    if regular is not None:
        return Text(regular, None, ())
    lines = [(number, line) for number, line in enumerate(content.split(b"\n"), start=1) if line.strip()]
    first = lines[0][1]
    separator = next((mark for mark in (b";", b"\t", b",") if mark in first.strip()), None)
    words = _words(first, separator)
    names: tuple[str, ...] = ()
    if header or (header is None and _is_header(file, lines[0][0], words, grey)):
        quoted = first.decode("utf-8", errors="replace").strip()
        names = tuple(next(csv.reader([quoted], delimiter=separator.decode()))) if separator else tuple(quoted.split())
        lines = lines[1:]
        if not lines:
            raise DataError(file, "at least one row below the header", "none")
    n_columns = len(names) or len(words)
    place = None if label is None else _place(file, label, names, n_columns)
    values, labels, numbers = array("d"), [], _Numbers(grey)
    for number, line in lines:
        words = _words(line, separator)
        if len(words) != n_columns:
            end = " in the last line (a truncated file?)" if number == lines[-1][0] and len(lines) > 1 else ""
            expected = f"{n_columns} columns, as in the first line"
            raise DataError(f"{file}, line {number}", expected, f"{len(words)} columns{end}")
        if place is not None:
            labels.append(words.pop(place).strip(b"\"' ").decode("utf-8", errors="replace"))
        try:
            values.extend([numbers[word] for word in words])
        except ValueError as error:
            raise _strange(file, number, words, numbers, place) from error
    kept = tuple(name for i, name in enumerate(names) if i != place)
    table = np.frombuffer(values, np.float64).reshape(len(lines), n_columns - (place is not None))
    return Text(table, np.array(labels) if place is not None else None, kept)


def read_libsvm(file: object, content: bytes, grey: bool = False, columns: int | None = None) -> Text:
    """Lines ``label column:value ...``, columns counted from 1; what a line does not name is 0.

    columns: how many there are; None: as many as the largest number of the file.
    """
    rows: list[list[tuple[int, float]]] = []
    labels, numbers = [], _Numbers(grey)
    lines = _plain(file, content).split(b"\n")
    for number, line in enumerate(lines, start=1):
        words = line.split(b"#", 1)[0].split()
        if not words:
            continue
        where = f"{file}, line {number}"
        labels.append(words[0].decode("utf-8", errors="replace"))
        pairs = []
        for word in words[1:]:
            column, colon, value = word.partition(b":")
            if not colon or not column.isdigit():
                raise DataError(where, "a label, then column:value", repr(_text(word)))
            if not 1 <= int(column) <= (columns or int(column)):
                expected = f"columns 1 .. {columns}" if columns else "columns counted from 1"
                raise DataError(where, expected, f"column {int(column)}")
            try:
                pairs.append((int(column) - 1, numbers[value]))
            except ValueError as error:
                found = f"{_text(value)!r} in column {int(column)}"
                raise DataError(where, LEVELS if grey else BITS, found) from error
        rows.append(pairs)
    n_columns = columns or max((column for pairs in rows for column, _ in pairs), default=-1) + 1
    if not n_columns:
        raise DataError(file, "lines with column:value", "labels alone")
    values = np.zeros((len(rows), n_columns))
    for row, pairs in enumerate(rows):
        for column, value in pairs:
            values[row, column] = value
    return Text(values, np.array(labels), ())


def _plain(file: object, content: bytes) -> bytes:
    """The text without a byte-order mark and with line ends of one kind."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(file, "text in UTF-8", "UTF-16 (save it as UTF-8)")
    content = content.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not content.strip():
        raise DataError(file, ROWS, "an empty file")
    if b"\0" in content[:10_000]:
        raise DataError(file, ROWS, f"a file of another kind, which starts with {content[:4].hex()}")
    return content


def _regular(content: bytes) -> np.ndarray | None:
    """The rows of a text that is a grid of bytes, digit, separator, digit ..., newline; None of any other."""
    content = content.rstrip(b"\n") + b"\n"
    width = content.index(b"\n") + 1
    if width % 2 or len(content) % width:
        return None
    grid = np.frombuffer(content, np.uint8).reshape(-1, width)
    digits, marks = grid[:, ::2], grid[:, 1:-1:2]
    if marks.size and (marks[0, 0] not in b",; \t" or not (marks == marks[0, 0]).all()):
        return None
    if not (grid[:, -1] == b"\n"[0]).all() or not ((digits == b"0"[0]) | (digits == b"1"[0])).all():
        return None
    return digits - np.uint8(b"0"[0])


def _words(line: bytes, separator: bytes | None) -> list[bytes]:
    return line.split() if separator is None else [word.strip() for word in line.strip(b" \n").split(separator)]


def _is_header(file: object, number: int, words: list[bytes], grey: bool) -> bool:
    """Whether the words of a first line are names of columns, or count them.

    DataError where some of them are values and some are not: it might be a row with a fault.
    """
    values = [_number(word) for word in words]
    if all(value is not None for value in values):
        counts = [list(map(float, range(start, start + len(words)))) for start in (0, 1)]
        return len(words) >= FEWEST_COUNTED and values in counts and not grey
    plain = [_text(word).strip("\"' ").lower() for word in words]
    has_name = any(word not in NO_NAMES and re.search(r"[^\W\d]", word) for word in plain)
    if has_name and not any(value is not None for value in values):
        return True
    strange = next(i for i, value in enumerate(values) if value is None)
    found = f"{_text(words[strange])!r} in column {strange + 1}"
    expected = f"{LEVELS if grey else BITS}, or a header of names (with numbers among them, say header: true)"
    raise DataError(f"{file}, line {number}", expected, found)


def _number(word: bytes) -> float | None:
    try:
        return float(word.strip(b"\"' "))
    except ValueError:
        return None


def _place(file: object, label: str | int, names: tuple[str, ...], n_columns: int) -> int:
    """Where the column of labels is, counted from 0."""
    if isinstance(label, int):
        place = label - 1 if label > 0 else n_columns + label
        if label == 0 or not 0 <= place < n_columns:
            raise DataError(f"{file}, labels", f"a column 1 .. {n_columns}, or -1 for the last", str(label))
        return place
    found = [i for i, name in enumerate(names) if name == label]
    if len(found) != 1:
        listed = f"a header with {', '.join(names[:5])}{' ...' * (len(names) > 5)}" if names else "no header"
        raise DataError(f"{file}, labels", f"one column {label!r}", f"{len(found)} of them, {listed}")
    return found[0]


def _strange(file: object, line: int, words: list[bytes], numbers: _Numbers, place: int | None) -> DataError:
    """What to say of a line with a word that is no value."""
    expected = LEVELS if numbers.grey else BITS
    for i, word in enumerate(words):
        try:
            numbers[word]
        except ValueError:
            column = i + 1 + (place is not None and i >= place)
            if len(words) == 1 and len(word) > 1 and not word.strip(b"01"):
                expected = "digits separated by commas, semicolons, tabs or blanks"
            hint = "" if numbers.grey or not _is_level(word) else " (grey levels? say grey: true)"
            return DataError(f"{file}, line {line}", expected, f"{_text(word)!r} in column {column}{hint}")
    raise AssertionError("a line without a fault")


def _is_level(word: bytes) -> bool:
    value = _number(word)
    return value is not None and 0.0 <= value <= 255.0


def _text(word: bytes) -> str:
    text = word.decode("utf-8", errors="replace")
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
