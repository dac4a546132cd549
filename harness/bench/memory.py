"""Peak memory of one contender in one case, measured in a process of its own.

The process first does a tiny job of the same kind and throws it away, which loads libraries and compiles kernels, and
holds the case's rows. From there on it counts how far memory rises above that while the network is built and the job
done: network, gradients, moments of Adam, activations, temporaries, but neither code nor data. On the CPU that is
resident memory (Linux's high-water mark, set back before; elsewhere the process' highest ever, which may hide small
peaks below that of loading), on a GPU what PyTorch's allocator gave out.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from harness.bench import cases
from harness.bench.cases import Case
from harness.bench.contenders import Workload, job
from harness.errors import HarnessError

UPDATES = 3
MEGABYTE = 1e6
TIME_LIMIT_S = 3600


def peak_mb(contender: str, workload: Workload, rows: Path) -> float:
    """Peak memory of the contender in megabytes (10^6 bytes), from a fresh process that reads ``rows``.

    Raises HarnessError with the end of its messages when the process fails.
    """
    request = {
        "case": workload.case.to_dict(),
        "contender": contender,
        "rows": str(rows),
        "weights": None if workload.weights is None else str(workload.weights),
        "device": str(workload.x.device),
        "threads": torch.get_num_threads(),
    }
    command = [sys.executable, "-m", "harness.bench.memory", json.dumps(request)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIME_LIMIT_S)
        return json.loads(done.stdout.splitlines()[-1])["peak_mb"]
    except subprocess.TimeoutExpired as error:
        raise HarnessError(f"memory of {contender}: expected an end within {TIME_LIMIT_S} s, found none") from error
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or [f"exit code {error.returncode}"]
        raise HarnessError(f"memory of {contender}: expected a number, found {last[0]}") from error


def measure(contender: str, workload: Workload) -> float:
    """Peak memory in megabytes of the contender's job in this process."""
    case = workload.case
    tiny = replace(case, rows=min(case.rows, 2), n_samples=min(case.n_samples, 2))
    job(contender, replace(workload, case=tiny, x=workload.x[: tiny.rows]))()
    with _Peak(workload.x.device) as peak:
        run = job(contender, workload)
        for _ in range(UPDATES if case.job == cases.UPDATE else 1):
            run()
    return peak.bytes / MEGABYTE


class _Peak:
    """bytes: how far memory rose within the block above what it was before."""

    def __init__(self, device: torch.device):
        self.device = device
        self.bytes = 0

    def __enter__(self) -> _Peak:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            self.before = torch.cuda.memory_allocated(self.device)
            return self
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system, as far as glibc can
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets the high-water mark back
        self.before = _status("VmRSS") or _highest()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self.before
        else:
            self.bytes = max(0, (_status("VmHWM") or _highest()) - self.before)


def _status(name: str) -> int | None:
    """An entry of /proc/self/status in bytes; None where there is none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return 1024 * int(line.split()[1])
    return None


def _highest() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Answer the request in the first argument, a JSON mapping, with a line of JSON."""
    request = json.loads(sys.argv[1])
    torch.set_num_threads(request["threads"])
    rows = torch.from_numpy(np.load(request["rows"])).to(request["device"], torch.float32)
    weights = None if request["weights"] is None else Path(request["weights"])
    workload = Workload(Case.from_dict(request["case"]), rows, weights)
    print(json.dumps({"peak_mb": measure(request["contender"], workload)}))


if __name__ == "__main__":
    main()
