"""Verbs that turn trained and measured models into tables, figures, checks and publications."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.options import add_computing, add_verb, computing, load_settings, results_of
from harness.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from harness.data import Dataset
    from harness.storage.runs import RunFolder
    from harness.storage.search import Trial

if TYPE_CHECKING:
    import pandas as pd

    from harness.check.verdict import Verdict
    from harness.comparison.read import Measurements
    from harness.reporting.tables.page import Page
    from harness.settings.config import Cell


def add(verbs: Any) -> None:
    """Verbs for tables, figures, checks and publications."""
    tables = add_verb(verbs, "tables", _tables, "render Tables 3.1, 3.2, 3.3 and 4.1, and that of your metrics")
    tables.add_argument("tables", nargs="*", metavar="TABLE", help="table_3_1 or the like, metrics (default: all)")
    tables.add_argument("--runs", type=Path, required=True, help="folder with the runs")
    tables.add_argument("--output", type=Path, required=True, help="folder for the tables")

    metrics = add_verb(verbs, "metrics", _metrics, "gather the measurements of all runs in metrics.parquet")
    metrics.add_argument("--runs", type=Path, required=True, help="folder with the runs")
    metrics.add_argument("--output", type=Path, required=True, help="metrics.parquet to write; rows.parquet beside it")

    searches = add_verb(verbs, "searches", _searches, "gather the results of all search trials")
    searches.add_argument("--trials", type=Path, required=True, help="folder with the trials")
    searches.add_argument("--output", type=Path, required=True, help="csv to write")

    budgets = add_verb(verbs, "budgets", _budgets, "which length of its budget is enough for every cell")
    add_computing(budgets)
    budgets.add_argument("--trials", type=Path, required=True, help="folder with the trials")
    budgets.add_argument("--output", type=Path, required=True, help="csv to write; Markdown goes beside it")

    figure = add_verb(verbs, "figure", _figure, "draw one figure from the analyses of all runs")
    figure.add_argument("figure", metavar="FIGURE", help="figure_3_3 or the like")
    figure.add_argument("--runs", type=Path, required=True, help="folder with the runs")
    figure.add_argument("--output", type=Path, required=True, help="folder for the figure")

    report = add_verb(verbs, "report", _report, "gather all tables and figures in one HTML file")
    report.add_argument("--runs", type=Path, required=True, help="folder with the runs")
    report.add_argument("--figures", type=Path, required=True, nargs="*", help="PNG files, with captions beside them")
    report.add_argument("--output", type=Path, required=True, help="report.html to write")

    check = add_verb(verbs, "check", _check, "compare a run with the thesis and with an earlier run, number by number")
    check.add_argument("run", type=Path, metavar="A", help="folder of a run's results, or its metrics.parquet")
    check.add_argument(
        "earlier", type=Path, nargs="?", metavar="B", help="an earlier run (default: the published one of this preset)"
    )
    check.add_argument("--strict", action="store_true", help="also fail if a number is worse than in the thesis")
    check.add_argument("--output", type=Path, help="folder for the tables and the plot (default: A/check)")

    publish = add_verb(verbs, "publish", _publish, "copy the part of a run that git keeps to results/published/PRESET")
    publish.add_argument("--results", type=Path, help="folder of the run's results (default: results/PRESET)")
    publish.add_argument("--output", type=Path, help="folder to fill (default: results/published/PRESET)")
    publish.add_argument("--add", action="store_true", help="keep published cells that this run does not have")

    bench = add_verb(verbs, "bench", _bench, "compare speed and memory with other implementations")
    bench.add_argument("--cases", nargs="+", metavar="CASE", help="names from harness/bench/cases.py, or scaling")
    bench.add_argument("--long", action="store_true", help="include the cases that take minutes")
    bench.add_argument("--quick", action="store_true", help="only a few calls per case, to see whether it works")
    bench.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ...")
    bench.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    bench.add_argument("--output", type=Path, help="folder for the results (default: results/bench)")


def _tables(options: argparse.Namespace) -> int:
    from harness.reporting.tables import pages, write_tables
    from harness.reporting.tables.own_metrics import glance, own_metrics_table, write_own_metrics
    from harness.reporting.tables.planned import OWN, cells_shown, cells_waited_for, models, table_names
    from harness.reporting.tables.render import at_a_glance
    from harness.settings.config import cells
    from harness.storage.collect import measured, read_metrics
    from harness.storage.seals import seal

    settings = load_settings(options)
    names = options.tables or table_names(settings)
    if OWN in names and OWN not in table_names(settings):
        raise ConfigError(f"table {OWN}: expected metrics in the settings, found none")
    shown = cells_shown(cells(settings), settings, names)
    there = {cell.path for cell in [*cells_waited_for(shown, settings), *measured(shown, options.runs)]}
    shown = [cell for cell in shown if cell.path in there]
    planned, metrics = models(shown, settings), read_metrics(shown, options.runs)
    for text in pages(metrics, planned, settings["preset"], [name for name in names if name != OWN]):
        written = write_tables(metrics, planned, settings["preset"], options.output, [text.name])
        seal(text.name, written)
        glanced = at_a_glance(text)
        print(glanced, *([*written, ""] if "\n" in glanced else []), sep="\n")  # files without a number are no news
    if OWN in names:
        table = own_metrics_table(metrics, planned, settings)
        written = write_own_metrics(table, options.output)
        seal(f"table_{OWN}", written)
        print(glance(table), *written, "", sep="\n")
    return 0


def _metrics(options: argparse.Namespace) -> int:
    """Of the cells that have been measured: the workflow sees to it that these are all that its targets ask for."""
    from harness.evaluation import per_row
    from harness.settings.config import cells
    from harness.storage.collect import measured, read_metrics, write_metrics
    from harness.storage.seals import seal

    found = measured(cells(load_settings(options)), options.runs)
    rows = options.output.with_name(per_row.FILE)
    metrics = read_metrics(found, options.runs)
    per_row.gather(found, options.runs, rows)
    write_metrics(metrics, options.output)
    seal("metrics", [options.output, rows])
    print(f"{options.output}: {len(metrics)} measurements of {len(found)} cells")
    return 0


def _searches(options: argparse.Namespace) -> int:
    from harness.storage.seals import seal
    from harness.storage.search import trials, write_findings

    settings = load_settings(options)
    found = write_findings(trials(settings), options.trials, options.output)
    seal("searches", [options.output])
    print(f"{options.output}: {len(found)} trials")
    return 0


def _budgets(options: argparse.Namespace) -> int:
    from harness.data import obtain
    from harness.reporting.budgets import budget_table, markdown, write_budgets
    from harness.reporting.tables.planned import cells_shown
    from harness.settings.config import cells, data_settings
    from harness.storage.budgets import budget_trials
    from harness.storage.seals import seal
    from harness.training.scores import validation_scores

    settings = load_settings(options)
    asked, where = settings["budget_trials"], data_settings(settings)
    with computing(options, settings) as device:

        def scores(trial: Trial, run: RunFolder) -> np.ndarray:
            def load() -> Dataset:
                return obtain(trial.cell.dataset, where, run.status().get("data_digest"), run.status_file)

            return validation_scores(trial.cell, load, run, device, asked["rows"])

        planned = budget_trials(settings, cells_shown(cells(settings), settings))
        table = budget_table(planned, options.trials, scores, asked["chance"])
    seal("budgets", write_budgets(table, options.output))
    print(markdown(table))
    return 0


def _figure(options: argparse.Namespace) -> int:
    from harness.reporting.figures.write import write_figure
    from harness.settings.config import cells
    from harness.storage.seals import seal

    settings = load_settings(options)
    written = write_figure(options.figure, settings, cells(settings), options.runs, options.output)
    seal(options.figure, written)
    print(*written, sep="\n")
    return 0


def _report(options: argparse.Namespace) -> int:
    from harness.reporting.report import write_report
    from harness.reporting.tables.own_metrics import own_metrics_page, own_metrics_table
    from harness.reporting.tables.planned import OWN, models, table_names
    from harness.settings.config import cells
    from harness.storage.collect import read_metrics
    from harness.storage.seals import check_seal, seal

    settings = load_settings(options)
    planned = cells(settings)
    metrics = read_metrics(planned, options.runs)
    for path in options.figures:
        for part in (path, path.with_suffix(".rst"), path.with_suffix(".csv")):
            check_seal(part)
    known = _with_rows(planned, metrics, settings, options.runs)
    shown = models(planned, settings)
    own = own_metrics_table(metrics, shown, settings) if OWN in table_names(settings) else None
    write_report(
        metrics,
        shown,
        settings["preset"],
        options.figures,
        options.output,
        overview=_overview(known, settings),
        own_metrics=own_metrics_page(own) if own else None,
        verdicts=_verdicts(known, settings),
        runs=options.runs,
    )
    seal("report", [options.output])
    print(options.output)
    return 0


def _with_rows(planned: Sequence[Cell], metrics: pd.DataFrame, settings: dict[str, Any], runs: Path) -> Measurements:
    from harness.comparison.read import measured_models
    from harness.settings.config import cells_named

    ablations = {(dataset, method, variant) for method, dataset, variant in cells_named(settings, "ablations")}
    return measured_models(planned, runs, metrics, set(metrics["metric"]), ablations)


def _overview(measured: Measurements, settings: dict[str, Any]) -> Page | None:
    """All methods on all data sets, as far as they were measured; None where nothing was that the overview has."""
    from harness.reporting.tables.overview import METRICS, overview, overview_page

    if not set(METRICS) & set(measured.known):
        return None
    return overview_page(overview(measured, settings["check"]["level"], settings["check"]["power"]))


def _verdicts(measured: Measurements, settings: dict[str, Any]) -> list[Verdict]:
    """What the check says about every number that the thesis prints; nothing where nothing was measured."""
    from harness.check.rules import Rules
    from harness.check.summary import summarize
    from harness.check.write import against_thesis

    if measured.metrics.empty:
        return []
    ours = summarize(measured.metrics, measured.path, measured.rows)
    return against_thesis(ours, Rules.from_settings(settings))


def _check(options: argparse.Namespace) -> int:
    from harness.check import write_check
    from harness.check.rules import Rules

    rules = Rules.from_settings(load_settings(options))
    home = options.run if options.run.is_dir() else options.run.parent
    outcome = write_check(options.run, options.earlier, options.output or home / "check", rules)
    print("\n".join(outcome.lines()))
    return int(outcome.regressions > 0 or (options.strict and outcome.worse_than_thesis > 0))


def _publish(options: argparse.Namespace) -> int:
    from harness.compute.places import ROOT
    from harness.reporting.publish import publish
    from harness.reporting.tables.planned import models
    from harness.settings.config import cells

    settings = load_settings(options)
    results = options.results or results_of(settings)
    folder = options.output or ROOT / "results" / "published" / settings["preset"]
    planned = cells(settings)
    for path in publish(planned, models(planned, settings), settings, results, folder, options.add):
        print(path)
    return 0


def _bench(options: argparse.Namespace) -> int:
    from harness.bench import run
    from harness.compute.places import ROOT
    from harness.settings.config import data_settings

    plan = run.plan(options.cases, options.long, options.quick, options.device, options.threads)
    agree = run.bench(plan, data_settings(load_settings(options)), options.output or ROOT / "results" / "bench")
    return 0 if agree else 1
