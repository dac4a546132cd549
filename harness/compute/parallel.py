"""Estimates on several threads: blocks of work that know nothing of each other, one thread each.

PyTorch's own way is several threads inside every operation, which wait for each other a hundred times in one pass
through a deep network. An estimate is many independent passes: here each thread takes whole ones, and operations, which
release the interpreter lock, run on one thread each. (An update has nothing to split like this: cut into shares of a
batch, its operations are so short that handing the interpreter lock around costs what the second thread gains.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")

_watching: list[list[int]] = []  # see ``spreads``


@cache
def _executor(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n, thread_name_prefix="harness")


def run_all(pieces: Sequence[Callable[[], T]]) -> list[T]:
    """Results of all pieces, in their order, on as many threads as PyTorch is set to use.

    The calling thread takes its share. Gradient and inference modes of the caller hold for its pieces. An exception is
    raised when the pieces under way have ended; no further one is started.
    """
    n_threads = torch.get_num_threads()
    n_runners = min(n_threads, len(pieces))
    if n_runners <= 1:
        return [piece() for piece in pieces]
    for seen in _watching:
        seen.append(n_runners)
    results: dict[int, T] = {}
    waiting = deque(enumerate(pieces))
    gradients, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def work() -> None:
        torch.set_num_threads(1)
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            while waiting:
                try:
                    index, piece = waiting.popleft()
                except IndexError:  # another thread was faster
                    return
                try:
                    results[index] = piece()
                except BaseException:
                    waiting.clear()  # of whichever thread this is, the others start no further piece
                    raise

    runners = [_executor(n_threads).submit(work) for _ in range(n_runners - 1)]
    try:
        work()
    finally:
        waiting.clear()  # an interrupt may come between two pieces
        wait(runners)
        torch.set_num_threads(n_threads)
    for runner in runners:
        runner.result()
    return [results[index] for index in range(len(pieces))]


@contextmanager
def spreads() -> Iterator[list[int]]:
    """The number of threads of each ``run_all`` within the block that had more than one to use, in their order."""
    seen: list[int] = []
    _watching.append(seen)
    try:
        yield seen
    finally:
        _watching[:] = [other for other in _watching if other is not seen]


def spawn(generator: torch.Generator, n: int) -> Iterator[torch.Generator]:
    """n generators on the device of ``generator``, seeded by it at once, made when they are asked for."""
    seeds = torch.empty(n, dtype=torch.int64, device=generator.device).random_(generator=generator).tolist()
    return (torch.Generator(device=generator.device).manual_seed(seed) for seed in seeds)
