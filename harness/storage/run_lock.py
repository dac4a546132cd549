"""One process at a time works in the folder of a run.

After a SIGKILL of Snakemake the jobs that it sent to a cluster live on, and the same command typed again sends new ones
for the same folders. The process that works in a folder holds a lock on a file in it, which the kernel lets go of when
the process ends, however it ends; a second process waits. It then finds the training done, or continues from the
checkpoint. Locks reach over the nodes of a cluster where the shared file system passes them on: NFS does, Lustre when
it is mounted with ``flock`` (and not ``localflock``). Where there are none at all, one line says so.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from pathlib import Path

from harness.errors import HarnessError

logger = logging.getLogger(__name__)

POLL_S = 1.0
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of this path while the block lasts; waits for another process that does.

    Raises HarnessError where its folder cannot be written to.
    """
    descriptor = _wait_for(path)
    try:
        yield
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)  # while it is held: nobody can hold the name that is deleted
            os.close(descriptor)


def _wait_for(path: Path) -> int | None:
    """The locked file; None where the file system has no locks."""
    import fcntl

    told = False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise HarnessError(f"{path}: expected to write it, found {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in UNSUPPORTED:
                os.close(descriptor)
                path.unlink(missing_ok=True)
                logger.warning("%s: file locks do not work here (%s): start no run twice", path.parent, error.strerror)
                return None
            if not told:
                logger.info("%s: waiting for %s, which is working there", path.parent, _holder(descriptor))
                told = True
            os.close(descriptor)
            time.sleep(POLL_S)
            continue
        if _is_at(descriptor, path):
            _say_who(descriptor)
            return descriptor
        os.close(descriptor)  # its last holder deleted it between our opening and locking


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the path leads to the open file; it is opened anew, since NFS may answer ``stat`` from memory."""
    try:
        again = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    there, ours = os.fstat(again), os.fstat(descriptor)
    os.close(again)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _say_who(descriptor: int) -> None:
    who = {"process": os.getpid(), "host": platform.node()}
    job = os.environ.get("SLURM_JOB_ID")
    if job:
        who["SLURM job"] = job
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(who).encode(), 0)


def _holder(descriptor: int) -> str:
    try:
        found = json.loads(os.pread(descriptor, 1000, 0))
        return ", ".join(f"{key} {value}" for key, value in found.items())
    except (OSError, ValueError, AttributeError):
        return "another process"
