"""Methods for tests of training, in files as users write them: a small autoencoder with something unusual to it."""

import hashlib
from dataclasses import replace
from pathlib import Path

from cells import cell

from harness.plugins.registry import use_files
from harness.settings.config import Cell

HEAD = """
import torch
import torch.nn.functional as F
from torch import nn

from harness.method import Batch, Method


class Odd(Method):
    name, title, kind, source = "odd", "Odd", "latent", "a test"

    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.a, self.b = nn.Linear(n_visible, n_visible), nn.Linear(n_visible, n_visible)
        self.finish()

    def finish(self):
        pass

    def logits(self, x):
        return self.b(torch.tanh(self.a(x)))

    def loss(self, batch, n_samples, generator):
        return self.validation_loss(batch, n_samples, generator).mean()

    def validation_loss(self, batch, n_samples, generator):
        return F.binary_cross_entropy_with_logits(self.logits(batch.x), batch.x, reduction="none").sum(1)
"""


def odd(folder: Path, body: str = "", head: str = HEAD, **training) -> Cell:
    """A cell of the method that ``head`` and the further methods in ``body`` make, in a file that is known from now on.

    A file is imported once, so each text has one of its own.
    """
    path = folder / hashlib.sha256((head + body).encode()).hexdigest()[:8] / "odd.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(head + body)
    use_files([path])
    return replace(cell("factorised", **training), method="odd")
