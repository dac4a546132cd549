"""The part of a job that Snakemake sees: it hands the job to the worker, passes signals on and ends as the job ends.

It runs in every job, so it imports next to nothing. Wherever there is no worker, or one that would not do what a fresh
process does, or one that is gone before the job has ended, it says so to its caller, which does the job itself: a job
may be done twice, since it continues from its checkpoint and writes its files whole.
"""

from __future__ import annotations

import array
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator

from harness.worker.identity import identity
from harness.worker.message import ENDED, FORWARDED, REFUSED, Request

ADDRESS = "BIHM_WORKER"  # environment variable: the socket of the worker
# What rules call. The others are called by hand, ask for the terminal, or measure time and memory.
VERBS = (
    *("run", "train", "trial", "evaluate", "analyse", "record-failure", "datasets"),
    *("tables", "metrics", "overview", "compare", "figure", "report", "check", "searches", "budgets"),
)


def end_as_the_worker_does() -> None:
    """Let the worker do what the command line asks for, and end this process as that ends; returns if it cannot."""
    address = os.environ.get(ADDRESS)
    if not address or sys.platform != "linux" or len(sys.argv) < 2 or sys.argv[1] not in VERBS:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        request = Request.of_this_process(identity(os.environb))
        connection.connect(address)
        if (status := _status(connection, request)) is not None:
            _end_like(status)


def _status(connection: socket.socket, request: Request) -> int | None:
    """Wait status of the process that did the job; None where none has ended by itself."""
    streams = array.array("i", (0, 1, 2))
    status = None
    with _passing_on(connection) as passed, contextlib.suppress(OSError):
        connection.sendmsg([request.to_bytes()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        # the end of the connection is that of the worker and of the forked process, which both have it open
        while answer := connection.recv(100):
            word, _, number = answer.partition(b" ")
            if word == REFUSED:
                break
            status = int(number)
            if word == ENDED:
                break
    if status is None and passed:
        os.kill(os.getpid(), passed[0])  # nobody has heard of it
    return status


@contextlib.contextmanager
def _passing_on(connection: socket.socket) -> Iterator[list[int]]:
    """Signals to this process go to the one that does the job, as long as the block lasts; those passed on so far."""
    passed: list[int] = []

    def send(number: int) -> None:
        with contextlib.suppress(OSError):
            connection.send(b"%d" % number)

    def pass_on(number: int, _: object) -> None:
        passed.append(number)
        send(number)

    def pause(*_: object) -> None:
        send(signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        send(signal.SIGCONT)

    before = {number: signal.getsignal(number) for number in (*FORWARDED, signal.SIGTSTP)}
    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, pause if number == signal.SIGTSTP else pass_on)
        yield passed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_like(status: int) -> None:
    """End this process with the exit code, or by the signal, of the one with this wait status."""
    if os.WIFSIGNALED(status):
        import resource

        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the core of interest is the other one
        with contextlib.suppress(OSError):  # SIGKILL has no handler
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(128 + number)
    os._exit(os.waitstatus_to_exitcode(status))
