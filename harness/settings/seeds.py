"""Seeds are hashes of the axes they should vary with, never counters or clocks."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from harness.settings.config import Cell


def seed_for(*axes: object) -> int:
    """63-bit seed from the text of ``axes`` (data set, method, variant, repetition, purpose ...)."""
    text = "\x1f".join(str(axis) for axis in axes)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def axes_of(cell: Cell) -> tuple[object, ...]:
    """The axes that everything random in a cell varies with."""
    return cell.dataset, cell.method, cell.variant, cell.seed


def generator_for(device: torch.device, *axes: object) -> torch.Generator:
    """A generator on the device, seeded by ``seed_for``."""
    return torch.Generator(device=device).manual_seed(seed_for(*axes))


@contextlib.contextmanager
def global_seed(device: torch.device, *axes: object) -> Iterator[None]:
    """PyTorch's own generators, which layers such as ``nn.Dropout`` draw from, seeded until the block ends."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed_for(*axes))
        yield


@contextlib.contextmanager
def seeds(generator: torch.Generator) -> Iterator[None]:
    """PyTorch's own generators, seeded by a draw of ``generator``, until the block ends; then they are as before.

    For draws that take no generator, as those of ``torch.distributions``: within the block they depend on the given
    generator alone, as everything that a method draws must. A method that uses this while it is trained on a GPU needs
    ``capturable = False``, since the draw leaves the device. It is ``harness.seeds``.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng(devices=[generator.device] if generator.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def global_state(device: torch.device) -> dict[str, Tensor]:
    """States of PyTorch's own generators for this device."""
    states = {"cpu": torch.get_rng_state()}
    return {**states, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def set_global_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Go on from what ``global_state`` gave."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
