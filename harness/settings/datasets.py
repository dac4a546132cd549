"""The data sets of settings: where they are looked for, those of the user, and grids that name data sets alone.

``data.own`` has the user's data sets, whose files are read at first sight: digest and number of columns go to
``data.known``, where jobs find them, and the digest is part of every cell. ``grid: own``, ``grid: debd`` or
``grid: [plants, adult]`` stands for the methods of ``suite`` on these data sets and for no other cell, ablation or
search. A data set that the grid says nothing of gets the first model of its method in ``suite`` that is meant for so
many columns. ``suite: [bihm, nade]`` leaves these methods of it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.compute.cache_folder import cache_folder
from harness.compute.places import ROOT
from harness.data import CATALOGUE, DataSettings
from harness.data.dataset import PARTS
from harness.data.outside import is_outside, own_data
from harness.data.own import OwnData
from harness.data.sightings import sight
from harness.errors import ConfigError, HarnessError
from harness.plugins.datasets import plugin_datasets
from harness.schema import first_error, shown
from harness.settings.check import ANY, Source, merged, merged_sources, schema, source_of
from harness.settings.text import dotted

OWN = "own"  # section of data, and the group of the data sets in it
LEFT_OUT = ("ablations", "searches")  # sections that a grid of data sets leaves empty
SPELT_OUT = ("grid", "suite")
logger = logging.getLogger(__name__)


def data_settings(settings: Mapping[str, Any]) -> DataSettings:
    """Where data are looked for; relative folders count from ``harness.compute.places.ROOT``."""
    data = settings["data"]
    return DataSettings(
        cache=ROOT / Path(data["cache"]).expanduser() if data["cache"] else cache_folder(),
        mirrors=tuple(ROOT / Path(mirror).expanduser() for mirror in data["mirrors"]),
        download=data["download"],
        paths={name: ROOT / Path(path).expanduser() for name, path in data["paths"].items() if path is not None},
        timeout_s=data["timeout_s"],
        own={name: OwnData.from_settings(name, entry) for name, entry in data[OWN].items() if entry is not None},
        known={name: seen["digest"] for name, seen in data["known"].items() if seen is not None},
    )


def dataset_files(settings: Mapping[str, Any]) -> tuple[Path, ...]:
    """Files with data sets that the settings name."""
    return tuple(Path(path).expanduser() for path in settings["datasets"])


def anchored(values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Settings whose data sets are named by absolute paths, where they were relative to the folder of their file."""
    found = dict(values)
    data = values.get("data")
    if isinstance(data, Mapping) and isinstance(data.get(OWN), Mapping):
        found["data"] = {**data, OWN: {name: _anchored_entry(entry, folder) for name, entry in data[OWN].items()}}
    if isinstance(values.get("datasets"), list):
        found["datasets"] = [_anchored(path, folder) for path in values["datasets"]]
    return found


def _anchored_entry(entry: Any, folder: Path) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    found = {key: _anchored(value, folder) if key in ("file", *PARTS) else value for key, value in entry.items()}
    if isinstance(entry.get("labels"), Mapping):
        found["labels"] = {part: _anchored(path, folder) for part, path in entry["labels"].items()}
    return found


def _anchored(path: Any, folder: Path) -> Any:
    return os.path.abspath(folder / Path(path).expanduser()) if isinstance(path, str) and path else path


def about_data(sources: Sequence[Source]) -> dict[str, Any]:
    """The merged settings without the sections in which data sets may stand for cells."""
    return merged_sources(
        [source._replace(values={k: v for k, v in source.values.items() if k not in SPELT_OUT}) for source in sources]
    )


