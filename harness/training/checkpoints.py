"""When a training writes its checkpoint, and from which it goes on; ``harness.storage.checkpoint`` has the format."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from harness import atomic
from harness.settings.config import Cell
from harness.storage import checkpoint
from harness.storage.method_code import MethodCode
from harness.storage.runs import RunFolder
from harness.training.state import TrainingState

log = logging.getLogger(__name__)


class Checkpoints:
    """Those of the training of ``cell`` in the folder ``run``, each in place of the one before."""

    def __init__(self, run: RunFolder, cell: Cell, data_digest: str, device: torch.device):
        self.run, self.cell = run, cell
        # a checkpoint of other data, or of another configuration, must not be continued
        self.digest = f"{cell.training_digest} {data_digest} {device.type}"
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last one, or the beginning, is as long ago as the cell asks."""
        return time.monotonic() - self._last >= self.cell.training.checkpoint_every_s

    def write(self, state: TrainingState) -> None:
        """Raises HarnessError, naming the file, where it cannot be written."""
        checkpoint.save(self.run.checkpoint_file, state.tensors(), state.facts(), self.digest)
        self._last = time.monotonic()

    def restore(self, state: TrainingState) -> None:
        """Bring ``state`` to where an earlier process stopped.

        Where there is nothing that can be continued, it stays at the beginning, and old snapshots are removed.
        """
        loaded = checkpoint.load(self.run.checkpoint_file, self.digest, state.tensors(), asdict(state.position))
        if loaded is not None and self._can_go_on(loaded[1], state.code):
            state.restore(*loaded)
            return
        with atomic.changing(self.run.path):
            self.run.remove_snapshots()

    def _can_go_on(self, facts: Mapping[str, Any], code: MethodCode) -> bool:
        """Not with other code of the method, which is told in one line: no model is by two. Nor without a snapshot."""
        if MethodCode.recorded_in(facts.get("code", {})).is_other_than(code):
            log.warning(f"{self.run.checkpoint_file}: by other code of {self.cell.method}; training starts again")
            return False
        return not self.run.missing_snapshots(self.cell.training, facts["update"])
