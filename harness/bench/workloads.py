"""The input of the contenders: rows of the real data sets, and weights that were trained a little.

A model fresh from initialisation is too easy to evaluate, every layer being nearly uniform; a few hundred updates are
enough to make it a model. Both are files in a folder as well, from which a process of its own can take them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from harness.bench import cases
from harness.bench.cases import Case
from harness.bench.contenders import Workload
from harness.data import Dataset, DataSettings, load
from harness.errors import DataUnavailableError
from harness.settings.seeds import seed_for
from harness.training.batches import Rows

logger = logging.getLogger(__name__)

BATCHES = 20  # that updates cycle through
TRAINING_UPDATES, TRAINING_RATE, TRAINING_BATCH = 500, 1e-2, 100
# share of ones in the training rows, for rows drawn at random in place of a set that cannot be obtained
SHARE_OF_ONES = {"adult": 0.1127, "binarized_mnist": 0.1306}


@dataclass
class Workloads:
    """Prepares workloads on a device; files go to ``folder``. notes: what a reader must know about the rows."""

    settings: DataSettings
    folder: Path
    device: torch.device
    training_updates: int = TRAINING_UPDATES
    notes: list[str] = field(default_factory=list)
    _sets: dict[str, Dataset | None] = field(default_factory=dict)

    def of(self, case: Case) -> Workload:
        """The workload of a case."""
        if case.job == cases.UPDATE:
            return Workload(case, self._rows(case, "train", BATCHES * case.rows))
        x = self._rows(case, "test", case.rows)
        return Workload(case, x, self._weights(case))

    def stored(self, workload: Workload) -> Path:
        """The rows of a workload as a file, uint8 [N, D]."""
        path = self.folder / f"{workload.case.key}.npy"
        np.save(path, workload.x.cpu().numpy().astype(np.uint8))
        return path

    def _rows(self, case: Case, split: str, n: int) -> Tensor:
        """n rows [n, D] drawn at random by a fixed seed."""
        seed = seed_for(case.dataset, split, "bench rows")
        data = self._set(case.dataset)
        if data is not None:
            return Rows.of_split(data, split, self.device).random_part(n, seed).x
        values = np.random.default_rng(seed).random((n, case.n_visible)) < SHARE_OF_ONES.get(case.dataset, 0.5)
        return torch.from_numpy(values).to(self.device, torch.float32)

    def _set(self, name: str) -> Dataset | None:
        if name not in self._sets:
            try:
                self._sets[name] = load(name, self.settings)
                if not self._sets[name].status.official:
                    self.notes.append(f"{name}: {self._sets[name].status}")
            except DataUnavailableError as error:
                logger.warning("%s", error)
                self._sets[name] = None
                self.notes.append(
                    f"{name} could not be obtained: independent random bits with its share of ones stand in for its "
                    "rows, which is good enough for times and for nothing else"
                )
        return self._sets[name]

    def _weights(self, case: Case) -> Path:
        """Weights of the case's model after some updates of ours."""
        path = self.folder / f"{case.method}-{case.dataset}-{case.model_digest}.safetensors"
        if not path.exists():
            from harness.bench import ours

            batches = self._rows(case, "train", BATCHES * TRAINING_BATCH).split(TRAINING_BATCH)
            model = ours.trained(case, list(batches), self.training_updates, TRAINING_RATE)
            save_file({name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}, path)
        return path
