"""Finding metrics: those that the harness measures, and those of users, from a file or the entry point of a package.

A user's metric is one file: plain constants that say what its numbers are, and a function ``measure(subject)``. The
setting ``metrics`` asks for it, by its file or, where a package brings it in the entry-point group
``bihm_harness.metrics``, by its name. The constants are read from the text; nothing is run until something is measured.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from harness.compute.places import ROOT
from harness.errors import ConfigError, HarnessError
from harness.plugins.listing import capability_names, listed
from harness.plugins.names import wrong_name
from harness.plugins.registry import module_in
from harness.plugins.sources import module_file, tree

ENTRY_POINT_GROUP = "bihm_harness.metrics"
MEASURE = "measure"
NATS, PERCENT, SHARE = "nats", "percent", "share"  # units for which the check has a size that matters
LOWER, HIGHER, NEITHER = "lower", "higher", "neither"
RESERVED = ("layers", "metrics")  # what tables call the architecture, and the table of all metrics of users
BUILT_IN_ORIGIN = "built in"


@dataclass(frozen=True)
class Metric:
    """What the numbers of a metric are.

    unit: nats, percent, share, or a word of the author's. better: lower, higher or neither. decimals: at most, in
    tables. needs: capabilities that a method must have. matters: the difference from which on it matters, in its unit;
    None where the settings of the check say it, by unit. origin: ``built in``, its file, or its package.
    """

    name: str
    title: str
    unit: str
    better: str
    decimals: int
    needs: tuple[str, ...]
    matters: float | None = None
    source: str = ""
    origin: str = BUILT_IN_ORIGIN
    file: Path | None = None


def _of_harness(name: str, title: str, needs: str, unit: str = NATS, better: str = LOWER) -> Metric:
    return Metric(name, title, unit, better, 3 if unit == SHARE else 2, (needs,))


_WEIGHTS, _PARTITION, _LABELS = "importance weights", "partition function", "classification"
BUILT_IN = {
    metric.name: metric
    for metric in (
        Metric("-log p", "negative log-likelihood", NATS, LOWER, 2, ()),
        _of_harness("-log p (one ordering)", "negative log-likelihood of one ordering", "orderings"),
        _of_harness("bound -log p", "upper bound, mean log-weight", _WEIGHTS),
        _of_harness("ess p", "effective sample size for p", _WEIGHTS, PERCENT, HIGHER),
        _of_harness("-log p~", "negative log-likelihood, as in Table 3.1", _PARTITION),
        _of_harness("-log p~*", "unnormalised negative log-likelihood of p*", _PARTITION),
        _of_harness("ess p*", "effective sample size for p*", _PARTITION, PERCENT, HIGHER),
        _of_harness("-log p*", "negative log-likelihood of p*", _PARTITION),
        _of_harness("-2 log Z", "log of the normaliser of p*", _PARTITION),
        _of_harness("log Z", "log of the normaliser", "unnormalised log p", better=NEITHER),
        _of_harness("bound -log p*", "upper bound of -log p*", _LABELS),
        _of_harness("-log p~*(y|x)", "estimated negative log-probability of the label", _LABELS),
        _of_harness("-log p(y|x)", "negative log-probability of the label", "label probabilities"),
        Metric("error", "classification error", SHARE, LOWER, 3, ()),
    )
}
_named_files: dict[str, Path] = {}  # metric -> its file, of the settings that were read last


def use_metrics(asked: Iterable[str]) -> None:
    """Make known the metrics that settings ask for: ``*.py`` is a file, relative to the root, all else a name.

    Files of an earlier call are forgotten. Raises ConfigError for what is no such file or name, and for a file whose
    text is not that of a metric.
    """
    _named_files.clear()
    seen: set[str] = set()
    for each in asked:
        name = name_of(each)
        if is_file(each):
            path = Path(os.path.abspath(ROOT / Path(each).expanduser()))
            if not path.is_file():
                raise ConfigError(f"metrics: {path}: expected a Python file, found none")
            if wrong := wrong_name(name):
                raise ConfigError(f"metrics: {path}: {wrong}")
            if name in _published():
                owner = _origin_of(_published()[name])
                raise ConfigError(f"metrics: {path}: expected an unused name, found {name!r}, that of {owner}")
            _named_files[name] = path
        # file systems that do not tell capitals apart have one file for both
        if name.casefold() in seen:
            raise ConfigError(f"metrics: {each}: expected an unused name, found {name!r} twice")
        seen.add(name.casefold())
        metric(name)


def is_file(asked: str) -> bool:
    """Whether an entry of the setting ``metrics`` is a file, not a name."""
    return asked.endswith(".py")


def name_of(asked: str) -> str:
    """The metric that an entry of the setting ``metrics`` asks for: a file's name without ``.py``, or the entry."""
    return Path(asked).stem if is_file(asked) else asked


def own_metrics() -> list[str]:
    """Names of all metrics of users that can be asked for, sorted."""
    return sorted({*_named_files, *_published()})


