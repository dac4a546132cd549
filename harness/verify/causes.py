"""Usual causes of a wrong number or gradient: factors and offsets with a name, for the words of a verdict."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor


def factors(batch_size: int, n_samples: int) -> dict[str, float]:
    """Wrong factors by what is likely behind them; the first of those with the same value counts."""
    named = {
        "it is zero": 0.0,
        "its sign is wrong": -1.0,
        "it is twice that": 2.0,
        "it is half of that": 0.5,
        f"it is {batch_size} times that, the batch size B: a sum over rows instead of a mean?": float(batch_size),
        f"it is 1/{batch_size} of that, the batch size B: divided by B twice?": 1.0 / batch_size,
        f"it is {n_samples} times that, the number of samples K: a sum over samples instead of a mean?": float(
            n_samples
        ),
        f"it is 1/{n_samples} of that, the number of samples K: divided by K twice?": 1.0 / n_samples,
        "it is twice that, with the wrong sign": -2.0,
        "it is half of that, with the wrong sign": -0.5,
        f"it is -{batch_size} times that, the batch size B": -float(batch_size),
    }
    return {words: factor for words, factor in named.items() if factor != 1.0}


def offsets(n_samples: int) -> dict[str, float]:
    """Differences with a name, nats."""
    log_k = math.log(n_samples)
    named = {
        f"log K = {log_k:.4g} too high, K the number of samples": log_k,
        f"log K = {log_k:.4g} too low, K the number of samples: log of a sum instead of a mean?": -log_k,
        f"2 log K = {2 * log_k:.4g} too high, K the number of samples": 2 * log_k,
        f"2 log K = {2 * log_k:.4g} too low, K the number of samples: logs of sums instead of means?": -2 * log_k,
    }
    return {words: offset for words, offset in named.items() if offset != 0.0}


def likely(expected: Tensor, agrees: Callable[[Tensor], bool], batch_size: int, n_samples: int) -> str:
    """The first cause under which ``agrees`` says that what was found is the expected value after all, or ''."""
    for words, factor in factors(batch_size, n_samples).items():
        if agrees(factor * expected):
            return words
    return ""


def likely_value(expected: Tensor, agrees: Callable[[Tensor], bool], batch_size: int, n_samples: int) -> str:
    """``likely``, for what can also be off by a constant."""
    for words, offset in offsets(n_samples).items():
        if agrees(expected + offset):
            return words
    return likely(expected, agrees, batch_size, n_samples)
