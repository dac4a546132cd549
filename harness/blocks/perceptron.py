"""Multilayer perceptrons, and their gradients written out.

Automatic differentiation of a perceptron keeps every product and every activation as a tensor of its own, and its
backward pass allocates as many again. ``Passes`` keeps one matrix per layer in memory that is used again: it becomes
the layer's units on the way forward and the gradient by their activations on the way back, by one fused pass each
(``harness.kernels.gaussian``), and products of weights' gradients go straight into ``.grad``. As in
``harness.blocks.bernoulli`` all but float32 and bfloat16 on the CPU goes through tensor operations that say the same.

Training may multiply in bfloat16: inputs, weights and units are rounded then, sums and biases are not. Such products
are so fast that finding the memory and the views of each would take a tenth of an update: on the CPU they are kept for
the next pass of as many rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.blocks.bernoulli import array
from harness.blocks.scratch import Scratch
from harness.errors import ConfigError
from harness.method import RoundedWeight

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


def perceptron(sizes: list[int], activation: str) -> nn.Sequential:
    """Linear layers of the given sizes with the activation between them, Glorot-uniform weights, zero biases."""
    if activation not in ACTIVATIONS:
        raise ConfigError(f"activation: expected one of {', '.join(ACTIVATIONS)}, found {activation!r}")
    modules: list[nn.Module] = []
    for below, above in pairwise(sizes):
        linear = nn.Linear(below, above)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        modules += [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*modules[:-1])


class Passed(NamedTuple):
    """What a pass backward needs of one forward: what every layer saw, and the product of the last one, without bias.

    seen: inputs [N, n_in], then the units of each hidden layer. product: [N, n_out].
    """

    seen: list[Tensor]
    product: Tensor


class Product:
    """The products of a linear layer, forward and back. key: of memory that nothing else with this scratch uses."""

    def __init__(self, linear: nn.Linear, scratch: Scratch, key: str):
        self._parameters = linear._parameters  # what moving the module puts there is found
        self._scratch, self._key, self._back_key = scratch, key, f"{key} back"
        self._rounded: RoundedWeight | None = None

    @property
    def weight(self) -> nn.Parameter:
        return self._parameters["weight"]

    @property
    def bias(self) -> nn.Parameter:
        return self._parameters["bias"]

    def use_rounded(self, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """From now on multiply in other data types by these, see ``harness.method.MixedPrecision``."""
        self._rounded = weights.get(self.weight)

    def forward(self, seen: Tensor) -> Tensor:
        """seen [N, n_in] times the transposed weight, [N, n_out], in the data type of ``seen``."""
        weight = self._weight_in(seen.dtype)
        out = self._scratch.take(self._key, seen.shape[0], weight.shape[0], seen.dtype, seen.device)
        return torch.mm(seen, weight.t(), out=out)

    def add_gradient(self, missed: Tensor, seen: Tensor) -> None:
        """Add missed' seen to the gradient of the weight, for missed [N, n_out] and seen [N, n_in]."""
        weight = self.weight
        if missed.dtype == weight.dtype:
            weight.grad.addmm_(missed.t(), seen)
        else:
            self._rounded.add_product(missed, seen)

    def back(self, missed: Tensor) -> Tensor:
        """Gradient by what was seen, [N, n_in], given that by the product, [N, n_out]."""
        weight = self._weight_in(missed.dtype)
        out = self._scratch.take(self._back_key, missed.shape[0], weight.shape[1], missed.dtype, missed.device)
        return torch.mm(missed, weight, out=out)

    def level(self, rows: Tensor) -> _Level:
        """For passes of so many rows in this data type."""
        value = self._rounded.value
        out, back = (torch.empty(rows.shape[0], n, dtype=rows.dtype) for n in value.shape)
        views = (view for each in (out, back) for view in (each, each.t(), array(each)))
        return _Level(self._rounded, value.t(), *views)

    def _weight_in(self, dtype: torch.dtype) -> Tensor:
        weight = self.weight
        return weight if dtype == weight.dtype else self._rounded.value


class _Level(NamedTuple):
    """A linear layer's part in passes of N rows on the CPU, in another data type than the weight's: all of its views.

    out [N, n_out]: of the product forward, back [N, n_in]: of the one back; each with its transpose and as an array.
    """

    rounded: RoundedWeight
    weight_transposed: Tensor
    out: Tensor
    out_transposed: Tensor
    out_array: Any
    back: Tensor
    back_transposed: Tensor
    back_array: Any


N_PLANS = 64  # kept by a thread for all of a model's passes: of each for batches of several sizes