def spelt_out(sources: Sequence[Source], about: Mapping[str, Any]) -> list[Source]:
    """The sources, with grids that name data sets as grids of cells, and what was seen of the data in one more.

    about: the settings of ``about_data``, checked. Raises ConfigError for a data set that there is not.
    """
    own = [name for name, entry in about["data"][OWN].items() if entry is not None]
    given = about["groups"].get(OWN) or []  # of settings that were merged before, in a record that sorts its keys
    if given and sorted(given) != sorted(own):
        where = source_of(("groups", OWN), sources)
        raise ConfigError(f"{where}: groups.{OWN}: expected none, as it is made of data.{OWN}, found one")
    for source in sources:
        _check_names(source)
    about = {**about, "groups": {**about["groups"], OWN: own}}
    known = _seen(about, [*own, *_from_plugins(sources, about)])
    about = {**about, "data": {**about["data"], "known": known}}
    spelt: list[Source] = []
    for source in sources:
        values = dict(source.values)
        suite, grid = values.get("suite"), values.get("grid")
        with_suite = source._replace(values={"suite": suite} if isinstance(suite, Mapping) else {})
        before = merged_sources([*spelt, with_suite])
        if _is_names(suite):
            values["suite"] = _chosen(_listed(suite), before.get("suite") or {})
        if _is_names(grid):
            suite_of_all = _suite_in_the_end(sources, source, before, values)
            values = {"left_to_overview": []} | values  # what a preset leaves is of the thesis' grid
            values |= _grid_of(source.name, _listed(grid), before, suite_of_all, about)
        spelt.append(source._replace(values=values))
    return [*spelt, Source("data sets", {"data": {"known": known}, "groups": {OWN: own}})]


def _check_names(source: Source) -> None:
    """Raises ConfigError where names that stand for cells, or the suite that makes cells of them, are no such thing."""
    for section in SPELT_OUT:
        value = source.values.get(section)
        strange = [each for each in _listed(value) if not isinstance(each, str)] if _is_names(value) else []
        if strange:
            expected = "cells by method, or data sets and groups" if section == "grid" else "methods"
            raise ConfigError(f"{source.name}: {section}: expected {expected}, found {shown(strange[0])}")
    suite = source.values.get("suite")
    wanted = {**schema()["properties"]["suite"], "$defs": schema()["$defs"]}
    if isinstance(suite, Mapping) and (found := first_error(suite, wanted)):
        raise ConfigError(f"{source.name}: {dotted(('suite', *found[0]))}: {found[1]}")


