"""How a training is computed: everything besides its cell and its data that decides the last bits of its weights.

The number of threads decides in which order PyTorch adds up, and where its vector instructions hand over to single
ones; a difference of a last bit soon flips a binary sample. The precision of products is chosen by what the processor
is fast at (see ``harness.compute.precision``). Both are recorded, with the kind of device, in the checkpoint and in
``status.json``: a training keeps to its end what it began with, wherever it goes on. One on another number of threads,
which is somebody's choice, is another training; what a processor chose is no reason to train a finished model again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from harness.compute import gpu_slots
from harness.compute.precision import float32_products, multiplies_bfloat16
from harness.errors import ConfigError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Computing:
    """threads: of PyTorch's operations on the CPU. products: data type of a method's products, as in settings."""

    threads: int
    products: str

    @classmethod
    def here(cls, product_dtype: torch.dtype | None) -> Computing:
        """What this process would do."""
        return cls(torch.get_num_threads(), str(product_dtype or torch.float32).removeprefix("torch."))

    def kept_from(self, begun: Computing, name: str, device: torch.device) -> Computing:
        """How a training that was ``begun`` so continues here; logs where that differs from how it would start now."""
        if begun.products != self.products:
            slow = begun.products == "bfloat16" and not multiplies_bfloat16(device)
            log.warning(
                f"{name}: continues with products in {begun.products}, as it started, not {self.products}"
                + " (slow on this processor)" * slow
            )
        if begun.threads != self.threads and device.type == "cpu":
            log.warning(f"{name}: continues with --threads {begun.threads}, as it started, not {self.threads}")
        return begun


@contextlib.contextmanager
def on_device(
    wanted: str, slots_per_device: int, threads: int, company: gpu_slots.Company | None = None
) -> Iterator[torch.device]:
    """The device to compute on, which is ours until the block ends, with so many threads on the CPU.

    wanted, company: as ``harness.compute.gpu_slots.acquire`` has them. Raises ConfigError for no device.
    """
    slot = gpu_slots.acquire(wanted, slots_per_device, company=company)
    with on_threads(threads), slot as name:
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise ConfigError(f"device: expected auto, cpu, cuda, cuda:1 ..., found {name!r}") from error
        if device.type == "cuda":
            torch.cuda.set_device(device)
        with float32_products(device):
            yield device


@contextlib.contextmanager
def on_threads(n: int) -> Iterator[None]:
    """PyTorch's operations on n threads until the block ends."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
