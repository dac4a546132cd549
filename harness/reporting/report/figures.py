"""The figures of the report: image, caption, notes, and the data behind each to save from the page itself."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import DataError
from harness.reporting.report.markup import embedded, embedded_png, relative
from harness.storage.measurements import read_csv

LARGEST = 300_000  # bytes of data that are put in the page; sheets of pixels are larger, and linked as a file


@dataclass(frozen=True)
class Figure:
    """id: of the element. image: a data URI, '' where there was nothing to draw; width and height in pixels.

    csv: address of the data, '' where there are none. nothing: why nothing was drawn, in sentences.
    """

    id: str
    title: str
    caption: str
    notes: Sequence[str]
    image: str
    width: int
    height: int
    csv: str
    nothing: Sequence[str]


def figure(path: Path, page: Path, title: str = "") -> Figure:
    """The figure of the PNG file ``path``, with the caption and the data beside it, for a report at ``page``.

    title: as its author has it; '' for what its name says.
    Raises DataError, naming the file, for an image or a caption that is missing or damaged.
    """
    image = embedded_png(path)
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    caption, notes = _caption(path.with_suffix(".rst"))
    data = path.with_suffix(".csv")
    nothing = _remarks(data) if data.exists() else []
    return Figure(
        path.stem, title or _title(path.stem), caption, notes, "" if nothing else image, width, height,
        _address(data, page) if data.exists() and not nothing else "", nothing,
    )  # fmt: skip


def _caption(path: Path) -> tuple[str, list[str]]:
    """The first paragraph, and the list of notes below it."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, "the caption of a figure", error) from error
    caption, _, below = text.partition("\n\n")
    return caption, [line.removeprefix("- ") for line in below.splitlines() if line.strip()]


def _title(name: str) -> str:
    words = name.removeprefix("figure_").split("_")
    is_numbered = words and all(word.isdigit() for word in words)
    return f"Figure {'.'.join(words)}" if is_numbered else " ".join(words).capitalize()


def _remarks(path: Path) -> list[str]:
    """Why there was nothing to draw: such a figure's data are remarks alone."""
    with path.open(encoding="utf-8") as file:
        if file.readline().strip() != "remark":
            return []
    return [str(remark) for remark in read_csv(path)["remark"]]


def _address(path: Path, page: Path) -> str:
    """A data URI, or the relative path of a large file."""
    if path.stat().st_size <= LARGEST:
        return embedded(path.read_bytes(), "text/csv;charset=utf-8")
    return relative(path, page)
