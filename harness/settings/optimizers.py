"""The optimisers that settings can name: those of ``torch.optim``, known from their source text, without PyTorch.

``optimizer: {name: adamw, weight_decay: 0.01}`` names a class by the word that its name is in small letters; the other
keys are its arguments. The learning rate is not one of them: it comes from the phases of a training. Optimisers that
need a closure or sparse gradients, or take no vectors, cannot be named.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.schema import shown

OPTIMIZER, NAME = "optimizer", "name"
UNUSABLE = ("lbfgs", "muon", "sparse_adam", "optimizer")  # closures, matrices alone, sparse gradients; the base
OF_TRAINING = ("params", "lr", "maximize", "capturable", "differentiable")  # arguments that are not for settings


def as_mergeable_optimizer(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` without its optimiser where ``over`` names one: arguments belong to the optimiser they stand beside."""
    named = isinstance(over.get(OPTIMIZER), Mapping) and NAME in over[OPTIMIZER]
    return {key: value for key, value in base.items() if not (named and key == OPTIMIZER)}


def optimizer_faults(optimizer: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What keeps an optimiser from being made, as far as texts show: keys, and what was expected and found."""
    if NAME not in optimizer:
        yield (), f"expected key {NAME!r}, found none"
        return
    name = optimizer[NAME]
    if name not in _files():
        yield (NAME,), f"expected one of {', '.join(_files())}, found {shown(name)}"
        return
    _, known = class_and_arguments(name)
    for key in optimizer:
        if key == "lr":
            yield (key,), "expected none, as the learning rate is that of phases or a schedule, found one"
        elif key != NAME and key not in known:
            yield (key,), f"expected one of {', '.join(known) or 'none at all'}, found {shown(key)}"


@cache
def class_and_arguments(name: str) -> tuple[str, tuple[str, ...]]:
    """Of a known optimiser, its class in ``torch.optim`` and the arguments that settings may give."""
    for node in ast.parse(_files()[name].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name.casefold() == name:
            made = next(each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == "__init__")
            arguments = [each.arg for each in (*made.args.args[1:], *made.args.kwonlyargs)]
            return node.name, tuple(each for each in arguments if each not in OF_TRAINING)
    raise LookupError(f"{_files()[name]}: expected the class of {name}, found none")


@cache
def _files() -> dict[str, Path]:
    """Name -> file of every optimiser that settings can name."""
    folder = Path(find_spec("torch").origin).parent / "optim"
    found = {path.stem.lstrip("_"): path for path in folder.glob("*.py")}
    return {
        name: path
        for name, path in sorted(found.items())
        if name not in UNUSABLE and re.search(rf"^class {name}\(", path.read_text(encoding="utf-8"), re.I | re.M)
    }
