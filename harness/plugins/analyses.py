"""The analyses that there are and what each declares, read from their source texts: nothing imports PyTorch."""

from __future__ import annotations

import ast
import pkgutil
from functools import cache
from typing import Any

from harness.compute.places import PACKAGE
from harness.errors import HarnessError
from harness.plugins.signatures import function_schema
from harness.plugins.sources import tree

FOLDER = PACKAGE / "evaluation" / "analyses"


def analysis_names() -> list[str]:
    """All analyses, sorted."""
    modules = pkgutil.iter_modules([str(FOLDER)])
    return sorted(module.name for module in modules)


def needs(name: str) -> tuple[str, ...]:
    """The capabilities that an analysis is made from; raises HarnessError for a module that does not say so."""
    found = _constant(name, "NEEDS")
    if found is None:
        raise HarnessError(f"{FOLDER / name}.py: expected NEEDS = (capability, ...), found none")
    return tuple(found)


def is_of_ablations(name: str) -> bool:
    """Whether an analysis looks at the ablations, and at nothing else."""
    return bool(_constant(name, "ABLATIONS"))


@cache
def settings_schema(name: str) -> dict[str, Any] | None:
    """JSON schema of the arguments of ``analyse``, which settings give; None where the text does not say."""
    return function_schema(FOLDER / f"{name}.py", "analyse", n_given=1)


@cache
def _constant(name: str, constant: str) -> Any:
    """A literal in the source of an analysis; None where there is none of this name."""
    for node in tree(FOLDER / f"{name}.py").body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == [constant]:
            return ast.literal_eval(node.value)
    return None
