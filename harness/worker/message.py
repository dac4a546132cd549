"""What client and worker send each other, each message whole in one packet."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import NamedTuple

LONGEST = 1 << 20
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

REFUSED = b"refused"  # the client has to do the job itself
STATUS = b"status"  # of a process that is about to end, from itself
ENDED = b"ended"  # wait status of one that has ended, from the worker


class Request(NamedTuple):
    """All that makes the forked process the one which the client would have been, besides its standard streams."""

    identity: bytes
    folder: bytes
    umask: int
    ignored: tuple[int, ...]  # of FORWARDED, the signals that are ignored from the start
    arguments: Sequence[bytes]  # as sys.argv
    environment: dict[bytes, bytes]

    @classmethod
    def of_this_process(cls, identity: bytes) -> Request:
        umask = os.umask(0o077)
        os.umask(umask)
        ignored = tuple(number for number in FORWARDED if signal.getsignal(number) == signal.SIG_IGN)
        return cls(identity, os.getcwdb(), umask, ignored, [*map(os.fsencode, sys.argv)], dict(os.environb))

    def to_bytes(self) -> bytes:
        """Fields between NUL bytes, which no argument and no variable can have."""
        numbers = b"%d %d" % (len(self.arguments), self.umask)
        head = [self.identity, self.folder, numbers, b" ".join(b"%d" % number for number in self.ignored)]
        return b"\0".join([*head, *self.arguments, *(b"%s=%s" % each for each in self.environment.items())])

    @classmethod
    def from_bytes(cls, packet: bytes) -> Request:
        """Raises ValueError for anything else than ``to_bytes`` returns."""
        identity, folder, numbers, ignored, *rest = packet.split(b"\0")
        n_arguments, umask = map(int, numbers.split())
        pairs = (each.partition(b"=") for each in rest[n_arguments:])
        environment = {name: value for name, _, value in pairs}
        return cls(identity, folder, umask, tuple(map(int, ignored.split())), rest[:n_arguments], environment)
