"""First sight of a user's data set: the digest of its content, kept by the names, sizes and times of its files.

Settings need the digest of every data set of the user, which is part of its cells, each time that they are read. The
files are read once and again when one of them has changed; what was seen lies in the cache, one small file each.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import atomic
from harness.data.dataset import PARTS, Dataset
from harness.data.own import OwnData, read_own
from harness.errors import DataError, HarnessError

FOLDER = "own"  # of the cache
UNSEEN = ("title", "source", "licence", "load")  # what does not change the content


@dataclass(frozen=True)
class Sighting:
    """A data set as it was seen: the digest of its content, columns, rows of train, valid and test."""

    digest: str
    columns: int
    rows: tuple[int, ...]
    grey: bool
    status: str

    @classmethod
    def of(cls, data: Dataset) -> Sighting:
        """What is kept of a data set that was read."""
        rows = tuple(len(getattr(data, part)) for part in PARTS)
        return cls(data.digest, data.n_features, rows, data.grey, str(data.status))


def sight(own: OwnData, cache: Path) -> Sighting:
    """What was seen of these files, which are read if that was never done. Raises DataError where they are wrong."""
    return remembered(own, cache) or remember(own, cache, read_own(own))


def remembered(own: OwnData, cache: Path) -> Sighting | None:
    """What was seen of these files, as they are now; None where nothing was."""
    try:
        values = json.loads(_place(own, cache).read_text(encoding="utf-8"))
        return Sighting(**{**values, "rows": tuple(values["rows"])})
    except (OSError, ValueError, TypeError, KeyError, DataError):
        return None


def remember(own: OwnData, cache: Path, data: Dataset) -> Sighting:
    """Keep what was seen, where the cache can be written to."""
    found = Sighting.of(data)
    with contextlib.suppress(HarnessError):
        atomic.write_json(_place(own, cache), dataclasses.asdict(found))
    return found


def identity(own: OwnData) -> str:
    """sha256 of where a data set is and how it is read, with size and time of each file. Raises DataError."""
    stated: dict[str, Any] = {each.name: getattr(own, each.name) for each in dataclasses.fields(own)}
    for key in UNSEEN:
        del stated[key]
    if not own.binarize:  # as earlier versions, which had no such thing, wrote it
        del stated["binarize"]
    states = []
    for path in own.files:
        try:
            state = path.stat()
        except OSError as error:
            raise DataError(path, "a file that can be read", error.strerror) from error
        states.append((str(path), state.st_size, state.st_mtime_ns))
    text = json.dumps([_plain(stated), states], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return str(value) if isinstance(value, Path) else value


def _place(own: OwnData, cache: Path) -> Path:
    return Path(cache) / FOLDER / f"{identity(own)}.json"