def _suite_in_the_end(
    sources: Sequence[Source], here: Source, before: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """The suite with what this source and later ones say: a list after the grid that it is for counts as well."""
    suite = merged(before.get("suite") or {}, values["suite"] if isinstance(values.get("suite"), Mapping) else {})
    for source in list(sources)[list(sources).index(here) + 1 :]:
        later = source.values.get("suite")
        later = _chosen(_listed(later), suite) if _is_names(later) else later
        suite = merged(suite, later if isinstance(later, Mapping) else {})
    return suite


def _is_names(value: Any) -> bool:
    """Whether a section is names of data sets or methods, in a list or separated by commas."""
    return isinstance(value, str | list) and bool(value)


def _listed(names: Any) -> list[str]:
    names = names.split(",") if isinstance(names, str) else names
    return [name.strip() if isinstance(name, str) else name for name in names]


def _chosen(names: Iterable[str], suite: Mapping[str, Any]) -> dict[str, Any]:
    return {**dict.fromkeys(suite), **{name: suite.get(name) or [{}] for name in names}}


def _grid_of(
    where: str, names: Sequence[str], before: Mapping[str, Any], suite: Mapping[str, Any], about: Mapping[str, Any]
) -> dict[str, Any]:
    """The sections of settings that are these data sets with the methods of the suite, and nothing else."""
    datasets = list(dict.fromkeys(each for name in names for each in _members(where, name, about)))
    grid: dict[str, Any] = dict.fromkeys(before.get("grid") or {})
    for method in (method for method, entries in suite.items() if entries is not None):
        entries = (before.get("grid") or {}).get(method) or {}
        found = dict.fromkeys(entries)
        for dataset in datasets:
            found[dataset] = _in_grid(entries, dataset, about) or entry_of_suite(
                suite, method, _columns(dataset, about)
            )
        grid[method] = found
    empty = {section: dict.fromkeys(before.get(section) or {}) for section in LEFT_OUT}
    return {"grid": grid, **empty}


def _members(where: str, name: Any, about: Mapping[str, Any]) -> list[str]:
    groups = about["groups"]
    if name in groups:
        if not groups[name]:
            raise ConfigError(f"{where}: grid: expected a group with data sets, found {name}, which has none")
        return groups[name]
    if name in CATALOGUE or is_outside(name, data_settings(about)):
        return [name]
    known = ", ".join([*groups, *about["data"][OWN], *CATALOGUE])
    raise ConfigError(f"{where}: grid: expected cells by method, or data sets and groups ({known}), found {name!r}")


def _in_grid(entries: Mapping[str, Any], dataset: str, about: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the grid says of a data set already, by itself or by a group; None where it says nothing."""
    groups = [group for group, members in about["groups"].items() if dataset in members]
    said = [entries[key] for key in (ANY, *groups, dataset) if entries.get(key) is not None]
    found: dict[str, Any] = {}
    for each in said:
        found = merged(found, each)
    return found if said else None


def entry_of_suite(suite: Mapping[str, Any], method: str, columns: int | None) -> dict[str, Any]:
    """What the suite says of a method for a data set of so many columns (None: not known), in the form of a grid."""
    for entry in suite[method]:
        if entry.get("columns") is None or (columns is not None and columns <= entry["columns"]):
            return {key: value for key, value in entry.items() if key != "columns"}
    last = suite[method][-1] if suite[method] else {}
    return {key: value for key, value in last.items() if key != "columns"}


def with_cell_of_suite(settings: Mapping[str, Any], method: str, dataset: str) -> dict[str, Any] | None:
    """Settings whose grid has what the suite says of a method and a data set; None where it says nothing."""
    known = dataset in CATALOGUE or is_outside(dataset, data_settings(settings)) or dataset in settings["data"]["known"]
    if not known or not settings["suite"].get(method) or dataset in (settings["grid"].get(method) or {}):
        return None
    seen = _seen(settings, [dataset] if dataset not in CATALOGUE else [])
    found = {**settings, "data": {**settings["data"], "known": {**settings["data"]["known"], **seen}}}
    entry = entry_of_suite(settings["suite"], method, _columns(dataset, found))
    return {**found, "grid": merged(settings["grid"], {method: {dataset: entry}})}


def digest_of_data(settings: Mapping[str, Any], dataset: str) -> str:
    """``data_digest`` of a cell with this data set: that of its content, '' of a data set of the catalogue."""
    seen = _seen(settings, [dataset]).get(dataset)
    return "" if seen is None else str(seen["digest"])


def _columns(dataset: str, about: Mapping[str, Any]) -> int | None:
    seen = about["data"]["known"].get(dataset)
    if seen is not None:
        return seen["columns"]
    return CATALOGUE[dataset].columns if dataset in CATALOGUE and dataset not in about["data"][OWN] else None


def _seen(about: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """``data.known`` with the digest and the columns of these data sets, as far as their files can be read."""
    where = data_settings(about)
    known = {name: seen for name, seen in about["data"]["known"].items() if seen is not None}
    for name in names:
        if name in known or not is_outside(name, where):
            continue
        try:
            found = sight(own_data(name, where), Path(where.cache))
        except HarnessError as error:
            logger.warning("harness: %s: unavailable: %s", name, error)
        else:
            known[name] = {"digest": found.digest, "columns": found.columns}
    return known


def _from_plugins(sources: Sequence[Source], about: Mapping[str, Any]) -> list[str]:
    """Data sets of plugins that any of the sources may have cells for."""
    named = {name for name in _named_in_grids(sources) if isinstance(name, str)}
    named |= {name for members in about["groups"].values() for name in members}
    named -= {*CATALOGUE, *about["data"][OWN], *about["groups"], ANY}
    return sorted(named & set(plugin_datasets())) if named else []


def _named_in_grids(sources: Sequence[Source]) -> Iterator[Any]:
    for source in sources:
        grid = source.values.get("grid")
        if _is_names(grid):
            yield from _listed(grid)
        for section in ("grid", "ablations"):
            methods = source.values.get(section)
            for entries in methods.values() if isinstance(methods, Mapping) else ():
                yield from (str(key).partition("/")[0] for key in (entries if isinstance(entries, Mapping) else ()))
