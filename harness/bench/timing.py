"""Timing contenders in turns, so that whatever the machine does in between hits all of them alike.

After a first call of each (compilation, lazily created state) and one block to warm up, a round gives every contender a
block of calls in a row, long enough for the clock and for caches to settle on one contender's data; the order turns
around from round to round. A time is the mean over a block, and a contender's median, least and greatest are over its
blocks. Garbage is collected between blocks, not within.
"""

from __future__ import annotations

import contextlib
import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Effort:
    """rounds: blocks a contender, at most. block_s: duration of a block, at least one call. total_s: when to stop."""

    rounds: int = 15
    block_s: float = 0.05
    total_s: float = 60.0


@dataclass(frozen=True)
class Timing:
    """Milliseconds a unit of work."""

    blocks_ms: tuple[float, ...]  # mean of each block
    first_ms: float  # the first call, with all that happens once

    @property
    def median_ms(self) -> float:
        return statistics.median(self.blocks_ms)

    @property
    def min_ms(self) -> float:
        return min(self.blocks_ms)

    @property
    def max_ms(self) -> float:
        return max(self.blocks_ms)


def synchronise(device: torch.device) -> None:
    """Wait for everything that the device was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_in_turns(
    jobs: Mapping[str, Callable[[], Any]], device: torch.device, effort: Effort, units: int = 1
) -> dict[str, Timing]:
    """The timing of each job, a call of which does ``units`` units of work.

    At least one round is measured whatever ``effort.total_s`` says.
    """
    with _garbage_kept():
        first = {name: _seconds(job, 1, device) for name, job in jobs.items()}
        plans = {name: _calls(job, first[name], device, effort) for name, job in jobs.items()}
        round_s = sum(calls * seconds for calls, seconds in plans.values())
        blocks: dict[str, list[float]] = {name: [] for name in jobs}
        for number in range(max(1, min(effort.rounds, int(effort.total_s / round_s)))):
            for name in list(jobs) if number % 2 == 0 else reversed(jobs):
                calls, _ = plans[name]
                blocks[name].append(_seconds(jobs[name], calls, device) / calls)
    scale = 1e3 / units
    return {name: Timing(tuple(s * scale for s in blocks[name]), first[name] * scale) for name in jobs}


def _calls(job: Callable[[], Any], first_s: float, device: torch.device, effort: Effort) -> tuple[int, float]:
    """Calls in a block, found while warming up, and seconds a call."""
    if first_s > effort.total_s / 10:  # slow, and not for compiling: a warm-up would be as long again
        return 1, first_s
    calls, seconds = 1, _seconds(job, 1, device)
    while calls * seconds < effort.block_s:
        calls = math.ceil(effort.block_s / seconds)
        seconds = _seconds(job, calls, device) / calls
        if calls * seconds > 0.8 * effort.block_s:
            break
    return calls, seconds


@contextlib.contextmanager
def _garbage_kept() -> Iterator[None]:
    """Collect garbage only when told to, and look then only at what came into being since."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def _seconds(job: Callable[[], Any], calls: int, device: torch.device) -> float:
    """Duration of a block of calls."""
    gc.collect()
    synchronise(device)
    started = time.perf_counter()
    for _ in range(calls):
        job()
    synchronise(device)
    return time.perf_counter() - started