@cache
def _published() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def _origin_of(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def metric(name: str) -> Metric:
    """What is known of a user's metric by its text.

    Raises ConfigError for a name that is not known, and, naming file and constant, for a text that is not a metric's.
    """
    if name in _named_files:
        path, origin = _named_files[name], str(_named_files[name])
    elif name in _published():
        entry = _published()[name]
        path, origin = module_file(entry.module), _origin_of(entry)
    else:
        known = ", ".join(own_metrics()) or "none is installed"
        raise ConfigError(f"metrics: expected a file (*.py) or the name of a metric ({known}), found {name!r}")
    try:
        body = tree(path).body
    except HarnessError as error:
        raise ConfigError(str(error)) from error
    values = _constants(path, body)
    _check_function(path, body)
    return _described(name, path, origin, values)


def _described(name: str, path: Path, origin: str, values: Mapping[str, Any]) -> Metric:
    def fail(constant: str, expected: str) -> ConfigError:
        found = repr(values[constant]) if constant in values else "none"
        return ConfigError(f"{path}: {constant}: expected {expected}, found {found}")

    if values.get("NAME") != name:
        raise fail("NAME", f"{name!r}, as the file or the entry point is called")
    if name in BUILT_IN or name in RESERVED:
        raise fail("NAME", "a name that the harness has no use for")
    for constant in ("TITLE", "UNIT"):
        if not isinstance(values.get(constant), str) or not values[constant].strip():
            raise fail(constant, "a word or two")
    if values.get("BETTER") not in (LOWER, HIGHER, NEITHER):
        raise fail("BETTER", f"{LOWER!r}, {HIGHER!r} or {NEITHER!r}")
    decimals, needs, matters = values.get("DECIMALS", 2), values.get("NEEDS", ()), values.get("MATTERS")
    if type(decimals) is not int or not 0 <= decimals <= 10:
        raise fail("DECIMALS", "a whole number from 0 to 10")
    if not isinstance(needs, list | tuple) or not all(each in capability_names() for each in needs):
        raise fail("NEEDS", f"capabilities ({', '.join(capability_names())})")
    if matters is not None and not (type(matters) in (int, float) and math.isfinite(matters) and matters > 0):
        raise fail("MATTERS", "a number above 0")
    if matters is None and values["UNIT"] not in (NATS, PERCENT, SHARE):
        expected = f"the difference from which on it matters, as the unit is none of {NATS}, {PERCENT} and {SHARE}"
        raise fail("MATTERS", expected)
    if not isinstance(values.get("SOURCE", ""), str):
        raise fail("SOURCE", "words")
    return Metric(
        name,
        values["TITLE"].strip(),
        values["UNIT"].strip(),
        values["BETTER"],
        decimals,
        tuple(needs),
        None if matters is None else float(matters),
        values.get("SOURCE", ""),
        origin,
        path,
    )


CONSTANTS = ("NAME", "TITLE", "UNIT", "BETTER", "DECIMALS", "NEEDS", "MATTERS", "SOURCE")


def _constants(path: Path, body: Sequence[ast.stmt]) -> dict[str, Any]:
    """The constants of a metric that a text has."""
    values = {}
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for name in (each.id for each in targets if isinstance(each, ast.Name) and each.id in CONSTANTS):
            try:
                values[name] = ast.literal_eval(node.value)
            except (ValueError, TypeError) as error:
                expected = "a constant, as the text alone is read"
                raise ConfigError(f"{path}: {name}: expected {expected}, found {ast.unparse(node)}") from error
    return values


def _check_function(path: Path, body: Sequence[ast.stmt]) -> None:
    """Raises ConfigError unless the text has a function ``measure`` that can be called with one argument."""
    found = [node for node in body if isinstance(node, ast.FunctionDef) and node.name == MEASURE]
    if len(found) != 1:
        raise ConfigError(f"{path}: expected one function {MEASURE}(subject), found {len(found) or 'none'}")
    arguments = found[0].args
    positional = [*arguments.posonlyargs, *arguments.args]
    needed = len(positional) - len(arguments.defaults)
    named = [each for each, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value is None]
    if named or needed > 1 or not (positional or arguments.vararg):
        raise ConfigError(f"{path}: expected {MEASURE}(subject), found {MEASURE}({ast.unparse(arguments)})")


def function_of(name: str) -> Callable[..., Any]:
    """``measure`` of a user's metric, whose module is run. Raises ConfigError where it does not have one."""
    path = _named_files.get(name)
    # run anew each time: a program that goes on, such as a notebook, may have read an earlier text of the file
    module = module_in.__wrapped__(path, "metric") if path else importlib.import_module(_published()[name].module)
    function = getattr(module, MEASURE, None)
    if not callable(function):
        raise ConfigError(f"{module.__file__}: expected a function {MEASURE}(subject), found {function!r}")
    return function


def codes(asked: Iterable[str], method: str) -> dict[str, str]:
    """Of the metrics that settings ask for, those that a method has the capabilities for, and the sha256 of each code.

    The code is that of one file; of a package, after its name and version.
    """
    found = {}
    for name in map(name_of, asked):
        known = metric(name)
        if set(known.needs) <= _capabilities_of(method):
            package = "" if name in _named_files else known.origin
            found[name] = hashlib.sha256(package.encode() + known.file.read_bytes()).hexdigest()
    return found


def _capabilities_of(method: str) -> frozenset[str]:
    """What a method has, by its text; all that there is where only the class itself can tell."""
    try:
        return frozenset(listed(method).capabilities)
    except HarnessError:
        return frozenset(capability_names())
