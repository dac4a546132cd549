"""A forked process becomes the one that its client would have been, and runs the verb."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import io
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from harness.worker.message import FORWARDED, STATUS, Request

PR_SET_NAME = 15


class Streams(NamedTuple):
    """Descriptors of the client's standard streams."""

    stdin: int
    stdout: int
    stderr: int


def do(request: Request, streams: Streams, connection: socket.socket, main: Callable[[list[str]], int]) -> NoReturn:
    """Run the verb and end the process as Python ends; signals are blocked when it is called."""
    code = 1
    try:
        _become(request, streams)
        code = _exit_code(main)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            connection.send(b"%s %d" % (STATUS, (code & 0xFF) << 8))  # in case that the worker is killed now
        os._exit(code & 0xFF)


def _become(request: Request, streams: Streams) -> None:
    for number in (*FORWARDED, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN if number in request.ignored else signal.SIG_DFL)
    if signal.SIGINT not in request.ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, source in enumerate(streams):
        os.dup2(source, target)
        os.close(source)
    sys.stdin = sys.__stdin__ = _stream(0, sys.stdin)
    sys.stdout = sys.__stdout__ = _stream(1, sys.stdout)
    sys.stderr = sys.__stderr__ = _stream(2, sys.stderr)
    os.chdir(request.folder)
    os.umask(request.umask)
    os.environ.clear()
    os.environb.update(request.environment)
    time.tzset()
    sys.argv = [os.fsdecode(argument) for argument in request.arguments]
    sys.orig_argv = [sys.executable, "-m", "harness", *sys.argv[1:]]
    # what was found out in another folder, at another time
    tempfile.tempdir = None
    importlib.invalidate_caches()
    name = f"harness {sys.argv[1]}".encode()
    ctypes.CDLL(None).prctl(PR_SET_NAME, name, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*FORWARDED, signal.SIGCHLD))


def _stream(descriptor: int, like: io.TextIOWrapper) -> io.TextIOWrapper:
    """A standard stream as Python opens it, encoded like this one."""
    mode, buffering = ("r", -1) if descriptor == 0 else ("w", -1)
    found = open(  # noqa: SIM115 -- for the life of the process
        descriptor, mode, buffering, encoding=like.encoding, errors=like.errors, closefd=False
    )
    found.reconfigure(line_buffering=descriptor == 2 or os.isatty(descriptor))
    return found


def _exit_code(main: Callable[[list[str]], int]) -> int:
    """Of the verb, as Python makes one of what the program returns or raises."""
    try:
        return main(sys.argv[1:])
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return error.code or 0
        print(error.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 128 + signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
