"""Data sets from outside the catalogue, of settings and of plugins: found by name, read, and held to their digest."""

from __future__ import annotations

import logging
from pathlib import Path

from harness.data import sightings
from harness.data.catalogue import CATALOGUE
from harness.data.dataset import Dataset
from harness.data.own import OwnData, read_own
from harness.data.settings import DataSettings
from harness.errors import DataError, HarnessError
from harness.plugins.datasets import DATA, LOAD, dataset_module, listed_data, plugin_datasets
from harness.schema import first_error

logger = logging.getLogger(__name__)

GREY, BINARIZE = "GREY", "BINARIZE"  # constants of a module with a function that loads
WORD = {"type": ["string", "null"]}
SHARE = {"type": ["string", "number", "null"], "minLength": 1, "exclusiveMinimum": 0}
FILES = {"type": "object", "additionalProperties": False, "required": ["train", "valid", "test"]}
FILES["properties"] = {key: {"type": "string", "minLength": 1} for key in FILES["required"]}
SCHEMA = {
    "type": ["object", "null"],
    "additionalProperties": False,
    "properties": {
        "train": {"type": ["string", "null"], "minLength": 1},
        "valid": SHARE,
        "test": SHARE,
        "file": {"type": ["string", "null"], "minLength": 1},
        "split": {"type": ["array", "null"], "items": {"type": "number", "exclusiveMinimum": 0}},
        "seed": {"type": "integer", "minimum": 0},
        "labels": {**FILES, "type": ["string", "integer", "object", "null"]},
        "variable": WORD,
        "columns": {"type": ["integer", "null"], "minimum": 1},
        "grey": {"type": "boolean"},
        "binarize": {"type": "boolean"},
        "header": {"type": ["boolean", "null"]},
        **dict.fromkeys(("title", "source", "licence"), WORD),
    },
}


def fault_of(values: dict) -> str | None:
    """What keeps an entry, whose types are right, from naming a data set, ``expected ..., found ...``."""
    given = [key for key in ("train", "valid", "test", "file", "split") if values.get(key) is not None]
    if "file" in given and set(given) & {"train", "valid", "test"}:
        return f"expected a file, or train, valid and test, found {', '.join(given)}"
    if "split" in given and "file" not in given:
        return "expected a file to split, found none"
    if "split" in given and len(values["split"]) != 3:
        return f"expected a split into three, train, valid and test, found {len(values['split'])}"
    if "file" not in given and (lacking := [key for key in ("train", "valid", "test") if key not in given]):
        return f"expected train, valid and test, or one file, found no {', '.join(lacking)}"
    if values.get("binarize") and not values.get("grey"):
        return "expected grey: true beside binarize, found none"
    return None


def is_outside(name: str, settings: DataSettings) -> bool:
    """Whether a data set is the user's or a plugin's."""
    return name in settings.own or (name not in CATALOGUE and name in plugin_datasets())


def outside_names(settings: DataSettings) -> list[str]:
    """Names of all data sets of the user and of plugins."""
    return list(dict.fromkeys([*settings.own, *(name for name in plugin_datasets() if name not in CATALOGUE)]))


def own_data(name: str, settings: DataSettings) -> OwnData:
    """The user's data set of this name, or that of a plugin, whose module is run. Raises HarnessError."""
    return settings.own[name] if name in settings.own else of_plugin(name)


def of_plugin(name: str) -> OwnData:
    """The data set that a plugin describes. Raises HarnessError where its module says something else."""
    listed, module = listed_data(name), dataset_module(name)
    words = {"title": listed.title, "source": listed.source, "licence": listed.licence}
    load, values = getattr(module, LOAD, None), getattr(module, DATA, None)
    if callable(load):
        grey, binarize = (bool(getattr(module, constant, False)) for constant in (GREY, BINARIZE))
        if binarize and not grey:
            raise DataError(listed.file, f"{GREY} = True beside {BINARIZE}", "none")
        return OwnData(name, load=load, code=listed.file, grey=grey, binarize=binarize, **words)
    if not isinstance(values, dict):
        raise DataError(listed.file, f"{DATA} = {{...}} or a function {LOAD}()", type(values).__name__)
    found = first_error(values, SCHEMA)
    fault = ": ".join(filter(None, [".".join(found[0]), found[1]])) if found else fault_of(values)
    if fault:
        raise HarnessError(f"{listed.file}: {DATA}: {fault}")
    return OwnData.from_settings(name, {**words, **values}, listed.file.parent)


def read_outside(name: str, settings: DataSettings) -> Dataset:
    """A data set of the user or of a plugin, from its files. Raises DataError where its digest is not the known one."""
    own = own_data(name, settings)
    data = read_own(own)
    sightings.remember(own, Path(settings.cache), data)
    expected = settings.known.get(name)
    if expected not in (None, data.digest):
        found = f"digest {data.digest}: it has changed since; the next call takes it for another data set"
        raise DataError(f"{name} ({data.origin})", f"content of digest {expected}, as when settings were read", found)
    logger.info("%s: read from %s, digest %s", name, data.origin, data.digest)
    return data


def describe_outside(name: str, settings: DataSettings) -> dict:
    """The record of `harness datasets`: what was seen of the data set, which is read if that was never done."""
    record = {"name": name, "columns": None, "train": None, "valid": None, "test": None, "status": "own"}
    try:
        words = settings.own[name] if name in settings.own else listed_data(name)
        record |= {"licence": words.licence or "", "source": _source(name, words, settings)}
        seen = sightings.sight(own_data(name, settings), Path(settings.cache))
    except HarnessError as error:
        return {"licence": "", "source": "", **record, "available": f"unavailable: {error}"}
    rows = dict(zip(("train", "valid", "test"), seen.rows, strict=True))
    return {**record, "columns": seen.columns, **rows, "status": seen.status, "available": "user"}


def title_of(name: str, settings: DataSettings) -> str:
    """What tables may call a data set: the title that its user or plugin gives it, else its name."""
    if name in settings.own:
        return settings.own[name].title or name
    if name not in CATALOGUE and name in plugin_datasets():
        return listed_data(name).title or name
    return name


def _source(name: str, words: object, settings: DataSettings) -> str:
    origin = "settings" if name in settings.own else words.origin
    return "; ".join(filter(None, [words.title, words.source, origin]))
