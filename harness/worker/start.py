"""Starting a worker, in the process that starts the jobs."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.worker.client import ADDRESS
from harness.worker.identity import RESERVED

WAITING = 128  # clients at most
END_S = 10.0


def start_worker() -> None:
    """Let jobs that this process starts from now on use a worker, which ends when this process ends.

    It has nothing to say: where none can be started, jobs do without.
    """
    if sys.platform != "linux" or ADDRESS in os.environ:
        return
    with contextlib.suppress(OSError):
        _sweep()
        folder = Path(tempfile.mkdtemp(prefix=_prefix()))  # nobody else can look into it
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(folder / "socket"))
            listener.listen(WAITING)
            lifeline, ours = os.pipe()
            process = _spawn(listener, lifeline)
            os.close(lifeline)
        os.environ[ADDRESS] = str(folder / "socket")
        atexit.register(_end, process, ours)


def _spawn(listener: socket.socket, lifeline: int) -> subprocess.Popen:
    """The process, in a session of its own, where signals from the terminal do not reach it: clients pass them on."""
    command = [sys.executable, "-m", "harness", "worker", str(listener.fileno()), str(lifeline)]
    # no pool of threads and no thread of an allocator: a process that forks should have one
    alone = {
        **dict.fromkeys((*RESERVED, "OPENBLAS_NUM_THREADS"), "1"),
        "JE_ARROW_MALLOC_CONF": "background_thread:false",
    }
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **alone},
        pass_fds=(listener.fileno(), lifeline),
        start_new_session=True,
    )


def _end(process: subprocess.Popen, lifeline: int) -> None:
    os.close(lifeline)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(END_S)


def _prefix() -> str:
    return f"bihm-worker-{os.getuid()}-"


def _sweep() -> None:
    """Remove the folders of workers that were killed together with what had started them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_prefix()}*"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            try:
                probe.connect(str(folder / "socket"))
            except ConnectionRefusedError:
                shutil.rmtree(folder, ignore_errors=True)
            except OSError:  # one that is about to begin, or somebody else's
                continue
