"""Jobs that share a slot on a GPU: the first to hold it trains the models of all, side by side, in one process.

Every job is a process of its own, which Snakemake waits for. One that gets the slot is a host for as long as it trains
its own model; one that finds all slots taken asks their hosts for a place. A guest keeps the lock of its run's folder,
waits, and measures its model itself, on the same card, when the host has trained it. A host that has ended trains no
further: its guests' checkpoints are written, and each of them looks for a slot or a place again. So it is with a host
that is killed, but for what was trained since the last checkpoint. A training that fails beside others is for its own
process to do once more, alone, and to fail in, with its own message.

Host and guest speak over a socket that has a name and no file (Linux alone has those), of the same user; they must be
alike in all that a training depends on: code, environment, settings, folder, threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import selectors
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import torch

from harness.data import Dataset
from harness.settings.config import Cell
from harness.storage.runs import RunFolder
from harness.training.signals import StopOnSignal
from harness.training.together import Asked, Outcome, train_beside
from harness.training.train import InterruptedRunError, train

log = logging.getLogger(__name__)

LONGEST = 1 << 16
ANSWER_S = 5.0  # a host answers between two rounds of updates, of which one may hold a look or a capture
POLL_S = 0.5
TAKEN, REFUSED = b"taken", b"refused"  # answers to who asks for a place
GO, STOP = b"go", b"stop"  # of a guest: train my model; end with a checkpoint
ENDED, AGAIN, ALONE = b"ended", b"again", b"alone"  # of a host: it is trained; go on elsewhere; go on, but alone
Request = Mapping[str, str | int | None]


class PlaceLostError(Exception):
    """The host has ended before the training of its guest, which has to look for another place."""


class Company:
    """What a job has in common with others: a slot that it holds, or a place beside the holder of one.

    n: models of a slot. request: all that says what is to be trained. alike: what a host must be like. asked_of: the
    training that another job's request stands for.
    """

    def __init__(self, n: int, request: Request, alike: str, asked_of: Callable[[Request], Asked]):
        self._n, self._request, self._alike, self._asked_of = n, request, alike, asked_of
        self._place: Place | None = None
        self._slot: Path | None = None
        self._is_sociable = True

    # -- as ``harness.compute.gpu_slots`` wants it -----------------------------------------------------------------

    def hold(self, slot: Path) -> None:
        """The job has the slot with this lock file."""
        self._slot, self._place = slot, None

    def beside(self, slot: Path) -> Place | None:
        """A place beside the job that holds the slot; None where there is none."""
        if not self._is_sociable:
            return None
        self._slot, self._place = None, _ask(slot, {"alike": self._alike, "request": dict(self._request)})
        return self._place

    # -- as ``harness.training.train`` has it ----------------------------------------------------------------------

    def train(self, cell: Cell, data: Dataset, run: Path, device: torch.device) -> str:
        """Train as ``train`` does, where the job has its place; the status. Raises PlaceLostError as well."""
        if self._place is not None:
            log.info(f"{cell.path}: trained beside the model of another process, whose log tells how")
            answer = self._place.until_trained(cell.path)
            if answer == ENDED:
                return RunFolder(run).status()["status"]
            self._is_sociable = answer != ALONE
            raise PlaceLostError
        if self._slot is None or not self._is_sociable:
            return train(cell, data, run, device)
        with Host(self._slot, self._alike, self._n - 1, self._asked_of) as host:
            return train_beside(Asked(cell, data, run), device, host)


class Place:
    """A guest's end of the connection; the place is free again when the block ends."""

    def __init__(self, connection: socket.socket):
        self._connection = connection

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def until_trained(self, name: str) -> bytes:
        """Let the host train the model, and wait; ENDED, AGAIN or ALONE. Raises InterruptedRunError."""
        with StopOnSignal() as signals, contextlib.suppress(OSError):
            self._connection.settimeout(POLL_S)
            self._connection.send(GO)
            told, answer = False, None
            while answer is None:
                if signals.requested and not told:
                    self._connection.send(STOP)
                    told = True
                with contextlib.suppress(TimeoutError):
                    answer = self._connection.recv(100)
            if not signals.requested:
                return answer or AGAIN
        if signals.requested:
            raise InterruptedRunError(f"{name}: stopped, with what its host has written")
        return AGAIN


