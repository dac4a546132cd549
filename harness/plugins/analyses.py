"""Analyses: those that there are and what each declares, read from their source texts: nothing imports PyTorch.

A user's analysis is one file like a built-in one (see ``harness.evaluation.analyses``), found as
``harness.plugins.finding`` says. The section ``analyses`` of the settings asks for it, by its file or its name.
"""

from __future__ import annotations

import ast
import pkgutil
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from harness.compute.places import PACKAGE
from harness.errors import HarnessError
from harness.plugins.constants import Text
from harness.plugins.finding import BUILT_IN_ORIGIN, Registry, is_file, name_of
from harness.plugins.listing import capability_names
from harness.plugins.signatures import function_schema
from harness.plugins.sources import tree

FOLDER = PACKAGE / "evaluation" / "analyses"
ANALYSE = "analyse"
MEASURED = "metrics"  # what figures call the measured numbers, which are no analysis


@cache
def built_in_analyses() -> tuple[str, ...]:
    """Names of the analyses that come with the harness, sorted."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules([str(FOLDER)])))


REGISTRY = Registry("analyses", "analysis", ANALYSE, lambda: (*built_in_analyses(), MEASURED))


def use_analyses(asked: Iterable[str]) -> None:
    """Make known the analyses of users that the section ``analyses`` of the settings has (``harness.plugins.finding``).

    Raises ConfigError for a file that is not there, and for one whose text is not that of an analysis. A name that
    nothing has is left to the check of the settings, which knows where it stands.
    """
    for name in REGISTRY.use(each for each in asked if is_file(each) or each in REGISTRY):
        _check_text(name)


def _check_text(name: str) -> None:
    text = Text.read(REGISTRY.place(name).file, ("NEEDS", "ABLATIONS"))
    text.names("NEEDS", f"capabilities ({', '.join(capability_names())})", capability_names())
    if "NEEDS" not in text.values:
        raise text.fail("NEEDS", "(capability, ...), or () for none")
    if not isinstance(text.values.get("ABLATIONS", False), bool):
        raise text.fail("ABLATIONS", "True or False")
    text.function(ANALYSE, "subject", further=True)


def analysis_names() -> list[str]:
    """All analyses, those of users that can be asked for among them, sorted."""
    return sorted({*built_in_analyses(), *REGISTRY.names()})


def is_analysis(name: str) -> bool:
    """Whether there is an analysis of this name."""
    return name in built_in_analyses() or name in REGISTRY


def file_of(name: str) -> Path:
    """The source of an analysis."""
    return FOLDER / f"{name}.py" if name in built_in_analyses() else REGISTRY.place(name).file


def origin(name: str) -> str:
    """The origin of an analysis: ``built in``, its file, or its package."""
    return BUILT_IN_ORIGIN if name in built_in_analyses() else REGISTRY.place(name).origin


def code(name: str) -> str:
    """sha256 of the code of a user's analysis; '' of a built-in one, whose results are kept when it changes."""
    return "" if name in built_in_analyses() else REGISTRY.code(name)


def asked_for(asked: Iterable[str]) -> list[str]:
    """The names of the analyses that a section of settings has."""
    return list(map(name_of, asked))


def needs(name: str) -> tuple[str, ...]:
    """The capabilities that an analysis is made from; raises HarnessError for a module that does not say so."""
    found = _constant(name, "NEEDS")
    if found is None:
        raise HarnessError(f"{file_of(name)}: expected NEEDS = (capability, ...), found none")
    return tuple(found)


def is_of_ablations(name: str) -> bool:
    """Whether an analysis looks at the ablations, and at nothing else."""
    return bool(_constant(name, "ABLATIONS"))


def settings_schema(name: str) -> dict[str, Any] | None:
    """JSON schema of the arguments of ``analyse``, which settings give; None where the text does not say."""
    path = file_of(name)
    return _schema(path, path.stat().st_mtime_ns)


@cache
def _schema(path: Path, written_ns: int) -> dict[str, Any] | None:
    return function_schema(path, ANALYSE, n_given=1)


def _constant(name: str, constant: str) -> Any:
    """A literal in the source of an analysis; None where there is none of this name."""
    path = file_of(name)
    return _read(path, constant, path.stat().st_mtime_ns)


@cache
def _read(path: Path, constant: str, written_ns: int) -> Any:
    for node in tree(path).body:
        if isinstance(node, ast.Assign) and [getattr(t, "id", "") for t in node.targets] == [constant]:
            return ast.literal_eval(node.value)
    return None
