"""Digests of what is made of measurements: tables, figures, checks, reports.

People read these files, and next to nothing computes with them, so a damaged one would not be noticed by what follows
from it. Whoever writes them seals them: their digests go to ``.sha256/NAME.json`` of their folder. Verbs that read one
of them compare; so does the workflow when it begins, which makes again what was damaged.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from harness.errors import DataError
from harness.storage.records import file_digest, read_json, write_json

FOLDER = ".sha256"
log = logging.getLogger(__name__)


def seal(name: str, paths: Iterable[Path]) -> None:
    """Keep the digests of files that were written together, in one record for each folder that has some of them."""
    folders: dict[Path, dict[str, str]] = defaultdict(dict)
    for path in paths:
        folders[path.parent][path.name] = file_digest(path)
    for folder, digests in folders.items():
        write_json(folder / FOLDER / f"{name}.json", {"files": digests})


def check_seal(path: Path) -> None:
    """Raises DataError where a file is not what was sealed, or its record is damaged; passes one that is missing."""
    for record in _records(path.parent):
        _check(path, read_json(record)["files"].get(path.name))


def _check(path: Path, expected: str | None) -> None:
    if expected is not None and path.is_file() and (found := file_digest(path)) != expected:
        raise DataError(path, f"sha256 {expected}", found)


def discard_broken(folder: Path) -> None:
    """Remove files that are not what was sealed, and those written with them; the first of them is named in one line.

    The workflow then makes all of them again.
    """
    for record in _records(folder):
        digests: dict[str, str] = {}
        try:
            digests = read_json(record)["files"]
            for name, expected in digests.items():
                _check(folder / name, expected)
        except DataError as error:
            log.warning(f"{error}; made again")
            for path in (*(folder / name for name in digests), record):
                path.unlink(missing_ok=True)


def _records(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("*.json"))
