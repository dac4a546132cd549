"""Methods that train themselves: ``fit``, in closed form or by a loop of the method's own.

A fit takes what its signature names, so that a closed form needs no more than the training rows. It is called once,
under seeds of the cell, and may differentiate. There is no checkpoint within it: a fit that was killed begins anew, and
as it is a function of rows and seeds, ends with the same bytes.
"""

from __future__ import annotations

import inspect

import torch

from harness.errors import ConfigError
from harness.method import Batch, ClosedForm

VALID, GENERATOR = "valid", "generator"


def is_random(cls: type) -> bool:
    """Whether the fit of a class takes a generator, as one by stochastic gradients does."""
    return GENERATOR in _parameters(cls)


@torch.enable_grad()
def fit(model: ClosedForm, train: Batch, valid: Batch, generator: torch.Generator) -> None:
    """Let the model fit itself to the rows ``train``; what it gets besides is for it to say.

    Raises ConfigError for a signature that asks for something else.
    """
    offered = {VALID: valid, GENERATOR: generator}
    taken = _parameters(type(model))
    for name, parameter in taken.items():
        if name not in offered and parameter.default is parameter.empty:
            raise ConfigError(
                f"method {getattr(model, 'name', type(model).__name__)}: fit: expected the training rows, then any of "
                f"{', '.join(offered)}, found {name}"
            )
    model.fit(train, **{name: value for name, value in offered.items() if name in taken})


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Those of a fit after the training rows, but for collections of others."""
    found = list(inspect.signature(cls.fit).parameters.values())[2:]  # after self and the training rows
    return {each.name: each for each in found if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
