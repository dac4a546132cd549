"""``harness list KIND``, ``new KIND NAME`` and ``verify KIND NAME``: one spelling for all that the harness finds."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.cli.about import list_datasets, list_methods, new_method, verify_datasets
from harness.cli.options import add_verb, load_settings
from harness.compute.places import ROOT
from harness.errors import HarnessError
from harness.plugins.constants import Text
from harness.plugins.finding import BUILT_IN_ORIGIN, is_file, name_of
from harness.settings.check import ANY

if TYPE_CHECKING:
    from harness.verify import Result

T = TypeVar("T")
Rows = tuple[tuple[str, ...], list[tuple[Any, ...]]]  # headers, and a row per thing


SINGULAR = {
    "method": "methods",
    "dataset": "datasets",
    "metric": "metrics",
    "analysis": "analyses",
    "table": "tables",
    "figure": "figures",
    "claim": "claims",
}


def plural(kind: str) -> str:
    """The kind by either of its words, ``table`` or ``tables``."""
    return SINGULAR.get(kind, kind)


def add(verbs: Any) -> None:
    """The verbs."""
    listing = add_verb(verbs, "list", _list, f"list what there is of a kind: {', '.join(KINDS)}")
    listing.add_argument("kind", metavar="KIND", type=plural, choices=KINDS)
    new = add_verb(verbs, "new", _new, f"write a working file of a kind to start from: {', '.join(NEW)}")
    new.add_argument("kind", metavar="KIND", type=plural, choices=NEW)
    new.add_argument("name", metavar="NAME")
    new.add_argument("--folder", type=Path, help="where to write")
    verify = add_verb(verbs, "verify", _verify, f"check what somebody wrote of a kind: {', '.join(KINDS)}")
    verify.add_argument("kind", metavar="KIND", nargs="?", type=plural, choices=KINDS, default="methods")
    verify.add_argument("name", metavar="NAME", help="its name, or its file")
    verify.add_argument("--allow-unchecked", action="store_true", help="exit with 0 even if something is NOT CHECKED")


def _list(options: argparse.Namespace) -> int:
    from tabulate import tabulate

    settings = load_settings(options)
    if options.kind in WITH_LISTS:
        return WITH_LISTS[options.kind](settings)
    headers, rows = LISTS[options.kind](settings)
    print(tabulate(rows, headers, maxcolwidths=[None, *[60] * (len(headers) - 1)], disable_numparse=True))
    return 0


def _metrics(settings: dict[str, Any]) -> Rows:
    from harness.plugins.metrics import BUILT_IN, metric, own_metrics

    asked = set(map(name_of, settings["metrics"]))
    found = [*BUILT_IN.values(), *_readable("metric", own_metrics(), metric)]
    rows = [
        (
            *(each.name, each.title, each.unit, each.better, ", ".join(each.needs), each.origin),
            _whether(each.name in asked or each.name in BUILT_IN),
        )
        for each in found
    ]
    return ("name", "title", "unit", "better", "needs", "found", "measured"), rows


def _analyses(settings: dict[str, Any]) -> Rows:
    from harness.plugins import analyses

    asked = analyses.asked_for(settings["analyses"])

    def row(name: str) -> tuple[Any, ...]:
        of = "ablations" if analyses.is_of_ablations(name) else "the grid"
        sentence = Text.read(analyses.file_of(name), ()).first_sentence
        needed = ", ".join(analyses.needs(name))
        return (name, needed, of, sentence, analyses.origin(name), _whether(name in asked))

    return ("name", "needs", "of", "what", "found", "done"), list(_readable("analysis", analyses.analysis_names(), row))


def _tables(settings: dict[str, Any]) -> Rows:
    from harness.plugins.tables import REGISTRY, own_table, own_tables
    from harness.reporting.tables.overview import NAME, TITLE
    from harness.reporting.tables.planned import NAMES, OWN, table_named

    rows = [(name, f"Table {table_named(name).number}", table_named(name).title) for name in NAMES]
    rows += [(NAME, TITLE, "every measured method on every data set, with paired tests (target: compare)")]
    rows += [(OWN, "Metrics", "the metrics that `metrics` in the settings asks for")]
    asked = own_tables(settings)
    of_users = [
        (each.name, each.title, each.caption, each.origin, _whether(each.name in asked))
        for each in _readable("table", REGISTRY.names(), own_table)
    ]
    drawn = ((*row, BUILT_IN_ORIGIN, _whether(row[0] != OWN or bool(settings["metrics"]))) for row in rows)
    return ("name", "table", "what", "found", "drawn"), [*drawn, *of_users]


def _figures(settings: dict[str, Any]) -> Rows:
    from harness.plugins.figures import REGISTRY, built_in_figures, figure, figure_names

    asked = figure_names(settings)
    found = _readable("figure", [*built_in_figures(), *REGISTRY.names()], figure)
    return ("name", "analyses", "what", "found", "drawn"), [
        (each.name, ", ".join(each.analyses), each.sentence, each.origin, _whether(each.name in asked))
        for each in found
    ]


def _claims(settings: dict[str, Any]) -> Rows:
    from harness.plugins.claims import REGISTRY, own_claim, own_claims
    from harness.reporting.report.claims import CLAIMS

    rows = []
    for claim in CLAIMS:
        function = getattr(claim, "func", claim)  # one function may judge several
        said = ", ".join(map(str, getattr(claim, "keywords", {}).values()))
        sentence = (function.__doc__ or "").partition("\n")[0]
        rows.append((function.__name__, said, sentence, BUILT_IN_ORIGIN, _whether(True)))
    asked = own_claims(settings)
    for each in _readable("claim", REGISTRY.names(), own_claim):
        rows.append((each.name, ", ".join(each.sources), each.text, each.origin, _whether(each.name in asked)))
    return ("name", "of", "what", "found", "judged"), rows


def _readable(word: str, names: Iterable[str], described: Callable[[str], T]) -> Iterator[T]:
    """What is known of each name; those whose files say something wrong have a line on standard error."""
    for name in names:
        try:
            yield described(name)
        except HarnessError as error:
            print(f"harness: {word} {name}: {error}", file=sys.stderr)


def _whether(asked: bool) -> str:
    return "yes" if asked else "not asked for"


def _new(options: argparse.Namespace) -> int:
    load_settings(options)
    print(*NEW[options.kind](options.name, options.folder), sep="\n")
    return 0


def _new_of(kind: str) -> Callable[[str, Path | None], list[str]]:
    def new(name: str, folder: Path | None) -> list[str]:
        from harness.cli.new_plugin import new_plugin

        return new_plugin(kind, name, folder)

    return new


def _verify(options: argparse.Namespace) -> int:
    import torch
    from tabulate import tabulate

    from harness.verify import summary

    settings, name = load_settings(options), options.name
    if is_file(name):
        settings, name = _with_file(options, settings), name_of(name)
    if options.kind == "datasets":
        return verify_datasets([name], settings)
    torch.set_num_threads(1)
    results = list(_results(options.kind, name, settings))
    rows = [(result.check, result.verdict, result.detail) for result in results]
    print(tabulate(rows, headers=("check", "verdict", "found"), maxcolwidths=(None, None, 90)))
    print(f"\n{name}: {summary(results)}")
    bad = {"failed"} if options.allow_unchecked else {"failed", "NOT CHECKED"}
    return int(any(result.verdict in bad for result in results))


def _with_file(options: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with the file that the command line names, unless they ask for it already."""
    path, asked = Path(options.name).absolute(), settings[options.kind]
    if path in [Path(os.path.abspath(ROOT / Path(each).expanduser())) for each in asked if is_file(each)]:
        return settings
    of_kind = {str(path): {ANY: {}}} if options.kind == "analyses" else [*asked, str(path)]
    return load_settings(options, {options.kind: of_kind})


def _results(kind: str, name: str, settings: dict[str, Any]) -> Iterator[Result]:
    """The results of all checks of one of a kind."""
    from harness.verify import verify
    from harness.verify.analyses import verify_analysis
    from harness.verify.claims import verify_claim
    from harness.verify.figures import verify_figure
    from harness.verify.metrics import verify_metric
    from harness.verify.tables import verify_table

    if kind in ("methods", "metrics"):
        return verify(name) if kind == "methods" else verify_metric(name)
    of_kind = {"analyses": verify_analysis, "tables": verify_table, "figures": verify_figure, "claims": verify_claim}
    return of_kind[kind](name, settings)


WITH_LISTS = {"methods": list_methods, "datasets": list_datasets}  # kinds whose lists have verbs of their own
LISTS: dict[str, Callable[[dict[str, Any]], Rows]] = {
    "metrics": _metrics,
    "analyses": _analyses,
    "tables": _tables,
    "figures": _figures,
    "claims": _claims,
}
KINDS = (*WITH_LISTS, *LISTS)
NEW: dict[str, Callable[[str, Path | None], list[str]]] = {
    "methods": new_method,
    **{kind: _new_of(kind) for kind in LISTS},
}
