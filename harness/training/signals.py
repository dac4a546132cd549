"""SIGTERM and SIGINT, as a training takes them: it ends after the current update, with a checkpoint."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class StopOnSignal:
    """While the block lasts, ``requested`` says whether the process was asked to end."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopOnSignal:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._request)
        return self

    def _request(self, number: int, frame: FrameType | None) -> None:
        self.requested = True

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
