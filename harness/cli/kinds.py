"""``harness list KIND`` and ``harness new KIND NAME``: one spelling for everything that the harness finds by itself."""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.cli.about import list_datasets, list_methods, new_method
from harness.cli.options import add_verb, load_settings
from harness.errors import HarnessError

Rows = tuple[tuple[str, ...], list[tuple[Any, ...]]]  # headers, and a row per thing


def add(verbs: Any) -> None:
    """The verbs."""
    listing = add_verb(verbs, "list", _list, f"list what there is of a kind: {', '.join(KINDS)}")
    listing.add_argument("kind", metavar="KIND", choices=KINDS)
    new = add_verb(verbs, "new", _new, f"write a working file of a kind to start from: {', '.join(NEW)}")
    new.add_argument("kind", metavar="KIND", choices=NEW)
    new.add_argument("name", metavar="NAME")
    new.add_argument("--folder", type=Path, help="where to write")


def _list(options: argparse.Namespace) -> int:
    from tabulate import tabulate

    settings = load_settings(options)
    if options.kind in WITH_LISTS:
        return WITH_LISTS[options.kind](settings)
    headers, rows = LISTS[options.kind](settings)
    print(tabulate(rows, headers, maxcolwidths=[None, *[60] * (len(headers) - 1)], disable_numparse=True))
    return 0


def _metrics(settings: dict[str, Any]) -> Rows:
    from harness.plugins.metrics import BUILT_IN, metric, name_of, own_metrics

    asked = set(map(name_of, settings["metrics"]))
    found = list(BUILT_IN.values())
    for name in own_metrics():
        try:
            found.append(metric(name))
        except HarnessError as error:
            print(f"harness: metric {name}: {error}", file=sys.stderr)
    rows = [
        (
            *(each.name, each.title, each.unit, each.better, ", ".join(each.needs), each.origin),
            "yes" if each.name in asked or each.name in BUILT_IN else "not asked for",
        )
        for each in found
    ]
    return ("name", "title", "unit", "better", "needs", "found", "measured"), rows


def _analyses(settings: dict[str, Any]) -> Rows:
    from harness.plugins.analyses import FOLDER, analysis_names, is_of_ablations, needs

    return ("name", "needs", "of", "what"), [
        (
            *(name, ", ".join(needs(name)), "ablations" if is_of_ablations(name) else "the grid"),
            _first_sentence(FOLDER / f"{name}.py"),
        )
        for name in analysis_names()
    ]


def _tables(settings: dict[str, Any]) -> Rows:
    from harness.reporting.tables.overview import NAME, TITLE
    from harness.reporting.tables.planned import NAMES, OWN, table_named

    rows = [(name, f"Table {table_named(name).number}", table_named(name).title) for name in NAMES]
    rows += [(NAME, TITLE, "every measured method on every data set, with paired tests (target: compare)")]
    rows += [(OWN, "Metrics", "the metrics that `metrics` in the settings asks for")]
    return ("name", "table", "what"), rows


def _figures(settings: dict[str, Any]) -> Rows:
    from harness.reporting.figures.write import FOLDER, analyses_behind, figure_names

    return ("name", "analyses", "what"), [
        (name, ", ".join(analyses_behind(name)), _first_sentence(FOLDER / f"{name}.py")) for name in figure_names()
    ]


def _claims(settings: dict[str, Any]) -> Rows:
    from harness.reporting.report.claims import CLAIMS

    rows = []
    for claim in CLAIMS:
        function = getattr(claim, "func", claim)  # one function may judge several
        said = ", ".join(map(str, getattr(claim, "keywords", {}).values()))
        rows.append((function.__name__, said, (function.__doc__ or "").partition("\n")[0]))
    return ("name", "of", "what"), rows


def _new(options: argparse.Namespace) -> int:
    load_settings(options)
    print(*NEW[options.kind](options.name, options.folder), sep="\n")
    return 0


def _new_metric(name: str, folder: Path | None) -> list[str]:
    from harness.cli.new_metric import new_metric

    return new_metric(name, folder)


WITH_LISTS = {"methods": list_methods, "datasets": list_datasets}  # kinds whose lists have verbs of their own
LISTS: dict[str, Callable[[dict[str, Any]], Rows]] = {
    "metrics": _metrics,
    "analyses": _analyses,
    "tables": _tables,
    "figures": _figures,
    "claims": _claims,
}
KINDS = (*WITH_LISTS, *LISTS)
NEW: dict[str, Callable[[str, Path | None], list[str]]] = {"methods": new_method, "metrics": _new_metric}


def _first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.partition("\n\n")[0].replace("\n", " ")
