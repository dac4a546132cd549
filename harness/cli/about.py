"""Verbs that list and manage data sets, methods, settings and the workflow."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from harness.cli.options import add_verb, load_settings, results_of
from harness.errors import ConfigError, HarnessError


def add(verbs: Any) -> None:
    """Verbs that list and manage."""
    datasets = add_verb(verbs, "datasets", _datasets, "list the data sets, or fetch some into the cache")
    datasets.add_argument("--fetch", nargs="+", metavar="NAME", help="data sets to find, verify and cache")
    datasets.add_argument("--verify", nargs="+", metavar="NAME", help="data sets to read and check")
    datasets.add_argument(
        "--record",
        type=Path,
        help="write the result for one data set to this file; not finding the data is then no error",
    )
    datasets.add_argument(
        "--attempt", default="0", help="label stored beside the record; a new one means a new attempt"
    )

    add_verb(verbs, "methods", _methods, "list the methods")

    new = add_verb(verbs, "new-method", _new_method, "write a working method to start from, and its settings")
    new.add_argument("name", metavar="NAME")
    new.add_argument("--folder", type=Path, help="where to write (default: methods/ in a checkout, else here)")

    forget = add_verb(verbs, "forget", _forget, "remove models and search trials that other code of a method trained")
    forget.add_argument("method", metavar="METHOD")
    forget.add_argument("--results", type=Path, help="folder of the run's results (default: results/PRESET)")
    forget.add_argument("--all", action="store_true", help="remove everything of the method, whichever code trained it")

    add_verb(verbs, "settings", _settings, "print the merged settings as JSON")

    add_verb(verbs, "snakefile", _snakefile, "print the path of the workflow, for `snakemake -s`")

    worker = add_verb(verbs, "worker", _worker, "do the jobs of a workflow, each in a forked process (started by it)")
    worker.add_argument("listener", type=int, help="descriptor of the socket that clients connect to")
    worker.add_argument("lifeline", type=int, help="descriptor of a pipe that ends with the workflow")


def _datasets(options: argparse.Namespace) -> int:
    settings = load_settings(options)
    if options.verify:
        return verify_datasets(options.verify, settings)
    if not options.fetch:
        return list_datasets(settings)
    if options.record and len(options.fetch) > 1:
        raise ConfigError(f"--record: expected one data set, found {len(options.fetch)}")
    for name in options.fetch:
        try:
            record = _fetch(name, settings)
        except HarnessError as error:
            if settings["strict"] or not options.record:
                raise
            print(f"harness: {name}: unavailable: {error}", file=sys.stderr)
            record = {"name": name, "available": False, "message": str(error)}
        if options.record:
            from harness.cli.workflow import attempts_file
            from harness.storage.records import write_json

            write_json(attempts_file(options.record), {"attempt": options.attempt})
            write_json(options.record, record)
    return 0


def verify_datasets(names: list[str], settings: dict[str, Any]) -> int:
    """Print every check of these data sets; 1 where one has failed."""
    from tabulate import tabulate

    from harness.data.verification import FAILED, verify_dataset
    from harness.settings.config import data_settings

    rows = [(name, *checked) for name in names for checked in verify_dataset(name, data_settings(settings))]
    print(tabulate(rows, headers=("data set", "check", "verdict", "found"), maxcolwidths=(None, None, None, 80)))
    n_failed = sum(verdict == FAILED for _, _, verdict, _ in rows)
    print(f"\n{len(rows)} checks, {n_failed} failed")
    return int(n_failed > 0)


def list_datasets(settings: dict[str, Any]) -> int:
    """Print all data sets; the exit code."""
    from tabulate import tabulate

    from harness.data import describe
    from harness.settings.config import data_settings

    print(tabulate(describe(data_settings(settings)), headers="keys", maxcolwidths=40))
    return 0


def _fetch(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Fetch one data set; what is known of it."""
    from harness.data import fetch
    from harness.settings.config import data_settings

    data = fetch(name, data_settings(settings))
    rows = {split: len(getattr(data, split)) for split in ("train", "valid", "test")}
    print(f"{name}: {rows}, {data.n_features} columns, {data.status} (from {data.origin})", file=sys.stderr)
    return {
        "name": name,
        "available": True,
        "digest": data.digest,
        "n_features": data.n_features,
        "rows": rows,
        "official": data.status.official,
        "note": data.status.note,
    }


def _methods(options: argparse.Namespace) -> int:
    return list_methods(load_settings(options))


def list_methods(settings: dict[str, Any]) -> int:
    """Print all methods that are known once ``settings`` were read; 1 where the source of one cannot be read."""
    from tabulate import tabulate

    from harness.plugins.listing import listed
    from harness.plugins.registry import method_names, origin

    rows, broken = [], []
    for name in method_names():
        try:
            found = listed(name)
        except HarnessError as error:
            broken.append(f"{name} ({origin(name)}): {error}")
        else:
            rows.append((name, found.title, found.kind, ", ".join(found.capabilities), found.source, origin(name)))
    headers = ("name", "title", "kind", "capabilities", "source", "found")
    print(tabulate(rows, headers, maxcolwidths=[None, None, None, 40, 50, None]))
    for text in broken:
        print(f"harness: method {text}", file=sys.stderr)
    return int(bool(broken))


def _new_method(options: argparse.Namespace) -> int:
    load_settings(options)
    print(*new_method(options.name, options.folder), sep="\n")
    return 0


def new_method(name: str, folder: Path | None) -> list[str]:
    """Write a method and its settings; what to say of them and to do next."""
    from harness.cli.new_method import METHODS, write_new_method
    from harness.compute.places import CHECKOUT

    written = write_new_method(name, folder)
    here, built_in = Path.cwd(), written[0].parent == METHODS
    code, settings = (path.relative_to(here) if path.is_relative_to(here) else path for path in written)
    snakemake = "snakemake" if CHECKOUT else 'snakemake -s "$(harness snakefile)"'
    return [
        f"wrote {code}, a small working method, and {settings}, its settings; next:",
        f"  harness verify {name}" + ("" if built_in else f" --settings {settings}"),
        f"  {snakemake} --cores 8 tables figures --configfile {settings}",
    ]


def _forget(options: argparse.Namespace) -> int:
    from harness.storage.forget import forget

    settings = load_settings(options)
    results = options.results or results_of(settings)
    removed = forget(results, options.method, options.all)
    for folder in removed:
        print(f"removed {folder}")
    if not removed:
        print(f"{results}: nothing of {options.method}" + " by other code" * (not options.all))
    return 0


def _settings(options: argparse.Namespace) -> int:
    print(json.dumps(load_settings(options), indent=2))
    return 0


def _snakefile(options: argparse.Namespace) -> int:
    from harness.compute.places import SNAKEFILE

    print(SNAKEFILE)
    return 0


def _worker(options: argparse.Namespace) -> int:
    import socket

    from harness.cli import main
    from harness.worker.server import serve

    serve(socket.socket(fileno=options.listener), options.lifeline, main)
    return 0
