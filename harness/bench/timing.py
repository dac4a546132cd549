"""Timing contenders in turns, so that whatever the machine does in between hits all of them alike.

After a first call of each (compilation, lazily created state) and one block to warm up, a round gives every contender a
block of calls in a row, long enough for the clock and for caches to settle on one contender's data; the order turns
around from round to round. A time is the mean over a block, and a contender's median, least and greatest are over its
blocks. Garbage is collected between blocks, not within. A block during which other processes wanted the same processors
counts only for want of quieter ones, which further rounds may bring as long as there is time.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# The greatest share of the processors that we work on which others may take during a block that counts as quiet. The
# system counts in hundredths of a second, so smaller shares of a block cannot be told from none.
QUIET = 0.1


@dataclass(frozen=True)
class Effort:
    """rounds: blocks a contender, at most. block_s: duration of a block, at least one call. total_s: when to stop."""

    rounds: int = 15
    block_s: float = 0.15
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


@dataclass(frozen=True)
class Turns:
    """The times of the contenders, and how quiet the machine was meanwhile.

    disturbance: the greatest share of our processors that other processes took during a block that counts; 0 also
    where the system does not tell.
    """

    timings: dict[str, Timing]
    disturbance: float


def synchronise(device: torch.device) -> None:
    """Wait for everything that the device was given to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_in_turns(jobs: Mapping[str, Callable[[], Any]], device: torch.device, effort: Effort, units: int = 1) -> Turns:
    """The timing of each job, a call of which does ``units`` units of work.

    At least one round is measured whatever ``effort.total_s`` says.
    """
    blocks: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}  # disturbance, seconds per call
    with _garbage_kept():
        first = {name: _seconds(job, 1, device) for name, job in jobs.items()}
        calls = {name: _calls(job, first[name], device, effort) for name, job in jobs.items()}
        started = time.perf_counter()
        for number in itertools.count(1):
            for name in list(jobs) if number % 2 else reversed(jobs):
                watch = _Others()
                seconds = _seconds(jobs[name], calls[name], device) / calls[name]
                blocks[name].append((watch.disturbance(), seconds))
                if calls[name] * seconds < 0.5 * effort.block_s:  # something slowed the warm-up down
                    calls[name] = math.ceil(effort.block_s / seconds)
            quiet = min(sum(share < QUIET for share, _ in each) for each in blocks.values())
            spent = time.perf_counter() - started
            if quiet >= effort.rounds or spent + spent / number > effort.total_s:
                break
    kept = {name: sorted(each, key=lambda block: block[0])[: effort.rounds] for name, each in blocks.items()}
    scale = 1e3 / units
    timings = {name: Timing(tuple(s * scale for _, s in kept[name]), first[name] * scale) for name in jobs}
    return Turns(timings, max(each[-1][0] for each in kept.values()))


class _Others:
    """How much of our processors other processes take from now on, by Linux' count of busy time."""

    def __init__(self) -> None:
        self.started, self.own, self.busy = time.perf_counter(), time.process_time(), _busy_seconds()

    def disturbance(self) -> float:
        """Processors that are wanted but not there, as a share of our threads; 0 where that cannot be known."""
        busy = _busy_seconds()
        if busy is None or self.busy is None:
            return 0.0
        duration = time.perf_counter() - self.started
        others = (busy - self.busy - (time.process_time() - self.own)) / duration
        n_threads = torch.get_num_threads()
        return max(0.0, others + n_threads - (os.cpu_count() or 1)) / n_threads


def _busy_seconds() -> float | None:
    """Processor time that all processes of the machine, and its host, have used; None where there is no such count."""
    with contextlib.suppress(OSError, ValueError):
        words = Path("/proc/stat").read_text(encoding="ascii").split(maxsplit=9)[1:9]
        user, nice, system, _idle, _waiting, hard, soft, stolen = (int(word) for word in words)
        return (user + nice + system + hard + soft + stolen) / os.sysconf("SC_CLK_TCK")
    return None


def _calls(job: Callable[[], Any], first_s: float, device: torch.device, effort: Effort) -> int:
    """Calls in a block, found while warming up."""
    if first_s > effort.total_s / 10:  # slow, and not for compiling: a warm-up would be as long again
        return 1
    calls, seconds = 1, _seconds(job, 1, device)
    while calls * seconds < 0.8 * effort.block_s:
        calls = math.ceil(effort.block_s / seconds)
        seconds = _seconds(job, calls, device) / calls
    return calls


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
