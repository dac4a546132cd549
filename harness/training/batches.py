"""Training rows on the device, and the order in which updates visit them.

The order is a function of (seed, update) alone, so a resumed run needs no more than the number of its next update.
An epoch is a fresh permutation; rows that do not fill a last batch wait for the next one. With hidden labels a batch
holds a fixed number of labelled rows, which cycle on their own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from harness.data import Dataset
from harness.errors import ConfigError
from harness.method import Batch
from harness.settings.parts import Labels
from harness.settings.seeds import generator_for, seed_for


class Rows:
    """One split of a data set on the device, as bytes; batches become floats when they are asked for.

    draws_seed: of grey levels, training batches are draws from them, which depend on this and on the update.
    """

    def __init__(
        self,
        values: np.ndarray,
        labels: np.ndarray | None,
        grey: bool,
        device: torch.device,
        draws_seed: int | None = None,
    ):
        self.values = torch.from_numpy(np.ascontiguousarray(values)).to(device)  # [N, D] uint8
        self.labels = None if labels is None else torch.from_numpy(labels.astype(np.int64)).to(device)  # [N]
        self.scale = 1.0 / 255.0 if grey else 1.0
        self.draws_seed = draws_seed

    @classmethod
    def of_split(cls, data: Dataset, split: str, device: torch.device) -> Rows:
        """The rows of ``train``, ``valid`` or ``test``, with labels where the data set has them."""
        values, labels = getattr(data, split), getattr(data, f"{split}_labels")
        if not (data.grey and data.binarize):
            return cls(values, labels, data.grey, device)
        seed = seed_for(data.name, split, "binarization")
        if split == "train":
            return cls(values, labels, True, device, seed)
        levels = np.random.default_rng(seed).integers(0, 255, values.shape, np.uint8)  # 0 .. 254: 255 is always on
        return cls((levels < values).astype(np.uint8), labels, False, device)

    def __len__(self) -> int:
        return self.values.shape[0]

    def batch(self, rows: Tensor | slice) -> Batch:
        """A copy of the given rows; grey levels as probabilities."""
        x = self.values[rows].float()
        if self.scale != 1.0:
            x *= self.scale
        return Batch(x, None if self.labels is None else self.labels[rows].clone())

    def drawn(self, rows: Tensor, update: int, seed: int) -> Batch:
        """``batch``, or draws from its probabilities where the data set says so: a function of seed and update."""
        batch = self.batch(rows)
        if self.draws_seed is None:
            return batch
        draws = generator_for(batch.x.device, self.draws_seed, seed, update)
        uniform = torch.rand(batch.x.shape, generator=draws, device=batch.x.device)
        return replace(batch, x=(uniform < batch.x).float())

    def random_part(self, n: int | None, seed: int) -> Batch:
        """The rows that ``random_rows`` names."""
        if n is None or n >= len(self):
            return self.batch(slice(None))
        return self.batch(torch.from_numpy(random_rows(len(self), n, seed)).to(self.values.device))


def random_rows(total: int, n: int | None, seed: int) -> np.ndarray:
    """Numbers of n rows drawn without replacement by the seed, ascending; all of them for None or n >= total."""
    if n is None or n >= total:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, size=n, replace=False))


class _Cycle:
    """Batches of ``size`` out of ``rows``, epoch after epoch, each epoch in an order of its own, kept on the device."""

    def __init__(self, rows: np.ndarray, size: int, seed: int, device: torch.device):
        self.rows, self.size, self.seed, self.device = rows, min(size, len(rows)), seed, device
        self.per_epoch = len(rows) // self.size
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def at(self, update: int) -> Tensor:
        epoch, position = divmod(update, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)
            self._order = torch.from_numpy(order).to(self.device)
        return self._order[position * self.size : (position + 1) * self.size]


class TrainingBatches:
    """The batch of every update, 0, 1, 2 ...; hides all labels but those of ``labels.rows`` rows.

    labels_seed: chooses these rows. Where a batch consists of them alone, no others are seen.
    """

    def __init__(self, rows: Rows, batch_size: int, seed: int, labels: Labels | None, labels_seed: int = 0):
        self.rows, self.seed = rows, seed
        n, device = len(rows), rows.values.device
        if labels is None:
            self._cycles = [_Cycle(np.arange(n), batch_size, seed_for(seed, "all"), device)]
            return
        if rows.labels is None:
            raise ConfigError(f"training.labels: expected labelled data, found none for {labels.rows} rows")
        n_hidden = batch_size - labels.per_batch
        if n_hidden < 0:
            raise ConfigError(f"training.labels.per_batch: expected at most {batch_size}, found {labels.per_batch}")
        known = balanced_rows(rows.labels.cpu().numpy(), labels.rows, labels_seed)
        hidden = np.setdiff1d(np.arange(n), known)
        self._cycles = [_Cycle(known, labels.per_batch, seed_for(seed, "known"), device)]
        if n_hidden:
            self._cycles.append(_Cycle(hidden, n_hidden, seed_for(seed, "hidden"), device))
        rows.labels[torch.from_numpy(hidden).to(device)] = -1

    def at(self, update: int) -> Batch:
        """The batch of an update."""
        return self.rows.drawn(torch.cat([cycle.at(update) for cycle in self._cycles]), update, self.seed)


def labels_seed(dataset: str, repetition: int) -> int:
    """Seed of the rows that keep their label: in one repetition, all methods have the same ones."""
    return seed_for(dataset, repetition, "labelled rows")


def balanced_rows(labels: np.ndarray, n: int, seed: int) -> np.ndarray:
    """n row numbers, equally many of each class, drawn by the seed; raises ConfigError where that cannot be."""
    classes = np.unique(labels)
    per_class, rest = divmod(n, len(classes))
    smallest = min(np.count_nonzero(labels == c) for c in classes)
    if rest or per_class > smallest:
        expected = f"a multiple of {len(classes)} classes of at most {smallest} rows each"
        raise ConfigError(f"training.labels.rows: expected {expected}, found {n}")
    rng = np.random.default_rng(seed)
    return np.sort(np.concatenate([rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in classes]))
