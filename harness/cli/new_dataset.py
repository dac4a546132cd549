"""``harness new-dataset NAME FILES...``: files checked and surveyed, and the settings that make a data set of them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from harness import atomic
from harness.cli.options import add_verb, load_settings
from harness.compute.places import CHECKOUT
from harness.data.outside import SCHEMA, fault_of
from harness.data.own import OwnData, read_own
from harness.data.survey import by_part, survey
from harness.errors import ConfigError, DataError
from harness.plugins.names import wrong_name
from harness.schema import check
from harness.settings.datasets import data_settings
from harness.settings.text import parse_settings

DEFAULT_SPLIT = [0.8, 0.1, 0.1]
DEFAULT_SHARE = 0.1
WORDS = ("title", "source", "licence", "variable")


def add(verbs: Any) -> None:
    """The verb ``new-dataset``."""
    new = add_verb(verbs, "new-dataset", _new_dataset, "check the files of a data set and write the settings for it")
    new.add_argument("name", metavar="NAME")
    new.add_argument("files", metavar="FILE", nargs="+", type=Path, help="train, valid and test; or one with all rows")
    new.add_argument("--split", metavar="A,B,C", help="shares of train, valid and test of one file (default .8,.1,.1)")
    new.add_argument("--valid", metavar="SHARE", help="of the training rows, where there is no file (default 0.1)")
    new.add_argument("--seed", type=int, help="of the split (default 0)")
    new.add_argument("--labels", metavar="COLUMN", help="the column or array of labels; -1: the last column")
    new.add_argument("--columns", type=int, help="number of columns, of packed bits or sparse files")
    new.add_argument("--grey", action="store_true", help="grey levels 0..255 or 0..1, read as probabilities")
    new.add_argument("--binarize", action="store_true", help="models see draws from the grey levels, ever new ones")
    for word in WORDS:
        new.add_argument(f"--{word}", metavar="TEXT")
    new.add_argument("--folder", type=Path, help="where to write NAME.yaml (default: here)")


def _new_dataset(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    name = options.name
    if wrong := wrong_name(name):
        raise ConfigError(f"new data set: {wrong}")
    if name in settings["groups"]:
        raise ConfigError(f"new data set: expected an unused name, found {name!r}, that of a group")
    folder = Path(os.path.abspath(options.folder or "."))
    path = folder / f"{name}.yaml"
    if path.exists():
        raise ConfigError(f"{path}: expected no such file, found one, which was not changed")
    entry, data = _read(options, folder)
    print(f"{name}: {data.status}")
    print("\n".join(f"  {line}" for line in survey(data).lines()))
    text = _lines(name, entry)
    atomic.write_text(path, text)
    place = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    snakemake = "snakemake" if CHECKOUT else 'snakemake -s "$(harness snakefile)"'
    print(f"wrote {place}:\n\n{text}\nnext: {snakemake} --cores 8 tables --configfile {place}")
    if name in data_settings(settings).own:
        print(f"{name} is in the settings already; what lies on top counts")
    return 0


def _read(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Any]:
    """The entry of the settings, with paths as seen from the folder, and the data set that it names."""
    entry: dict[str, Any] = {key: _relative(path, folder) for key, path in _files(options).items()}
    if options.split and "file" in entry:
        entry["split"] = parse_settings(f"[{options.split}]", "--split")
    elif options.split:
        raise ConfigError("--split: expected one file of all rows, found more")
    if "file" not in entry and (options.valid or "valid" not in entry):
        if "valid" in entry:
            raise ConfigError("--valid: expected no file for the validation rows, found one")
        entry["valid"] = parse_settings(options.valid, "--valid") if options.valid else DEFAULT_SHARE
    if options.labels is not None:
        entry["labels"] = parse_settings(options.labels, "--labels")
    for key in ("seed", "columns", *WORDS):
        if getattr(options, key) is not None:
            entry[key] = getattr(options, key)
    entry |= {key: True for key in ("grey", "binarize") if getattr(options, key)}
    check(entry, SCHEMA, "new data set")
    if fault := fault_of(entry):
        raise ConfigError(f"new data set: {fault}")
    if "file" not in entry or "split" in entry:
        return entry, read_own(OwnData.from_settings(options.name, entry, folder))
    try:
        return entry, read_own(OwnData.from_settings(options.name, entry, folder))
    except DataError as error:
        if "a `split`" not in str(error.expected):
            raise
    entry["split"] = DEFAULT_SPLIT  # a file of all rows
    return entry, read_own(OwnData.from_settings(options.name, entry, folder))


def _files(options: argparse.Namespace) -> dict[str, Path]:
    files = options.files
    for path in files:
        if not path.is_file():
            raise DataError(path, "a file", "a folder" if path.is_dir() else "No such file or directory")
    if len(files) == 1:
        return {"file": files[0]}
    found = by_part(files) if len(files) <= 3 else None
    if found is None or not {"train", "test"} <= set(found):
        named = ", ".join(str(path) for path in files)
        expected = "one file, or files for train, (valid) and test, by names that say so or in this order"
        raise ConfigError(f"new data set: expected {expected}, found {named}")
    return {part: found[part] for part in ("train", "valid", "test") if part in found}


def _relative(path: Path, folder: Path) -> str:
    """As the settings name it: from their folder where the file is below that, else in full."""
    path = Path(os.path.abspath(path))
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def _lines(name: str, entry: dict[str, Any]) -> str:
    """The settings as YAML, without what is the same anyway."""
    import yaml

    inner = yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6).strip()
    text = f"data:\n  own:\n    {name}: {inner}\ngrid: {name}\n"
    if parse_settings(text, name) != {"data": {"own": {name: entry}}, "grid": name}:
        raise ConfigError(f"new data set: expected a name that YAML takes for a word, found {name!r}")
    return text
