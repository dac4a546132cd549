"""Whether bfloat16 products are faster than float32 ones on this processor: measured once, kept in the user's cache.

Instructions for bfloat16 say that a processor can multiply so, not that it gains by it: that is a matter of the library
and its version, too. So two products of training are timed in both, of the lowest layer of BiHM-12 and of a small one,
in turns and on one thread, by the time that the thread itself computed, so that other processes hardly matter. Only
clearly faster ones count. What was found is a file for each processor and version of PyTorch; where there is none that
can be read, the next process measures again, for a few tenths of a second.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from harness import atomic
from harness.compute.cache_folder import cache_folder
from harness.compute.provenance import processor

logger = logging.getLogger(__name__)

CLEARLY = 1.2  # times as fast as float32, in the median of all turns: what rounding weights and products must bring in
TURNS, REPEATS = 15, 2
HOPELESS = 5.0  # times slower in a first product: no instructions for it, and whole turns would take seconds
SHAPES = ((1000, 300, 784), (1000, 784, 100))  # rows, inner, columns
PRECISIONS = (torch.float32, torch.bfloat16)


def bfloat16_pays() -> bool:
    """Whether products in bfloat16 are clearly faster on this CPU than those in float32 as these are set now."""
    path = cache_folder("processors") / f"{_digest()}.json"
    known = _read(path)
    if known is not None:
        return known
    seconds = measure()
    pays = is_clearly_faster(seconds)
    known = _read(path)  # of another process that began earlier: all that start together do the same
    if known is not None:
        return known
    with contextlib.suppress(OSError):  # a cache that cannot be written to, or is full: measured again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(path, {**_facts(), "bfloat16": pays, "float32_s": seconds[0], "bfloat16_s": seconds[1]})
    logger.info("bfloat16 products %s on this processor: %s", "pay" if pays else "do not pay", path)
    return pays


def is_clearly_faster(seconds: tuple[Sequence[float], Sequence[float]]) -> bool:
    """Whether bfloat16 is, by the seconds that each turn took in float32 and in bfloat16."""
    return statistics.median(single / half for single, half in zip(*seconds, strict=True)) >= CLEARLY


@torch.no_grad()
def measure() -> tuple[list[float], list[float]]:
    """Seconds of the products in float32 and in bfloat16, turn by turn; one turn if the first product is hopeless."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        jobs = [_products(dtype) for dtype in PRECISIONS]
        first = [_seconds(job[-1]) for job in jobs for _ in range(2)][1::2]  # the first of each may prepare its code
        if first[1] > HOPELESS * first[0]:
            return [first[0]], [first[1]]
        found: tuple[list[float], list[float]] = ([], [])
        for turn in range(TURNS):
            for number in (0, 1) if turn % 2 else (1, 0):
                found[number].append(sum(_seconds(product) for product in jobs[number] for _ in range(REPEATS)))
        return found
    finally:
        torch.set_num_threads(n_threads)


def _products(dtype: torch.dtype) -> list[Callable[[], object]]:
    """Of every shape the product with a weight, and that of a gradient."""
    generator = torch.Generator().manual_seed(0)
    jobs: list[Callable[[], object]] = []
    for n_rows, n_in, n_out in SHAPES:
        seen, weight, missed = (
            torch.randn(size, generator=generator).to(dtype)
            for size in ((n_rows, n_in), (n_out, n_in), (n_rows, n_out))
        )
        product, gradient = torch.empty(n_rows, n_out, dtype=dtype), torch.empty(n_out, n_in, dtype=dtype)
        jobs += [
            lambda seen=seen, weight=weight, out=product: torch.mm(seen, weight.t(), out=out),
            lambda missed=missed, seen=seen, out=gradient: torch.mm(missed.t(), seen, out=out),
        ]
    return jobs


def _seconds(job: Callable[[], object]) -> float:
    clock = time.thread_time if time.get_clock_info("thread_time").resolution < 1e-6 else time.perf_counter
    started = clock()
    job()
    return max(clock() - started, 1e-9)


def _facts() -> dict[str, str]:
    """What the answer depends on; a cloud calls several processors by one name, and LLVM tells them apart."""
    from llvmlite.binding import get_host_cpu_name  # a tenth of a second, which most commands need not spend

    return {
        "processor": f"{processor()} ({get_host_cpu_name()})",
        "torch": torch.__version__,
        "float32_products": torch.get_float32_matmul_precision(),
    }


def _digest() -> str:
    return hashlib.sha256(json.dumps([_facts(), SHAPES, CLEARLY]).encode()).hexdigest()[:16]


def _read(path: Path) -> bool | None:
    """What was found before; None where nothing can be read, or it is of something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or {name: found.get(name) for name in _facts()} != _facts():
        return None
    return found["bfloat16"] if isinstance(found.get("bfloat16"), bool) else None
