"""Places on the GPUs of this machine: as many processes share a card as the configuration says, and no more.

A small model leaves most of a card idle, so several cells may share one. Snakemake counts how many run at once, but it
does not say on which card, and it knows nothing of another Snakemake on the same machine. So the process that trains
takes a slot itself: each is a file, held by a lock that the kernel lets go of when the process ends, however it ends.
The file's name holds machine and card, since the folder may be shared by many machines.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import platform
import re
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from harness.compute.cache_folder import cache_folder
from harness.errors import ConfigError, HarnessError

logger = logging.getLogger(__name__)

POLL_S = 0.5
PID_WIDTH = 20  # of a process number in a lock file
PROC_GPUS = Path("/proc/driver/nvidia/gpus")


class Gpu(NamedTuple):
    """A card: torch's word for it in this process, and what it is called in every process of the machine."""

    device: str  # cuda:0
    identity: str  # the UUID


class Company(Protocol):
    """How a process shares slots with others."""

    def hold(self, slot: Path) -> None:
        """It has the slot with this lock file."""

    def beside(self, slot: Path) -> contextlib.AbstractContextManager | None:
        """A place beside the process that has it, until the context ends; None where there is none."""


def visible_gpus() -> int:
    """How many GPUs CUDA would show to a process started from here, found without torch, which takes a second."""
    if version("torch").endswith("+cpu"):
        return 0
    present = _uuids_of_the_driver()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return len(present)
    count = 0
    for word in filter(None, map(str.strip, chosen.split(","))):
        by_number = word.isdigit() and int(word) < len(present)
        if not by_number and not word.startswith("MIG-") and not any(uuid.startswith(word) for uuid in present):
            break  # CUDA ignores what follows the first device that there is not
        count += 1
    return count


def _uuids_of_the_driver() -> list[str]:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=30).stdout
        return re.findall(r"^GPU \d+: .*\(UUID: ([^)]+)\)", listed, flags=re.MULTILINE)
    with contextlib.suppress(OSError):
        texts = [path.read_text(encoding="utf-8") for path in sorted(PROC_GPUS.glob("*/information"))]
        return [match[1] for text in texts if (match := re.search(r"GPU UUID:\s*(\S+)", text))]
    return []


def means_gpu(device: str, n_gpus: int) -> bool:
    """Whether the setting ``device`` stands for a GPU where there are ``n_gpus``."""
    return device.partition(":")[0] == "cuda" or (device == "auto" and n_gpus > 0)


def gpus_of_torch() -> list[Gpu]:
    """The cards that torch can use in this process."""
    import torch

    if not torch.cuda.is_available():
        return []
    uuids = [getattr(torch.cuda.get_device_properties(i), "uuid", i) for i in range(torch.cuda.device_count())]
    return [Gpu(f"cuda:{i}", str(uuid)) for i, uuid in enumerate(uuids)]


@contextlib.contextmanager
def acquire(
    device: str,
    slots_per_device: int,
    gpus: Callable[[], Sequence[Gpu]] = gpus_of_torch,
    folder: Path | None = None,
    company: Company | None = None,
) -> Iterator[str]:
    """The device to compute on, for as long as the block lasts; waits for a free slot where that is a GPU.

    device: ``auto`` (a GPU where there is one, else the CPU), ``cuda`` (any GPU), ``cuda:1``, or another of torch's
    words, which needs no slot. folder: of the lock files. company: of jobs that share a slot; one that finds no free
    slot takes a place beside the holder of one. Raises ConfigError when there is no such GPU.
    """
    if device != "auto" and not means_gpu(device, 0):
        yield device
        return
    found = list(gpus())
    if device == "auto" and not found:
        yield "cpu"
        return
    candidates = [gpu for gpu in found if device in ("auto", "cuda", gpu.device)]
    if not candidates:
        known = ", ".join(["auto", "cpu", *(gpu.device for gpu in found)])
        raise ConfigError(f"device: expected one of {known} on {platform.node()}, found {device!r}")
    slots = _slots(candidates, slots_per_device, folder or cache_folder("gpu"))
    gpu, lock = _wait_for_one(slots, company)
    with lock:
        yield gpu.device


def _slots(gpus: Sequence[Gpu], slots_per_device: int, folder: Path) -> list[tuple[Gpu, Path]]:
    """All slots, in the order in which they are tried: every card gets a process before one gets a second."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HarnessError(f"{folder}: expected a folder for GPU locks, found {error.strerror}") from error
    names = {gpu: re.sub(r"[^\w.-]", "_", f"{platform.node()}-{gpu.identity}") for gpu in gpus}
    return [(gpu, folder / f"{names[gpu]}-{slot}.lock") for slot in range(slots_per_device) for gpu in gpus]


def _wait_for_one(
    slots: Sequence[tuple[Gpu, Path]], company: Company | None
) -> tuple[Gpu, contextlib.AbstractContextManager]:
    told = False
    while True:
        for gpu, path in slots:
            try:
                lock = _locked(path)
            except OSError as error:
                logger.warning("%s: expected to lock it, found %s; GPUs are shared without a limit", path, error)
                return gpu, contextlib.nullcontext()
            if lock is not None:
                if company is not None:
                    company.hold(path)
                return gpu, lock
        for gpu, path in slots if company is not None else ():
            place = company.beside(path)
            if place is not None:
                return gpu, place
        if not told:
            cards = ", ".join(dict.fromkeys(gpu.device for gpu, _ in slots))
            holders = ", ".join(sorted({_holder(path) for _, path in slots}))
            logger.info("waiting for one of %d slots on %s, held by processes %s", len(slots), cards, holders)
            told = True
        time.sleep(POLL_S)


def _holder(path: Path) -> str:
    """What a lock file says of who holds it."""
    try:
        words = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        words = []
    return words[0] if words else "?"


def _locked(path: Path) -> IO[str] | None:
    """The file, locked, with the number of this process in it; None when another process holds it.

    Raises OSError where it cannot be locked, or is anything else than a file of its own: nothing that a link leads to,
    or that has another name as well, is written to.
    """
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    handle = os.fdopen(descriptor, "r+", encoding="utf-8")
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise OSError(errno.EINVAL, "something other than a lock file")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    except OSError:
        handle.close()
        raise
    # over the number of an earlier holder, of any length: nothing is truncated
    handle.write(f"{os.getpid():<{PID_WIDTH}}\n")
    handle.flush()
    return handle