class Passes:
    """Forward and backward through a ``perceptron``; nothing here is differentiable."""

    def __init__(self, layers: nn.Sequential, scratch: Scratch, key: str):
        self._scratch, self._key = scratch, key
        self._rounding: object | None = None  # plans are for this
        linears = [module for module in layers if isinstance(module, nn.Linear)]
        self._products = [Product(linear, scratch, f"{key} {level}") for level, linear in enumerate(linears)]
        self._activation = next((type(module) for module in layers if not isinstance(module, nn.Linear)), nn.ReLU)

    @property
    def bias(self) -> nn.Parameter:
        """Of the last layer."""
        return self._products[-1].bias

    def use_rounded(self, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """See ``Product.use_rounded``."""
        for product in self._products:
            product.use_rounded(weights)
        self._rounding = object()

    def _plan(self, rows: Tensor) -> list[_Level] | None:
        """For passes of so many rows in this data type; None where each product looks for its memory itself."""
        if self._rounding is None or rows.dtype == self._products[0].weight.dtype or not rows.is_cpu:
            return None
        plans, key = self._scratch.plans, (self._key, rows.shape[0], rows.dtype)
        rounding, plan = plans.get(key, (None, None))
        if rounding is not self._rounding:
            if len(plans) >= N_PLANS:
                plans.clear()
            with torch.inference_mode(False), torch.no_grad():  # may be used in any mode
                plan = [product.level(rows) for product in self._products]
            plans[key] = self._rounding, plan
        return plan

    def forward(self, inputs: Tensor) -> Passed:
        """One pass of inputs [N, n_in], in whose data type it multiplies; valid until the next one."""
        plan = self._plan(inputs)
        if plan is not None:
            return self._forward_by(plan, inputs)
        *hidden, last = self._products
        seen = [inputs]
        for product in hidden:
            seen.append(activate(product.forward(seen[-1]), product.bias, self._activation))
        return Passed(seen, last.forward(seen[-1]))

    def add_gradients(self, passed: Passed, missed: Tensor, with_inputs: bool = True) -> Tensor | None:
        """Add the gradients of all parameters but the last bias, given that by the last product, ``missed`` [N, n_out].

        The gradient by the inputs, [N, n_in], where it is asked for. What was passed is overwritten.
        """
        plan = self._plan(missed)
        if plan is not None:
            return self._add_gradients_by(plan, passed, missed, with_inputs)
        *hidden, last = self._products
        product = last
        for below, seen in zip(reversed(hidden), reversed(passed.seen), strict=False):
            product.add_gradient(missed, seen)
            missed = pass_activation(product.back(missed), seen, below.bias.grad, self._activation)
            product = below
        product.add_gradient(missed, passed.seen[0])
        return product.back(missed) if with_inputs else None

    def _forward_by(self, plan: list[_Level], inputs: Tensor) -> Passed:
        kernels = _kernels()
        apply = kernels.apply_tanh if self._activation is nn.Tanh else kernels.apply_relu
        *hidden, last = plan
        seen = [inputs]
        for product, level in zip(self._products, hidden, strict=False):
            torch.mm(seen[-1], level.weight_transposed, out=level.out)
            apply(level.out_array, array(product.bias))
            seen.append(level.out)
        torch.mm(seen[-1], last.weight_transposed, out=last.out)
        return Passed(seen, last.out)

    def _add_gradients_by(self, plan: list[_Level], passed: Passed, missed: Tensor, with_inputs: bool) -> Tensor | None:
        kernels, is_tanh = _kernels(), self._activation is nn.Tanh
        transposed = plan[-1].out_transposed if missed is plan[-1].out else missed.t()
        for number in range(len(plan) - 1, -1, -1):
            level, seen = plan[number], passed.seen[number]
            level.rounded.add_transposed(transposed, seen)
            if number == 0 and not with_inputs:
                return None
            torch.mm(missed, level.rounded.value, out=level.back)
            missed, transposed = level.back, level.back_transposed
            if number > 0:
                arrays, sums = (level.back_array, array(seen)), array(self._products[number - 1].bias.grad)
                if is_tanh:
                    kernels.pass_tanh(*arrays, sums)
                else:
                    kernels.pass_relu(*arrays, 1.0, sums)
        return missed


def activate(product: Tensor, bias: Tensor, activation: type[nn.Module]) -> Tensor:
    """Units [N, n] of product [N, n] + bias [n], which overwrite the product where that saves memory."""
    if _fused(product):
        kernels = _kernels()
        kernel = kernels.apply_tanh if activation is nn.Tanh else kernels.apply_relu
        kernel(array(product), array(bias))
        return product
    logits = product + bias
    return (torch.tanh(logits) if activation is nn.Tanh else torch.relu(logits)).to(product.dtype)


def pass_activation(
    missed: Tensor, units: Tensor, bias_gradient: Tensor, activation: type[nn.Module], slope: float = 1.0
) -> Tensor:
    """Gradient by the activations [N, n], given that by the units, which it overwrites where that saves memory.

    Its column sums are added to ``bias_gradient`` [n]. slope: of rectified units, where they are positive.
    """
    if _fused(missed):
        arrays = array(missed), array(units)
        if activation is nn.Tanh:
            _kernels().pass_tanh(*arrays, array(bias_gradient))
        else:
            _kernels().pass_relu(*arrays, slope, array(bias_gradient))
        return missed
    wide, seen = missed.to(bias_gradient.dtype), units.to(bias_gradient.dtype)
    passed = wide * (1.0 - seen.square() if activation is nn.Tanh else slope * (seen > 0))
    bias_gradient += passed.sum(0)
    return passed.to(missed.dtype)


def _fused(product: Tensor) -> bool:
    return product.is_cpu and product.dtype in (torch.float32, torch.bfloat16)


@cache
def _kernels() -> Any:
    from harness.kernels import gaussian  # for the reason that ``harness.blocks.bernoulli`` gives

    return gaussian
