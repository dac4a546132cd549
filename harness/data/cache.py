"""The canonical copy of a data set on this machine: one bit-packed file, complete or absent, checked on every read.

Several users may share a cache, so nothing that a file says of itself is believed: whether its content is official is
for the catalogue to say, which knows the content by its digest. A file that a user supplied is never kept here.
"""

import contextlib
import errno
import io
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from harness import atomic
from harness.data.dataset import PARTS, Dataset, Status, content_digest, pack, unpack
from harness.data.readers import read_npz
from harness.errors import DataError

FORMAT = 1
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Claim(NamedTuple):
    """The claim of a file in the cache about itself: its status, and the digest of its content."""

    status: Status
    digest: str


def write(path: Path, dataset: Dataset) -> None:
    """Store the data set, replacing what was there in one step; DataError, and nothing left over, if it cannot be."""
    header = {
        "format": FORMAT,
        "columns": dataset.n_features,
        "grey": dataset.grey,
        "official": dataset.status.official,
        "note": dataset.status.note,
        "origin": dataset.origin,
        "digest": dataset.digest,
        "stamp": "",  # earlier versions kept users' files as well, and ask for it
    }
    arrays = {part: pack(getattr(dataset, part), dataset.grey) for part in PARTS}
    for part in PARTS:
        if (labels := getattr(dataset, f"{part}_labels")) is not None:
            arrays[f"{part}_labels"] = labels
    content = io.BytesIO()
    np.savez(content, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **arrays)
    _replace(path, content.getbuffer())


def _replace(path: Path, content: memoryview) -> None:
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = atomic.new_temporary(path)
        with open(temporary, "wb", buffering=0) as file:
            written = 0
            while written < len(content):
                written += file.write(content[written:])
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp's 0600 would shut out those who share the cache
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        expected = f"room for {len(content)} bytes" if error.errno in NO_ROOM else "a cache directory to write to"
        raise DataError(path, expected, error.strerror) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def read(path: Path, name: str, columns: int, grey: bool, unordered: tuple[str, ...] = ()) -> Dataset | None:
    """The stored data set with the status that it claims, None if there is none; DataError if the file is damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(path, "a cache file that can be read", error.strerror) from error
    arrays = read_npz(path, content, ("header", *PARTS))
    try:
        header = json.loads(arrays["header"].tobytes())
        stored = (header["format"], header["columns"], header["grey"])
        status = Status(header["official"], header["note"])
        origin, digest = header["origin"], header["digest"]
        if header["stamp"]:
            raise DataError(path, f"a copy of {name} from one of its sources", "one of a file that a user supplied")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(path, "a header that says what the file holds", f"another one ({error!r})") from error
    if stored != (FORMAT, columns, grey):
        raise DataError(path, f"format, columns, grey {(FORMAT, columns, grey)}", f"{stored}")
    labels = [arrays.get(f"{part}_labels") for part in PARTS]
    found = content_digest([arrays[part] for part in PARTS], labels, columns, grey, unordered)
    if found != digest:
        raise DataError(path, f"content of digest {digest}", f"digest {found}")
    parts = (unpack(arrays[part], columns, grey) for part in PARTS)
    return Dataset(name, *parts, grey, *labels, status, f"cache: {origin}", digest)


def claim(path: Path) -> Claim | None:
    """What the file says of itself, without reading the rows; None if there is no such file or it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            header = json.loads(archive["header"].tobytes())
        return None if header["stamp"] else Claim(Status(header["official"], header["note"]), header["digest"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
