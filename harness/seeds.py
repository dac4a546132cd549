"""Seeds are hashes of the axes they should vary with, never counters or clocks."""

from __future__ import annotations

import hashlib

import torch


def seed_for(*axes: object) -> int:
    """63-bit seed from the text of ``axes`` (data set, method, variant, repetition, purpose ...)."""
    text = "\x1f".join(str(axis) for axis in axes)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator_for(device: torch.device, *axes: object) -> torch.Generator:
    """A generator on the device, seeded by ``seed_for``."""
    return torch.Generator(device=device).manual_seed(seed_for(*axes))
