"""Verbs that say which of several methods is better, and what moved between two runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.options import add_verb, load_settings

if TYPE_CHECKING:
    from harness.comparison.read import Measurements


def add(verbs: Any) -> None:
    """Verbs for comparisons."""
    compare = add_verb(verbs, "compare", _compare, "say which methods of a run differ, or what moved between two runs")
    compare.add_argument("run", type=Path, metavar="A", help="folder of a run's results, or its metrics.parquet")
    compare.add_argument("earlier", type=Path, nargs="?", metavar="B", help="another run: what moved from B to A")
    compare.add_argument("--metric", default="-log p", help="what methods are compared on (default: -log p)")
    compare.add_argument("--output", type=Path, help="folder for tables and diagram (default: A/compare)")

    overview = add_verb(verbs, "overview", _overview, "render the table of all methods on all data sets of a run")
    overview.add_argument("run", type=Path, metavar="A", help="folder of a run's results, or its metrics.parquet")
    overview.add_argument("--output", type=Path, help="folder for the table (default: A/tables)")


def _compare(options: argparse.Namespace) -> int:
    folder = options.output or _home(options.run) / "compare"
    written = _methods(options, folder) if options.earlier is None else _moved(options, folder)
    print(*written, sep="\n")
    return 0


def _methods(options: argparse.Namespace, folder: Path) -> list[Path]:
    from harness.reporting.comparison import write_comparison
    from harness.reporting.comparison.page import summary
    from harness.storage.seals import seal

    rules = load_settings(options)["check"]
    found = _measured(options).compare(rules["level"], rules["power"], options.metric)
    written = write_comparison(found, options.run, folder)
    seal("compare", written)
    print(*summary(found), sep="\n")
    return written


def _moved(options: argparse.Namespace, folder: Path) -> list[Path]:
    from harness.check.moved_page import compare_runs, lines, write_moved
    from harness.check.rules import Rules

    rules = Rules.from_settings(load_settings(options))
    found = compare_runs(options.run, options.earlier, rules)
    print(*lines(found), sep="\n")
    return write_moved(found, options.run, options.earlier, folder, rules)


def _overview(options: argparse.Namespace) -> int:
    from harness.reporting.tables.overview import glance, overview, write_overview
    from harness.storage.seals import seal

    rules = load_settings(options)["check"]
    found = overview(_measured(options), rules["level"], rules["power"])
    written = write_overview(found, options.output or _home(options.run) / "tables")
    seal("overview", written)
    print(glance(found), *written, "", sep="\n")
    return 0


def _measured(options: argparse.Namespace) -> Measurements:
    """The run; ablations of the settings are no methods."""
    from harness.comparison.read import read_measured
    from harness.settings.config import cells_named

    ablations = cells_named(load_settings(options), "ablations")
    return read_measured(options.run, {(dataset, method, variant) for method, dataset, variant in ablations})


def _home(run: Path) -> Path:
    return run if run.is_dir() else run.parent
