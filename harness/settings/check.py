"""Checks of settings beyond a JSON schema: names that must exist, and hyperparameters, axes and settings of analyses.

Settings are merged from several sources (``workflows/config.yaml``, a preset, what the user gives), and an error names
the source that has the key, the key, what was expected and what was found. Methods and analyses are not imported: their
source texts say what they take (see ``harness.plugins.signatures``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple, NoReturn

from harness.data import CATALOGUE
from harness.data.outside import SCHEMA, fault_of
from harness.errors import ConfigError, HarnessError
from harness.plugins.analyses import analysis_names, is_analysis, settings_schema
from harness.plugins.datasets import plugin_datasets
from harness.plugins.finding import name_of
from harness.plugins.listing import listed
from harness.plugins.names import wrong_name, wrong_variant
from harness.plugins.registry import file_of, method_names
from harness.plugins.signatures import hyperparameters
from harness.schema import first_error, shown, with_integers
from harness.settings.optimizers import OPTIMIZER, as_mergeable_optimizer, optimizer_faults
from harness.settings.schedule import (
    AXES,
    PHASES,
    SCHEDULE,
    as_mergeable,
    decay_faults,
    in_phases,
    schedule_faults,
    warm_up_faults,
)
from harness.settings.start import START_FROM
from harness.settings.text import dotted

ANY = "*"
MAPPINGS = ("groups", "grid", "ablations", "searches", "budgets", "analyses", "suite")
WITH_CELLS = ("grid", "ablations", "budgets")  # sections of the form method -> data set -> cell
LEARNING_RATE, BUDGET, FINER = "learning_rate", "updates", "finer"  # of searches


class Source(NamedTuple):
    """Settings from one place, and what errors call it: a file, ``--config``, ..."""

    name: str
    values: Mapping[str, Any]


@cache
def schema() -> dict[str, Any]:
    """JSON schema of settings; ``$defs`` has that of its parts."""
    return json.loads(files("harness.settings").joinpath("schemas/settings.json").read_text(encoding="utf-8"))


def part_schema(part: str) -> dict[str, Any]:
    """JSON schema of a part of ``$defs``: training, evaluation ..."""
    return {**schema()["$defs"][part], "$defs": schema()["$defs"]}


def cell_schema(part: str) -> dict[str, Any]:
    """JSON schema of a part of a cell, which has phases alone and knows all about the cell that it starts from."""
    found, of_cells = part_schema(part), {START_FROM: schema()["$defs"]["startFrom"]}
    return {**found, "properties": {k: of_cells.get(k, v) for k, v in found["properties"].items() if k != SCHEDULE}}


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid on top, mappings merged key by key, everything else replaced.

    Phases and a schedule replace each other, in training settings and as axes of a search.
    """
    result = dict(base)
    for axis, other in (AXES, reversed(AXES)):
        if axis in over and other not in over:
            result.pop(other, None)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        if both and key == "training":
            base, value = as_mergeable(result[key], value)  # noqa: PLW2901
            result[key] = merged(as_mergeable_optimizer(base, value), value)
        else:
            result[key] = merged(result[key], value) if both else value
    return result


def merged_sources(sources: Sequence[Source]) -> dict[str, Any]:
    """All sources, later ones on top. A section that is null takes out all that earlier sources put there."""
    settings: dict[str, Any] = {}
    for source in sources:
        settings = merged(settings, _spelt_out(source.values, settings))
    return settings


