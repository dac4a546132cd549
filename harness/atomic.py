"""Files and folders appear whole or not at all: write to a temporary name beside them, sync, rename.

A temporary name says whose it is, so that what a killed process has left is swept away by the next one that writes to
the same folder, and what a living one is about to write is left alone.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import platform
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

ABANDONED_S = 3600  # age at which the temporary file of a process elsewhere is taken for left behind
_OWNED = re.compile(r"^\..*\.([0-9a-f]{8})-(\d+)-(\d+)-[^.]*\.part$")
_swept: set[Path] = set()


@cache
def _place() -> str:
    """Short name of where process numbers mean what they mean here: this machine, and in it this container."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:8]


def new_temporary(path: Path) -> Path:
    """A new empty file beside ``path``, named by this process; sweeps the folder first. Raises OSError."""
    sweep(path.parent)
    prefix = f".{path.name[:100]}.{_place()}-{os.getpid()}-{_birth(os.getpid())}-"
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".part")
    os.close(descriptor)
    return Path(name)


def sweep(folder: Path) -> None:
    """Remove the temporary files in ``folder`` that killed processes have left; once in the life of this one."""
    if folder in _swept:
        return
    _swept.add(folder)
    for left in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            if left.is_file() and _is_abandoned(left):
                left.unlink()


def _is_abandoned(path: Path) -> bool:
    owner = _OWNED.match(path.name)
    if owner and owner[1] == _place():
        return not _is_alive(int(owner[2]), int(owner[3]))
    return time.time() - path.stat().st_mtime > ABANDONED_S


def _is_alive(process: int, birth: int) -> bool:
    """Whether the process is there that had this number and was born then: numbers are given out again."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    return _birth(process) in (birth, 0)


def _birth(process: int) -> int:
    """When a process started, in ticks of the machine's clock; 0 where the system does not tell, -1 of one that ended.

    One that was killed and that nobody has waited for yet has still got its number.
    """
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return -1 if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return 0


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it takes the place of ``path`` when the block ends well and is removed when not.

    Raises HarnessError, naming the file, when the folder cannot be written to or the disk is full.
    """
    path = Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = new_temporary(path)
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise HarnessError(f"{path}: expected to write it, found {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[None]:
    """A block that makes folders or removes files in ``folder``; an OSError becomes a HarnessError naming the place."""
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        raise HarnessError(f"{place}: expected to change {folder}, found {error.strerror or error}") from error


def write(path: Path, writer: Callable[[Path], Any]) -> None:
    """Let ``writer`` fill a temporary file, then rename it to ``path``."""
    with replacing(path) as temporary:
        writer(temporary)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file of this content."""
    write(path, lambda temporary: temporary.write_bytes(content))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text."""
    write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, two blanks of indentation and a closing newline."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows, at least one, below a line of all their keys; what a row lacks stays empty."""
    lines = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(lines, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, lines.getvalue())


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill; it takes the place of ``folder`` when the block ends well and is removed when not.

    At no moment is the only copy in pieces: the old folder steps aside, the new one takes its place, then the old one
    goes. A call that was killed on the way is put right by the next one: the block starts with the whole old folder or
    the whole new one in place. Several processes take turns. Raises HarnessError, naming the folder.
    """
    folder = Path(os.path.realpath(folder))
    part, aside = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _turn(folder.parent):
            _heal(folder, part, aside)
            part.mkdir()
            try:
                yield part
                if folder.exists():
                    folder.rename(aside)
                part.rename(folder)
            finally:
                _heal(folder, part, aside)
    except OSError as error:
        place = error.filename or folder
        raise HarnessError(f"{place}: expected to replace {folder}, found {error.strerror or error}") from error


def _heal(folder: Path, part: Path, aside: Path) -> None:
    """Put back a folder that stepped aside and was not replaced; remove what is half written and what is replaced."""
    if aside.exists():
        if folder.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(folder)
    if part.exists():
        shutil.rmtree(part)


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One process at a time, by a lock on the folder itself, which leaves no file; where there are no locks, all."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # some file systems have none
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
