"""Progress of a training run: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """Shows every look at the validation set; use as a context."""

    def __init__(self, title: str, total: int):
        self.title, self.total, self.bar = title, total, None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self.bar = tqdm(total=self.total, desc=self.title, unit="update", dynamic_ncols=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def show(self, update: int, point: dict[str, Any]) -> None:
        """``point`` is a row of the learning curve."""
        values = f"train {point['train_loss']:.3f} valid {point['valid_loss']:.3f}{' *' if point['best'] else ''}"
        if self.bar is not None:
            self.bar.update(update - self.bar.n)
            self.bar.set_postfix_str(values)
            return
        line = f"{self.title}: update {update}/{self.total}, {point['seconds']:.1f} s, {values}"
        print(line, file=sys.stderr, flush=True)
