"""The worker: waits for clients, forks a process for each job, tells the client how it ended.

It is pristine when it forks: modules are imported, but no thread runs, no random number was drawn, no device was
touched. It ends with Snakemake, however that ends, and after the last job under way.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import selectors
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from harness.kernels import once
from harness.worker.identity import identity
from harness.worker.job import Streams, do
from harness.worker.message import ENDED, FORWARDED, LONGEST, REFUSED, Request
from harness.worker.preload import preload, preload_for

PR_SET_PDEATHSIG = 1
COMPILING = 255  # among the numbers of signals that wake the worker: from a job that compiles a kernel
HEARD = (*FORWARDED, signal.SIGCHLD)
_libc = ctypes.CDLL(None)


def serve(listener: socket.socket, lifeline: int, main: Callable[[list[str]], int]) -> None:
    """Do jobs until the other end of the pipe ``lifeline`` is closed and no job is under way.

    listener: a socket that is listened on, in a folder of its own, which is removed in the end. main: runs a verb with
    these arguments and returns the exit code.
    """
    _Worker(listener, lifeline, main).serve()


class _Worker:
    def __init__(self, listener: socket.socket, lifeline: int, main: Callable[[list[str]], int]):
        self.listener, self.lifeline, self.main = listener, lifeline, main
        self.folder = Path(os.fsdecode(listener.getsockname())).parent
        self.environment = dict(os.environb)
        self.identity = identity(self.environment)
        self.selector = selectors.DefaultSelector()
        self.jobs: dict[int, socket.socket] = {}  # process -> connection to its client
        self.awake, self.alarm = socket.socketpair()
        self.said: set[str] = set()

    def serve(self) -> None:
        for end in (self.awake, self.alarm):
            end.setblocking(False)
        signal.set_wakeup_fd(self.alarm.fileno())
        for number in HEARD:
            signal.signal(number, lambda *_: None)
        in_log, once.tell = once.tell, self._say
        try:
            preload()
            once.tell = self._tell_from_job(in_log)
            self._settle()
            self.selector.register(self.awake, selectors.EVENT_READ, self._woken)
            self.selector.register(self.lifeline, selectors.EVENT_READ, self._close)
            self.selector.register(self.listener, selectors.EVENT_READ, self._accept)
            while self.folder is not None or self.jobs:
                for key, _ in self.selector.select():
                    key.data(key.fileobj)
        finally:
            self._close()

    def _settle(self) -> None:
        """Forked processes would copy every page of what they look through for garbage."""
        gc.collect()
        gc.freeze()

    def _close(self, *_: object) -> None:
        """Take no more jobs."""
        if self.folder is None:
            return
        for source in (self.listener, self.lifeline):
            with contextlib.suppress(KeyError):
                self.selector.unregister(source)
        self.listener.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None

    def _woken(self, awake: socket.socket) -> None:
        for number in awake.recv(4096):
            if number in FORWARDED:  # clients hear it as well and pass it on
                self._close()
            elif number == COMPILING:
                self._say(once.WORD)
        while self.jobs:
            process, status = os.waitpid(-1, os.WNOHANG)
            if process == 0:
                break
            self._answer(self.jobs.pop(process), b"%s %d" % (ENDED, status))

    def _tell_from_job(self, in_log: Callable[[str], None]) -> Callable[[str], None]:
        def tell(word: str) -> None:
            in_log(word)
            with contextlib.suppress(OSError):
                self.alarm.send(bytes([COMPILING]))

        return tell

    def _say(self, word: str) -> None:
        """To the terminal, once for all jobs."""
        if word not in self.said:
            self.said.add(word)
            print(f"harness: {word}", file=sys.stderr, flush=True)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it has given up
            connection, _ = listener.accept()
            self.selector.register(connection, selectors.EVENT_READ, self._begin)

    def _answer(self, connection: socket.socket, answer: bytes | None = None) -> None:
        """The last word to a client."""
        with contextlib.suppress(KeyError):
            self.selector.unregister(connection)
        with connection, contextlib.suppress(OSError):
            if answer:
                connection.send(answer)

    def _begin(self, connection: socket.socket) -> None:
        try:
            packet, streams, flags, _ = socket.recv_fds(connection, LONGEST, 3)
        except OSError:
            self._answer(connection)
            return
        try:
            request = Request.from_bytes(packet)
            # one that knew the code as it was when this process began must do what that code did
            fits = request.identity == self.identity == identity(self.environment) and len(streams) == 3
            if fits and not flags & socket.MSG_TRUNC:
                once.load_compiled()  # what the last jobs have compiled
                if preload_for(os.fsdecode(request.arguments[1])):
                    self._settle()
                process = self._fork(connection, request, Streams(*streams))
                self.jobs[process] = connection
                self.selector.modify(connection, selectors.EVENT_READ, self._hear)
            else:
                self._answer(connection, REFUSED)
        except (ValueError, IndexError, OSError):  # no request, no code, no memory
            self._answer(connection, REFUSED)
        finally:
            for stream in streams:
                os.close(stream)

    def _fork(self, connection: socket.socket, request: Request, streams: Streams) -> int:
        worker = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)  # until the forked process has other handlers
        try:
            process = os.fork()
            if process:
                return process
        finally:
            if os.getpid() == worker:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
        try:
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == worker:
                self._let_go(connection)
                do(request, streams, connection, self.main)
        finally:
            os._exit(1)

    def _let_go(self, connection: socket.socket) -> None:
        """Close what is open here, in a forked process, but for the connection to its own client."""
        signal.set_wakeup_fd(-1)
        for key in list(self.selector.get_map().values()):
            if key.fileobj is not connection:
                os.close(key.fd)
        self.selector.close()

    def _hear(self, connection: socket.socket) -> None:
        """A signal for the job of this client; the end of a client, without which no job goes on."""
        process = next(each for each, its in self.jobs.items() if its is connection)
        try:
            word = connection.recv(100)
        except OSError:
            word = b""
        os.kill(process, int(word) if word else signal.SIGKILL)
        if not word:
            self.selector.unregister(connection)
