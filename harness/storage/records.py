"""JSON records that reveal damage: each holds the digest of its own content.

``sha256`` is that of everything else in canonical form, so the file stays readable and its layout is free; ``record``
says that there is one, so that no single damage can make a record pass for one of an earlier version, which has
neither and is read as it stands.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import atomic
from harness.errors import DataError
from harness.settings.config import canonical_json

VERSION = 1
_MARK, _DIGEST = "record", "sha256"


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON mapping with the digest of its content."""
    marked = {**value, _MARK: VERSION}
    atomic.write_json(path, {**marked, _DIGEST: _digest(marked)})


def read_json(path: Path) -> dict[str, Any]:
    """A JSON mapping, without its digest; raises DataError, naming the file, where it is no such thing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(path, "a readable JSON file", error) from error
    if not isinstance(value, dict):
        raise DataError(path, "a JSON mapping", type(value).__name__)
    if _MARK in value or _DIGEST in value:
        written, found = value.pop(_DIGEST, None), _digest(value)
        if written != found:
            raise DataError(path, f"the content that was written, of sha256 {written}", f"{found}: damaged or edited")
        value.pop(_MARK, None)
    return value


def _digest(value: Mapping[str, Any]) -> str:
    try:
        text = canonical_json(value)
    except ValueError:  # NaN, which is no JSON but is read as such
        return ""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path, expected: str | None, remedy: str = "") -> None:
    """Raises DataError, with what to do about it, unless the file has this sha256."""
    try:
        found = file_digest(path)
    except OSError as error:
        raise DataError(path, f"a file of sha256 {expected}{remedy}", error.strerror) from error
    if found != expected:
        raise DataError(path, f"sha256 {expected}{remedy}", found)