def _spelt_out(over: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Null sections as what they mean, so that the merged settings, laid over the sources again, stay the same."""
    over = dict(over)
    for section in MAPPINGS:
        if section in over and over[section] is None:
            over[section] = dict.fromkeys(base.get(section) or {})
    if isinstance(over.get("groups"), Mapping):
        over["groups"] = {name: [] if each is None else each for name, each in over["groups"].items()}
    for section in ("methods", "metrics", "datasets", "tables", "figures", "claims"):
        if section in over and over[section] is None:
            over[section] = []
    if isinstance(data := over.get("data"), Mapping):
        named = {key: dict.fromkeys(base.get("data", {}).get(key) or {}) for key in ("paths", "own", "known")}
        empty = {"mirrors": [], **named}
        over["data"] = {key: empty.get(key) if value is None else value for key, value in data.items()}
    return over


class Checker:
    """Checks settings, which are merged from ``sources``; methods that they name in files are known already.

    whole: whether all sections are there and are to be right.
    """

    def __init__(self, settings: Mapping[str, Any], sources: Sequence[Source], whole: bool = True):
        self.sources = sources
        self.hyperparameters = cache(hyperparameters)
        self._method_names = cache(method_names)  # those of packages take a while to find
        self._plugin_datasets = cache(plugin_datasets)
        self.settings = self._typed(dict(settings), schema(), ()) if whole else dict(settings)

    def entries(self) -> dict[str, Any]:
        """The settings, with integers wherever these are meant. Raises ConfigError for the first fault."""
        self._groups()
        for name in self.settings["data"]["paths"]:
            if name not in CATALOGUE:
                known = ", ".join(CATALOGUE)
                self.fail(("data", "paths", name), f"expected a data set ({known}), found {shown(name)}")
        for section in (*WITH_CELLS, "searches"):
            self._keys(section)
        for section in WITH_CELLS:
            for path, method, entry in self._cells(section):
                self._schedule(path, entry)
                self._names_of_analyses(path, entry)
                self._model(path, method, entry)
        self._schedule(("defaults",), self.settings["defaults"])
        self._names_of_analyses(("defaults",), self.settings["defaults"])
        if self.settings["defaults"].get("model"):
            self.fail(("defaults", "model"), "expected hyperparameters where methods are, in grid or budgets")
        self._suite()
        for path, method, entry in self._cells("searches"):
            self._axes(path, method, entry)
            for i, finer in enumerate(entry.get(FINER, ())):
                self._axes((*path, FINER, str(i)), method, finer)
        self._analyses()
        return self.settings

    def fail(self, path: Sequence[str], message: str) -> NoReturn:
        """Raises ConfigError for a key, whose source it names."""
        raise ConfigError(f"{source_of(path, self.sources)}: {dotted(path)}: {message}")

    def _typed(self, value: Any, wanted: Mapping[str, Any], path: tuple[str, ...]) -> Any:
        found = first_error(value, wanted)
        if found and not (*path, *found[0]):
            raise ConfigError(f"{_with_unknown_key(value, wanted, self.sources)}: {found[1]}")
        if found:
            self.fail((*path, *found[0]), found[1])
        return with_integers(value, wanted)

    def _groups(self) -> None:
        for group, members in self.settings["groups"].items():
            path = ("groups", group)
            if wrong := wrong_name(group):
                self.fail(path, wrong)
            if self._is_dataset(group):
                self.fail(path, "expected a name that no data set has, found the name of one")
            for i, name in enumerate(members):
                if not self._is_dataset(name):
                    known = ", ".join(self._datasets())
                    self.fail((*path, str(i)), f"expected a data set ({known}), found {shown(name)}")

    def about_data(self) -> dict[str, Any]:
        """The settings, of which only what says what data sets there are need be right. Raises ConfigError."""
        parts = {key: schema()["properties"][key] for key in ("data", "groups", "datasets")}
        wanted = {"properties": parts, "required": list(parts), "$defs": schema()["$defs"]}
        self.settings = {**self.settings, **self._typed({key: self.settings[key] for key in parts}, wanted, ())}
        for name, entry in self.settings["data"]["own"].items():
            path = ("data", "own", name)
            others = [each for each in (*self.settings["data"]["own"], *self.settings["groups"]) if each != name]
            fault = wrong_name(name)
            if name in self.settings["groups"] or name.casefold() in map(str.casefold, others):
                fault = f"expected a name of its own, found {shown(name)} as well as another data set or group"
            if fault:
                self.fail(path, fault)
            self._typed(entry, SCHEMA, path)
            if entry is not None and (fault := fault_of(entry)):
                self.fail(path, fault)
        return self.settings

    def _is_dataset(self, name: str) -> bool:
        data = self.settings["data"]
        return name in CATALOGUE or name in data["own"] or name in data["known"] or name in self._plugin_datasets()

    def _datasets(self) -> list[str]:
        """Every data set that there is."""
        data = self.settings["data"]
        return list(dict.fromkeys([*CATALOGUE, *data["own"], *data["known"], *self._plugin_datasets()]))

    def _suite(self) -> None:
        """Methods and hyperparameters of the suite."""
        for method, entries in self.settings["suite"].items():
            self._method("suite", method)
            for i, entry in enumerate(entries or ()):
                path = ("suite", method, str(i))
                self._schedule(path, entry)
                self._names_of_analyses(path, entry)
                self._model(path, method, entry)

    def _keys(self, section: str) -> None:
        """Methods, data sets, groups and variants that do not exist."""
        for method, entries in self.settings[section].items():
            self._method(section, method)
            variants = self._variants(method) if section in ("budgets", "searches") else None
            for key in entries or {}:
                self._key(section, method, key, variants)

    def _method(self, section: str, method: str) -> None:
        if file_of(method) is None and method not in self._method_names():
            known = ", ".join(self._method_names())
            self.fail((section, method), f"expected one of {known}, found {shown(method)}")

    def _key(self, section: str, method: str, key: str, variants: set[str] | None) -> None:
        path, groups = (section, method, key), self.settings["groups"]
        name, slash, variant = key.partition("/")
        if key in groups or (key == ANY and section == "budgets"):
            return
        if not self._is_dataset(name):
            known = ", ".join([*self._datasets(), *groups])
            self.fail(path, f"expected a data set or group ({known}), found {shown(key)}")
        if not slash:
            return
        if variant in ("", "default"):
            self.fail(path, f"expected the name of a variant after {name}/, found {shown(variant)}")
        if wrong := wrong_variant(variant):
            self.fail(path, f"variant: {wrong}")
        if variants is not None and key not in variants:
            there = ", ".join(sorted(variants)) or "none"
            self.fail(path, f"expected a variant of the grid or the ablations ({there}), found {shown(key)}")

    def _variants(self, method: str) -> set[str] | None:
        """Keys with a variant that a method has, or had until a later source took it out; None where all are gone."""
        sections = ("grid", "ablations")
        if any(self.settings[section].get(method, {}) is None for section in sections):
            return None
        places = [self.settings, *(source.values for source in self.sources)]
        found = [((place.get(section) or {}).get(method) or {}) for place in places for section in sections]
        return {key for entries in found for key in entries if "/" in key}

    def _cells(self, section: str) -> Iterator[tuple[tuple[str, str, str], str, dict[str, Any]]]:
        for method, entries in self.settings[section].items():
            for key, entry in (entries or {}).items():
                if entry:
                    yield (section, method, key), method, entry

    def _schedule(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        training = entry.get("training", {})
        path = (*path, "training", SCHEDULE)
        if PHASES in training and SCHEDULE in training:
            self.fail(path, f"expected {PHASES} or a {SCHEDULE}, found both")
        for keys, fault in decay_faults(training.get(SCHEDULE, {})):
            self.fail((*path, *keys), fault)

    def _names_of_analyses(self, path: tuple[str, ...], entry: Mapping[str, Any]) -> None:
        for i, name in enumerate(entry.get("analyses", ())):
            self._analysis((*path, "analyses", str(i)), name)

    def _analysis(self, path: tuple[str, ...], name: str) -> None:
        if not is_analysis(name):
            self.fail(path, f"expected some of {', '.join(analysis_names())}, found {shown(name)}")

    def _model(self, path: tuple[str, ...], method: str, entry: dict[str, Any]) -> None:
        wanted = self.hyperparameters(method)
        if "model" in entry and wanted is not None:
            entry["model"] = self._typed(entry["model"], {**wanted, "required": []}, (*path, "model"))

    def _axes(self, path: tuple[str, ...], method: str, axes: dict[str, Any]) -> None:
        wanted = self.hyperparameters(method)
        known = {LEARNING_RATE: {"type": "number", "exclusiveMinimum": 0}}
        of_training = part_schema("training")["properties"].items()
        known |= {f"training.{key}": value for key, value in of_training if key != START_FROM}
        known |= {f"model.{key}": value for key, value in (wanted or {"properties": {}})["properties"].items()}
        if set(AXES) <= set(axes):
            self.fail((*path, AXES[1]), f"expected {' or '.join(AXES)}, found both")
        for axis, values in axes.items():
            if axis in (BUDGET, FINER) or (wanted is None and axis.startswith("model.")):
                continue
            if axis not in known:
                self.fail((*path, axis), f"expected axes out of {', '.join(known)}, found {shown(axis)}")
            items = {"type": "array", "items": known[axis], "$defs": schema()["$defs"]}
            axes[axis] = self._typed(values, items, (*path, axis))
            for i, value in enumerate(axes[axis] if axis == AXES[1] else ()):
                for keys, fault in schedule_faults(value):
                    self.fail((*path, axis, str(i), *keys), fault)

    def _analyses(self) -> None:
        keys = (ANY, *self.settings["groups"], *self._datasets())
        for asked, entries in self.settings["analyses"].items():
            self._analysis(("analyses", asked), name_of(asked))
            wanted = settings_schema(name_of(asked))
            for key, entry in (entries or {}).items():
                path = ("analyses", asked, key)
                if key not in keys:
                    self.fail(path, f"expected a data set or group ({', '.join(keys)}), found {shown(key)}")
                if entry is not None and wanted is not None:
                    entries[key] = self._typed(entry, {**wanted, "required": []}, path)
            for dataset in self._datasets() if wanted else ():
                found = analysis_settings(self.settings, asked, dataset)
                missing = [] if found is None else [each for each in wanted["required"] if each not in found]
                if missing:
                    self.fail(("analyses", asked), f"expected {', '.join(missing)} for {dataset}, found none")


def cell_faults(
    values: Mapping[str, Any], wanted: dict[str, Any] | None, method: str, dataset: str, paths: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Faults that keep a cell from being trained, as far as settings show: keys, and what was expected and found.

    values: all that applies to it. wanted: JSON schema of the hyperparameters, where it is known. paths: the data sets
    of which the user has files, perhaps with labels.
    """
    training = values.get("training", {})
    for keys, fault in schedule_faults(training[SCHEDULE]) if SCHEDULE in training else ():
        yield ("training", SCHEDULE, *keys), fault
        return
    training = in_phases(training)
    for part, given in (("training", training), ("evaluation", values.get("evaluation", {}))):
        missing = sorted(set(cell_schema(part)["properties"]) - set(given))
        if missing:
            yield (part,), f"expected {', '.join(missing)}, found none"
    for keys, fault in optimizer_faults(training[OPTIMIZER]) if training.get(OPTIMIZER) is not None else ():
        yield ("training", OPTIMIZER, *keys), fault
    for keys, fault in warm_up_faults(training.get(PHASES, [])):
        yield ("training", PHASES, *keys), fault
    model = values.get("model", {})
    # the types in the entries are right by now, so that only what none of them has, or defaults have, can be wrong
    doubtful = wanted is not None and (set(wanted["required"]) - set(model) or set(model) - set(wanted["properties"]))
    if doubtful and (found := first_error(model, wanted)):
        yield ("model", *found[0]), found[1]
    if not training["phases"] and not _has_closed_form(method):
        yield ("training", "phases"), "expected at least one, found none"
    if training["labels"] is not None:
        rows, per_batch = training["labels"]["rows"], training["labels"]["per_batch"]
        classes = CATALOGUE[dataset].classes if dataset in CATALOGUE and dataset not in paths else None
        if classes is None and dataset in CATALOGUE and dataset not in paths:
            yield ("training", "labels"), f"expected null, as {dataset} has no labels, found {rows} rows"
        if classes is not None and rows % classes:
            yield ("training", "labels", "rows"), f"expected a multiple of the {classes} classes, found {rows}"
        if per_batch > training["batch_size"]:
            expected = f"at most {training['batch_size']}, the batch_size"
            yield ("training", "labels", "per_batch"), f"expected {expected}, found {per_batch}"


def _has_closed_form(method: str) -> bool:
    try:
        return "closed form" in listed(method).capabilities
    except HarnessError:
        return True  # its source cannot be read, so only training can tell


def analysis_settings(settings: Mapping[str, Any], asked: str, dataset: str) -> dict[str, Any] | None:
    """What the configuration says of an analysis on a data set, general to specific; None where it is not asked for.

    asked: its key in the section, a name or a file.
    """
    entries = settings["analyses"][asked] or {}
    groups = [group for group, members in settings["groups"].items() if dataset in members]
    values: dict[str, Any] | None = None
    for key in dict.fromkeys((ANY, *groups, dataset)):
        if key in entries:
            values = None if entries[key] is None else merged(values or {}, entries[key])
    return values


def source_of(path: Sequence[str], sources: Sequence[Source]) -> str:
    """The name of the source from which a key comes: the last that has it, or most of the way to it."""
    return max(reversed(sources), key=lambda source: depth(source.values, path)).name


def depth(value: Any, path: Sequence[str]) -> int:
    """How many keys of a path a value has, one in the other."""
    for n, part in enumerate(path):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return n
    return len(path)


def _with_unknown_key(value: Mapping[str, Any], wanted: Mapping[str, Any], sources: Sequence[Source]) -> str:
    unknown = [key for key in value if key not in wanted["properties"]]
    return source_of(unknown[:1], sources)
