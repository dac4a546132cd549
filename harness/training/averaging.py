"""A moving average of the weights, which is validated, kept and saved in the place of the weights that updates move.

After each update the average is a mean of the weights since it began, weighted by decay^age (Polyak and Juditsky, 1992;
the weights sum to one from the first update on, so that initial values leave no trace). It begins anew with each phase
of training, which starts from the best average of the one before.

Running means and variances of batch and instance normalisation, which belong to the weights, are averaged alike. All
other buffers (counts, Markov chains, permutations) and frozen parameters are in use as they are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

STATISTICS = ("running_mean", "running_var")


class WeightAverage:
    """The average of ``values`` [n], which hold the weights of ``model``, and of its running statistics.

    decay: in (0, 1).
    """

    def __init__(self, model: nn.Module, values: Tensor, decay: float):
        self._model, self._values, self._decay = model, values, decay
        self.n_updates = 0
        self._average = {name: torch.zeros_like(tensor) for name, tensor in self._averaged().items()}

    def _averaged(self) -> dict[str, Tensor]:
        """The tensors that an average goes with, as they are now."""
        found = {"values": self._values}
        for name, module in self._model.named_modules():
            for word in STATISTICS if isinstance(module, _NormBase) else ():
                if getattr(module, word) is not None:
                    found[f"{name}.{word}"] = getattr(module, word)
        return found

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after another update."""
        self.n_updates += 1
        share = (1.0 - self._decay) / (1.0 - self._decay**self.n_updates)  # 1 for the first
        for name, tensor in self._averaged().items():
            self._average[name].lerp_(tensor, share)

    def begin_anew(self) -> None:
        """Forget all weights so far."""
        self.n_updates = 0
        for tensor in self._average.values():
            tensor.zero_()

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the average, once there is one, in place of its weights until the block ends."""
        if self.n_updates == 0:
            yield
            return
        with torch.no_grad():
            own = {name: tensor.clone() for name, tensor in self._averaged().items()}
            self._put(self._average)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, tensor in self._averaged().items():
            tensor.copy_(values[name])

    # -- as a checkpoint holds it --------------------------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """All tensors, for a checkpoint."""
        return {"n_updates": torch.tensor(self.n_updates), **self._average}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from what ``state`` gave."""
        self.n_updates = int(state["n_updates"])
        for name, tensor in self._average.items():
            tensor.copy_(state[name])
