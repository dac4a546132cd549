"""One update of a model: gradients, L1 penalty, Adam. What training repeats and what ``harness bench`` measures.

Other optimisers than Adam have ``harness.training.optimizers``.

Everything that persists from one update to the next, but for the random generator, lives here: parameters and gradients
in one buffer each, and Adam's moments. On the CPU the penalty, the step and clearing the gradients are one fused pass.
On a GPU the whole update is captured as a CUDA graph once per batch shape and replayed from then on, since launching
its hundred small kernels one by one takes longer than running them. Where several models are trained together, a
program of them all makes the update instead (``harness.training.program``), from the same memory. Where some parameters
wait for their time (``harness.method.InStages``), the step goes through the parts of the buffers between them, and
nothing is captured. Their moments are zero when their time comes, and the bias correction is that of all updates: the
first steps are then up to 6.6 times the rate. To count from a layer's release was worse in five of six trainings (BiHM
on connect4 and mushrooms, three seeds, validation rows).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from harness import gpu_kernels
from harness.compute.precision import product_dtype
from harness.errors import ConfigError, HarnessError
from harness.method import AfterUpdate, Batch, InStages, Method, MixedPrecision, computes_gradients
from harness.training.flat import FlatParameters, device_of
from harness.training.program import Part

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Kingma and Ba's
UPDATE = "update"  # argument of a loss
NO_NUMBER: Mapping[str, int] = {}
EAGER_UPDATES = 3  # before a capture: libraries choose their algorithms and allocate their workspaces


class UpdateStep:
    """Updates ``model``, whose parameters become views of one buffer.

    precision: ``auto``, ``float32`` or ``bfloat16``, of the matrix products of methods that leave it open (see
    ``harness.compute.precision.product_dtype``). clip_norm: the longest gradient, penalty included, as its Euclidean
    norm over all parameters; longer ones are shortened. Raises ConfigError for a model whose parameters cannot be
    trained together, or with a loss and nothing that learns.
    """

    prefix = "adam."  # of the names of its tensors in a checkpoint

    def __init__(self, model: Method, precision: str = "auto", clip_norm: float | None = None):
        device = device_of(model)
        self.product_dtype = product_dtype(model, precision, device)
        self.model = model
        self.parameters = FlatParameters(model, self.product_dtype)
        if isinstance(model, MixedPrecision):
            model.multiply_in(self.product_dtype, self.parameters.rounded_weights)
        values = self.parameters.values
        self._own_gradients = computes_gradients(model)
        if not self._own_gradients and not len(values):
            raise ConfigError(f"method {_name(model)}: expected a parameter that learns, found none")
        self.n_steps = 0
        self.clip_norm = clip_norm
        self._takes_update = takes_update(model)
        self._has_hook = isinstance(model, AfterUpdate)
        self._in_stages = isinstance(model, InStages)
        self._waiting: Sequence[nn.Parameter] = ()
        self._moved = self.parameters.parts_without(())  # of the buffers, those that an update moves
        self._all = slice(0, len(values))
        self._checked = False
        self._is_rounded = False  # the last update has rounded its weights
        self._untouched = False  # and they are still the same, as far as the update that begins is concerned
        self.first, self.second = torch.zeros_like(values), torch.zeros_like(values)
        # learning rate over 1 - beta1^t, 1 / sqrt(1 - beta2^t), L1 strength: in memory that a captured update reads
        self._scalars = torch.zeros(3, device=device, dtype=values.dtype)
        # a graph would repeat the number of the update in which it was captured
        capturable = model.capturable and not self._takes_update
        self._graphs = CudaGraph if device.type == "cuda" and capturable else None
        self._captured: dict[tuple[object, ...], _Captured] = {}

    def run(
        self,
        batch: Batch,
        n_samples: int,
        generator: torch.Generator,
        learning_rate: float,
        l1: float,
        untouched: bool = False,
    ) -> Tensor:
        """Update once on ``batch``; the mean loss, a detached scalar.

        l1: strength of a penalty l1 sum |w| on top of the mean loss, over parameters of two or more dimensions.
        untouched: nothing but this had to do with the model since the last update, so that no parameter has changed.
        """
        self.n_steps += 1
        self._untouched = untouched
        if self._in_stages:
            self._begin()
        loss = self._step(batch, n_samples, generator, learning_rate, l1)
        self.finish()
        return loss

    def part(
        self, batch: Batch, n_samples: int, generator: torch.Generator, learning_rate: float, l1: float
    ) -> Part | None:
        """The update that ``run`` would make, for a program to make; ``finish`` ends it.

        None where it cannot be captured, or where captures have to be warmed up for: then it is for ``run``.
        """
        if self._graphs is None or self._waiting:  # what has stopped waiting will not wait again
            return None
        captured = self._captured_for(batch, n_samples)
        if captured.n_eager < EAGER_UPDATES:
            return None
        self.n_steps += 1
        if self._in_stages:
            self._begin()
        self._set_scalars(learning_rate, l1)
        captured.take(batch)
        key = _shapes(batch, n_samples)
        return Part(key, lambda: self._whole(captured.batch, n_samples, generator), generator)

    @property
    def is_captured(self) -> bool:
        """Whether updates are captured, once they are warmed up for."""
        return self._graphs is not None

    def finish(self) -> None:
        """What follows an update."""
        if self._has_hook:
            self._after_update()

    def _begin(self) -> None:
        """Learn which parameters wait in this update."""
        waiting = self.model.begin_update()
        if waiting is not self._waiting:
            self._waiting, self._moved = waiting, self.parameters.parts_without(waiting)

    def _step(
        self, batch: Batch, n_samples: int, generator: torch.Generator, learning_rate: float, l1: float
    ) -> Tensor:
        if self._graphs is not None and not self._waiting:
            self._set_scalars(learning_rate, l1)
            return self._replay(batch, n_samples, generator)
        if self._scalars.device.type == "cpu" and self._scalars.dtype == torch.float32:
            is_rounded, self._untouched = self._is_rounded and self._untouched, False
            loss = self._gradients(batch, n_samples, generator, self._number(), is_rounded)
            if self.clip_norm is not None:
                self._complete_gradient(l1)
                l1 = 0.0
            self._fused_adam(*self._rate_and_scale(learning_rate), l1)
            return loss
        self._set_scalars(learning_rate, l1)
        return self._whole(batch, n_samples, generator)

    def _rate_and_scale(self, learning_rate: float) -> tuple[float, float]:
        return learning_rate / (1.0 - BETA1**self.n_steps), 1.0 / math.sqrt(1.0 - BETA2**self.n_steps)

    def _set_scalars(self, learning_rate: float, l1: float) -> None:
        scalars = torch.tensor([*self._rate_and_scale(learning_rate), l1], dtype=self._scalars.dtype)
        self._scalars.copy_(scalars)

    @torch.enable_grad()
    def loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """The mean loss on ``batch`` without an update, a detached scalar."""
        if not self._own_gradients:
            return self.model.loss(batch, n_samples, generator).detach()
        loss = self._gradients(batch, n_samples, generator)
        self.parameters.gradients.zero_()
        self.parameters.products.zero_()
        return loss.detach()

    def state(self) -> dict[str, Tensor]:
        """Adam's state, for a checkpoint."""
        return {"step": torch.tensor(self.n_steps), "first": self.first, "second": self.second}

    def load_state(self, state: dict[str, Tensor], numbers: Any = None) -> None:
        """Continue from what ``state`` and ``numbers`` gave."""
        self.n_steps = int(state["step"])
        self.first.copy_(state["first"])
        self.second.copy_(state["second"])

    def numbers(self) -> Any:
        """What else is in the state, as JSON can hold it; None where there is nothing."""

    def _number(self) -> dict[str, int]:
        """The number of the update for methods that take it."""
        return {UPDATE: self.n_steps - 1} if self._takes_update else {}

    def _gradients(
        self,
        batch: Batch,
        n_samples: int,
        generator: torch.Generator,
        number: Mapping[str, int] = NO_NUMBER,
        is_rounded: bool = False,
    ) -> Tensor:
        """Mean loss; its gradient is added to ``parameters.gradients`` and ``parameters.products``."""
        self.parameters.begin_update(is_rounded)
        self._is_rounded = False
        if self._own_gradients:
            loss = self.model.accumulate_gradients(batch, n_samples, generator, **number)
        else:
            loss = self.model.loss(batch, n_samples, generator, **number)
            if not loss.requires_grad:
                raise HarnessError(
                    f"method {_name(self.model)}: expected a loss that depends on a parameter that learns, found "
                    "one that cannot be differentiated"
                )
            loss.backward()
        self.parameters.end_gradients()
        if not self._checked:
            self.parameters.check()
            self._checked = True
        return loss.detach()

    def _fused_adam(self, rate: float, scale: float, l1: float) -> None:
        from harness.kernels import adam

        # code of the method's own that runs between two updates may change weights
        rounds = not (self._has_hook or self._in_stages)
        n_weights, scalars = self.parameters.n_weights, (l1, rate, BETA1, BETA2, scale, EPSILON)
        for part in self._moved:
            arrays = self._arrays if part == self._all else [array[part] for array in self._arrays]
            rounded = arrays[-1] if rounds else arrays[-1][:0]
            adam.step(*arrays[:-1], rounded, max(0, min(part.stop, n_weights) - part.start), *scalars)
        self._is_rounded = rounds

    @cached_property
    def _arrays(self) -> list[Any]:
        """What the fused Adam reads and writes."""
        flat = self.parameters
        products, rounded = (tensor.view(torch.uint16) for tensor in (flat.products, flat.rounded))
        tensors = flat.values, flat.gradients, products, self.first, self.second, rounded
        return [tensor.numpy() for tensor in tensors]

    @torch.no_grad()
    def _complete_gradient(self, l1: float | Tensor) -> None:
        """All of the gradient in ``parameters.gradients``: products, and the penalty, of no more than the norm."""
        values, gradient = self.parameters.values, self.parameters.gradients
        gradient[: len(self.parameters.products)] += self.parameters.products
        self.parameters.products.zero_()
        for part in self._moved:
            weights = slice(part.start, max(part.start, min(part.stop, self.parameters.n_weights)))
            gradient[weights] += values[weights].sign() * l1
        if self.clip_norm is not None:
            gradient *= (self.clip_norm / torch.linalg.vector_norm(gradient)).clamp(max=1.0)

    @torch.no_grad()
    def _after_update(self) -> None:
        self.model.after_update(self.n_steps)
        self.parameters.reattach()
        self.parameters.gradients.zero_()

    @torch.no_grad()
    def _tensor_adam(self) -> None:
        gpu = gpu_kernels.for_tensor(self.parameters.values)
        if gpu is not None and self.clip_norm is None:
            self._gpu_adam(gpu)
            return
        buffers = self.parameters.values, self.parameters.gradients, self.first, self.second
        self._complete_gradient(self._scalars[2])
        for part in self._moved:
            values, gradient, first, second = (buffer[part] for buffer in buffers)
            first.lerp_(gradient, 1.0 - BETA1)
            second.mul_(BETA2).addcmul_(gradient, gradient, value=1.0 - BETA2)
            values -= self._scalars[0] * first / (second.sqrt() * self._scalars[1] + EPSILON)
        self.parameters.gradients.zero_()

    def _gpu_adam(self, gpu: gpu_kernels.Kernels) -> None:
        flat = self.parameters
        buffers = flat.values, flat.gradients, flat.products, self.first, self.second
        for part in self._moved:
            n_weights = max(0, min(part.stop, flat.n_weights) - part.start)
            gpu.adam.step(*(buffer[part] for buffer in buffers), self._scalars, n_weights, BETA1, BETA2, EPSILON)

    def _whole(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        loss = self._gradients(batch, n_samples, generator, self._number())
        self._tensor_adam()
        return loss

    def _replay(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        captured = self._captured_for(batch, n_samples)
        if captured.n_eager < EAGER_UPDATES:
            captured.n_eager += 1
            return self._graphs.warm_up(lambda: self._whole(batch, n_samples, generator))
        captured.take(batch)
        if captured.graph is None:
            captured.graph = self._graphs(lambda: self._whole(captured.batch, n_samples, generator), generator)
        return captured.graph.replay()

    def _captured_for(self, batch: Batch, n_samples: int) -> _Captured:
        return self._captured.setdefault(_shapes(batch, n_samples), _Captured())


def takes_update(model: Method) -> bool:
    """Whether the loss, or what accumulates gradients, takes the number of the update.

    Raises ConfigError for one without a default, which is what others than training ask for.
    """
    function = "accumulate_gradients" if computes_gradients(model) else "loss"
    learns = getattr(type(model), function, None)
    parameter = inspect.signature(learns).parameters.get(UPDATE) if learns else None
    if parameter is not None and parameter.default is parameter.empty:
        raise ConfigError(
            f"method {_name(model)}: {function}: expected a default for {UPDATE}, which training alone passes, "
            "found none"
        )
    return parameter is not None


class CudaGraph:
    """The kernels that a function launches, recorded, and launched together from then on.

    The function must do the same whatever the numbers are, and leave them on the device.
    """

    def __init__(self, function: Callable[[], Tensor], generator: torch.Generator):
        self._graph = torch.cuda.CUDAGraph()
        self._graph.register_generator_state(generator)
        with torch.cuda.graph(self._graph):
            self._result = function()

    def replay(self) -> Tensor:
        """What the function would return now."""
        self._graph.replay()
        return self._result.clone()

    @staticmethod
    def warm_up(function: Callable[[], Tensor]) -> Tensor:
        """Call the function as capturing wants it called before: on a stream of its own."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            result = function()
        torch.cuda.current_stream().wait_stream(stream)
        return result


def _name(model: Method) -> str:
    return getattr(model, "name", type(model).__name__)


def _shapes(batch: Batch, n_samples: int) -> tuple[object, ...]:
    return *batch.x.shape, batch.y is None, n_samples


@dataclass
class _Captured:
    """A captured update and the memory it reads."""

    n_eager: int = 0
    graph: CudaGraph | None = None
    batch: Batch | None = None

    def take(self, batch: Batch) -> None:
        """Put the next batch where the update reads it."""
        if self.batch is None:
            self.batch = Batch(batch.x.clone(), None if batch.y is None else batch.y.clone())
            return
        self.batch.x.copy_(batch.x)
        if batch.y is not None:
            self.batch.y.copy_(batch.y)
