"""All parameters of a model that learn in one buffer, and all their gradients in another.

An optimiser then steps one tensor instead of dozens, the L1 penalty is one operation, and a checkpoint holds a handful
of tensors. Parameters and their ``.grad`` stay views, so methods notice nothing. For methods that multiply in another
precision than that of their parameters there are two further buffers, of rounded weights and of such products. Then
hardly anything is added to weights' gradients themselves, whose memory costs nothing until somebody writes to it.
Parameters with ``requires_grad=False`` are in none of these: whatever the method adds to their gradients, nothing moves
them. A parameter that several modules share is one.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin

from harness.errors import ConfigError, HarnessError
from harness.training.rounded import Rounded

ALIGNMENT = 16  # floats, one cache line: the views start where vector instructions like them to


def device_of(model: nn.Module) -> torch.device:
    """Where the parameters and buffers of a model are; the CPU for one that has none."""
    return next((tensor.device for tensor in _tensors(model)), torch.device("cpu"))


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


class FlatParameters:
    """Moves the parameters of ``model`` into ``values`` [n], its gradients into ``gradients`` [n], weights first.

    product_dtype: each weight also has a ``harness.method.RoundedWeight`` in ``rounded_weights``, whose value and
    gradient are views of ``rounded`` and ``products`` [n_weights]. Raises ConfigError for parameters that cannot share
    a buffer.
    """

    def __init__(self, model: nn.Module, product_dtype: torch.dtype | None = None):
        self._model, self._name = model, getattr(model, "name", type(model).__name__)
        self._parameters = dict(model.named_parameters())  # a shared one under its first name
        self._learns = {name: parameter.requires_grad for name, parameter in self._parameters.items()}
        parameters = [parameter for parameter in self._parameters.values() if parameter.requires_grad]
        self._check_layout()
        parameters = sorted(parameters, key=lambda parameter: parameter.dim() < 2)
        offsets, end, self.n_weights = [], 0, 0
        for parameter in parameters:
            offsets.append(end)
            end += -(-parameter.numel() // ALIGNMENT) * ALIGNMENT
            if parameter.dim() >= 2:
                self.n_weights = end
        dtype = parameters[0].dtype if parameters else torch.float32
        self.values = torch.zeros(end, device=device_of(model), dtype=dtype)
        self.gradients = _untouched_zeros(self.values)
        n_products = 0 if product_dtype is None else self.n_weights
        self.rounded, self.products = (
            torch.zeros(n_products, device=self.values.device, dtype=product_dtype) for _ in range(2)
        )
        self.rounded_weights: dict[nn.Parameter, Rounded] = {}
        self._views: list[tuple[nn.Parameter, Tensor, Tensor]] = []  # parameter, its part of values and of gradients
        for parameter, offset in zip(parameters, offsets, strict=True):
            part = slice(offset, offset + parameter.numel())
            self.values[part] = parameter.detach().flatten()
            value, gradient = (buffer[part].view(parameter.shape) for buffer in (self.values, self.gradients))
            parameter.data, parameter.grad = value, gradient
            self._views.append((parameter, value, gradient))
            if part.stop <= n_products:
                rounded, products = (buffer[part].view(parameter.shape) for buffer in (self.rounded, self.products))
                self.rounded_weights[parameter] = Rounded(rounded, products)
        self._frozen_weights = self._give_room_to_frozen(product_dtype)

    def _check_layout(self) -> None:
        """Raises ConfigError for a parameter without a shape, of another type, or in the memory of another."""
        for name, parameter in self._parameters.items():
            if isinstance(parameter, UninitializedTensorMixin):
                raise ConfigError(f"method {self._name}: parameter {name}: expected a shape from the start, found none")
        learning = {name: self._parameters[name] for name, learns in self._learns.items() if learns}
        kinds = {(str(each.dtype), str(each.device)): name for name, each in learning.items()}
        if len(kinds) > 1:
            found = ", ".join(f"{name} of {' on '.join(kind)}" for kind, name in kinds.items())
            raise ConfigError(f"method {self._name}: expected parameters of one type on one device, found {found}")
        places = sorted(
            (each.data_ptr(), each.data_ptr() + _extent(each), name)
            for name, each in {**self._parameters, **dict(self._model.named_buffers())}.items()
            if each.numel() and not each.is_meta
        )
        for (_, end, name), (start, _, other) in itertools.pairwise(places):
            if start < end and not {name, other}.isdisjoint(learning):
                raise ConfigError(
                    f"method {self._name}: expected parameters in memory of their own, found {name} and {other} in the "
                    "same; to tie two, give both modules one parameter: self.a.weight = self.b.weight"
                )

    def _give_room_to_frozen(self, product_dtype: torch.dtype | None) -> list[nn.Parameter]:
        """What methods with gradients of their own expect every parameter to have; nothing reads it. Their weights."""
        still = [self._parameters[name] for name, learns in self._learns.items() if not learns]
        frozen = [parameter for parameter in still if parameter.is_floating_point()]
        weights = [each for each in frozen if each.dim() >= 2] if product_dtype is not None else []
        for parameter in frozen:
            parameter.grad = torch.zeros_like(parameter)
        for parameter in weights:
            rounded = parameter.detach().to(product_dtype)
            self.rounded_weights[parameter] = Rounded(rounded, torch.zeros_like(rounded))
        return weights

    def parts_without(self, waiting: Sequence[nn.Parameter]) -> list[slice]:
        """The parts of ``values`` and ``gradients`` that are left without these parameters, in order."""
        places = {parameter: value for parameter, value, _ in self._views}
        parts, start = [], 0
        for value in sorted((places[each] for each in waiting if each in places), key=Tensor.storage_offset):
            if start < value.storage_offset():
                parts.append(slice(start, value.storage_offset()))
            start = value.storage_offset() + -(-value.numel() // ALIGNMENT) * ALIGNMENT
        if start < len(self.values) or not parts:
            parts.append(slice(start, len(self.values)))
        return parts

    def begin_update(self, is_rounded: bool = False) -> None:
        """Bring the rounded weights up to date; all gradients must be zero, but for those of rounded weights.

        is_rounded: those of the weights that learn are up to date.
        """
        if not is_rounded:
            self.rounded.copy_(self.values[: len(self.rounded)])
        for weight in self._frozen_weights:
            self.rounded_weights[weight].value.copy_(weight.detach())
        for rounded in self.rounded_weights.values():
            rounded.begin_update()

    def end_gradients(self) -> None:
        """The gradients of an update are complete: take in whatever the method put in their place."""
        self.reattach()
        for rounded in self.rounded_weights.values():
            rounded.end_update()

    def reattach(self) -> None:
        """Take in what the method put in the place of a parameter's values or gradient, such as ``weight.data = ...``.

        ``zero_grad()`` is one such way: it leaves no gradient, and back-propagation a new one. Raises HarnessError for
        values of another shape or type.
        """
        for parameter, value, gradient in self._views:
            if parameter.grad is not gradient:
                if parameter.grad is not None:
                    gradient.copy_(parameter.grad)
                parameter.grad = gradient
            if not (value.is_meta or parameter.is_set_to(value)):
                self._take_in(parameter, value)

    def _take_in(self, parameter: nn.Parameter, value: Tensor) -> None:
        kinds = [(tuple(each.shape), each.dtype, each.device) for each in (value, parameter)]
        if kinds[0] != kinds[1]:
            name = next(name for name, each in self._parameters.items() if each is parameter)
            expected, found = (f"{shape}, {dtype}, on {device}" for shape, dtype, device in kinds)
            raise HarnessError(f"method {self._name}: parameter {name}: expected to stay {expected}, found {found}")
        value.copy_(parameter.detach())
        parameter.data = value

    def check(self) -> None:
        """Raises HarnessError where the parameters of the model are no longer those that learn here.

        A parameter that was put in the place of another, or thawed on the way, would stay as it is without a word.
        """
        now = dict(self._model.named_parameters())
        for name in {**self._parameters, **now}:
            if now.get(name) is not self._parameters.get(name):
                raise HarnessError(
                    f"method {self._name}: parameter {name}: expected the one that training began with, found "
                    f"{'another' if name in now else 'none'}; change its values in place, as in weight.data.copy_(...)"
                )
            if now[name].requires_grad != self._learns[name]:
                raise HarnessError(
                    f"method {self._name}: parameter {name}: expected requires_grad={self._learns[name]} as training "
                    f"began, found {now[name].requires_grad}"
                )


def _untouched_zeros(like: Tensor) -> Tensor:
    """Zeros like a vector, in memory of which the system has a single page for all that nobody has written to."""
    if like.device.type != "cpu" or not hasattr(mmap, "MAP_PRIVATE") or not len(like):
        return torch.zeros_like(like)
    memory = mmap.mmap(-1, like.nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(AttributeError, OSError):  # a huge page would be written as a whole
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(memory, dtype=like.dtype)


def _extent(tensor: Tensor) -> int:
    """Bytes from the first to behind the last entry."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return (last + 1) * tensor.element_size()