class _Guest:
    """A host's end of the connection."""

    def __init__(self, connection: socket.socket):
        self.connection = connection
        self.request: Request | None = None
        self.training: Path | None = None  # folder of its training, while that is under way
        self.wants_to_end = False

    def say(self, word: bytes) -> None:
        with contextlib.suppress(OSError):
            self.connection.send(word)


class Host:
    """Takes up to ``n`` guests in until the block ends; ``harness.training.together`` asks it for their trainings."""

    def __init__(self, slot: Path, alike: str, n: int, asked_of: Callable[[Request], Asked]):
        self._alike, self._n, self._asked_of = alike, n, asked_of
        self._guests: list[_Guest] = []
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.setblocking(False)
        with contextlib.suppress(OSError):  # one that ends just now has the name: then no guests
            self._listener.bind(_address(slot))
            self._listener.listen()
            self._selector.register(self._listener, selectors.EVENT_READ)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for guest in self._guests:
            guest.connection.close()
        self._listener.close()
        self._selector.close()

    def arrivals(self) -> Sequence[Asked]:
        """Trainings that guests have asked for since the last call."""
        found = []
        for key, _ in self._selector.select(0):
            if key.fileobj is self._listener:
                self._accept()
            elif (asked := self._hear(key.data)) is not None:
                found.append(asked)
        return found

    def ended(self, asked: Asked, outcome: Outcome | None) -> None:
        """Tell the guest how its training has ended; None: not at all, and not for a reason of its own."""
        for guest in self._guests:
            if guest.training == asked.run:
                guest.training = None
                is_stop = isinstance(outcome, InterruptedRunError)
                guest.say(ENDED if isinstance(outcome, str) else AGAIN if is_stop else ALONE)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            guest = _Guest(connection)
            connection.setblocking(False)
            if not _is_of_this_user(connection):
                connection.close()
                return
            self._guests.append(guest)
            self._selector.register(connection, selectors.EVENT_READ, guest)

    def _hear(self, guest: _Guest) -> Asked | None:
        try:
            word = guest.connection.recv(LONGEST)
        except OSError:
            word = b""
        if guest.request is None:
            self._receive(guest, word)
        elif word == GO and guest.training is None:
            return self._begin(guest)
        else:
            guest.wants_to_end = True  # it says so, or is gone
            if not word:
                self._let_go(guest)
        return None

    def _receive(self, guest: _Guest, word: bytes) -> None:
        """Give somebody a place who asks for one."""
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = json.loads(word)
            if found["alike"] == self._alike and sum(each.request is not None for each in self._guests) < self._n:
                guest.request = dict(found["request"])
                guest.say(TAKEN)
                return
        guest.say(REFUSED)
        self._let_go(guest)

    def _begin(self, guest: _Guest) -> Asked | None:
        try:
            asked = self._asked_of(guest.request)
        except Exception as error:  # the guest will find the same, and say so itself
            log.warning(f"a guest's training cannot begin here: {error}")
            guest.say(ALONE)
            return None
        guest.training = asked.run
        log.info(f"{asked.cell.path}: trained here for another process")
        return asked._replace(stop=lambda _: guest.wants_to_end)

    def _let_go(self, guest: _Guest) -> None:
        self._guests.remove(guest)
        self._selector.unregister(guest.connection)
        guest.connection.close()


def _ask(slot: Path, request: Mapping[str, object]) -> Place | None:
    """A place beside the holder of the slot; None where it has none, or is no host, or has no time to answer."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(ANSWER_S)
    with contextlib.suppress(OSError):
        connection.connect(_address(slot))
        if _is_of_this_user(connection):
            connection.send(json.dumps(request).encode())
            if connection.recv(100) == TAKEN:
                return Place(connection)
    connection.close()
    return None


def _address(slot: Path) -> bytes:
    """The name of the socket of who holds the slot; without a file that could be left behind."""
    return b"\0bihm-harness-" + hashlib.sha256(os.fsencode(slot.absolute())).hexdigest()[:40].encode()


def _is_of_this_user(connection: socket.socket) -> bool:
    """Whether the process at the other end belongs to the user of this one: anybody could use the name."""
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return user == os.getuid()
