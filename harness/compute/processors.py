"""The processors of this machine, as far as this process may use them."""

from __future__ import annotations

import os


def n_processors() -> int:
    """The number of processors of the machine, or of the part of it that the process is bound to."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
