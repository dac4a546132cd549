"""Texts of tables and captions as HTML, files as addresses: text between backticks is a metric, all else is plain."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup, escape

from harness.errors import DataError

CODE = re.compile(r"`([^`]*)`")


def prose(text: str) -> Markup:
    """Escaped text, with what is between backticks as code."""
    parts = CODE.split(text)  # text, code, text, ...
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(parts)
    )


def embedded_png(path: Path) -> str:
    """A PNG file as a data URI; raises DataError for a file that is missing or none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(path, "a PNG image", error.strerror) from error
    if not content.startswith(b"\x89PNG\r\n"):
        raise DataError(path, "a PNG image", f"a file that begins with {content[:8]!r}")
    return embedded(content, "image/png")


def embedded(content: bytes, kind: str) -> str:
    """A data URI of this media type."""
    return f"data:{kind};base64," + base64.b64encode(content).decode("ascii")


def relative(path: Path, page: Path) -> str:
    """The address of a file as seen from the page, as a relative URL."""
    return quote(Path(os.path.relpath(path, page.parent)).as_posix())
