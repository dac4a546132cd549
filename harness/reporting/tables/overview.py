"""The overview: every measured method on every data set, the best and all that a test cannot tell from it in bold.

A mean over other test rows is another number: over a thousand rows of ``adult`` it is off by 0.1 nats, more than many
methods differ by. So a column has the means over all rows that any of its models has, and those of models that were
measured on a part of them are adjusted (``harness.comparison.models.adjusted_means``). The csv has the numbers as
measured as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from harness import atomic
from harness.comparison.compare import Column, Comparison, Contender
from harness.comparison.models import Model
from harness.comparison.pairs import CANNOT_TELL, MODELS
from harness.comparison.read import LIKELIHOOD, Measurements
from harness.reporting.tables import chance
from harness.reporting.tables.best_published import best_published, sources
from harness.reporting.tables.cell_text import (
    AT_CHANCE,
    DECIMALS,
    MOST_DECIMALS,
    NOTED,
    NOTHING,
    STAND_IN,
    number,
    with_error,
)
from harness.reporting.tables.page import Line, Page
from harness.reporting.tables.render import markdown, tex

NAME, TITLE = "overview", "Overview"
METRICS = (LIKELIHOOD, "error")  # that the overview has, of those that were measured
UNITS = {LIKELIHOOD: "nats per example", "error": "a fraction"}
BEST, UNPAIRED = "best", "¤"
VALUE, BEHIND = "value", "behind"
MARKED = "*"
WIDTH = 110  # of what a terminal is asked to show
IDENTITY = ("dataset", "method", "variant", "metric")  # of a line of the csv


@dataclass(frozen=True)
class Overview:
    """The comparisons that the overview shows, one per metric, and the run that they are of."""

    comparisons: Sequence[Comparison]
    measured: Measurements

    @property
    def ranked(self) -> bool:
        """Whether there are mean ranks, which take two methods on two data sets."""
        return any(each.ranks is not None for each in self.comparisons)

    @property
    def datasets(self) -> list[str]:
        """All data sets, in the order of the measurements."""
        return list(dict.fromkeys(column.dataset for each in self.comparisons for column in each.columns))


def overview(measured: Measurements, level: float, power: float) -> Overview:
    """All methods of a run compared on the metrics of the overview; nothing where no cell has any of them."""
    metrics = [metric for metric in METRICS if metric in measured.known]
    return Overview([measured.compare(level, power, metric) for metric in metrics], measured)


def write_overview(found: Overview, folder: Path) -> list[Path]:
    """Write ``overview.{csv,md,tex}`` to ``folder``; the paths written."""
    text = overview_page(found)
    texts = {"csv": tidy(found).to_csv(index=False), "md": markdown(text), "tex": tex(text)}
    paths = [folder / f"{NAME}.{form}" for form in texts]
    for path, content in zip(paths, texts.values(), strict=True):
        atomic.write_text(path, content)
    return paths


def overview_page(found: Overview) -> Page:
    """The overview as text."""
    data = {dataset: _status(found.measured.metrics, dataset) for dataset in found.datasets}
    header = (
        "Model",
        "",
        *(dataset + data[dataset][0] for dataset in found.datasets),
        *(["mean rank"] if found.ranked else []),
    )
    blocks = tuple(
        (f"`{each.metric}`, {UNITS.get(each.metric, '')}".rstrip(", "), tuple(_lines(found, each)))
        for each in found.comparisons
    )
    notes = (*(note for _, note in data.values() if note), *_notes(found))
    return Page("", NAME, TITLE, _caption(found), header, blocks, tuple(dict.fromkeys(notes)))


def glance(found: Overview) -> str:
    """The numbers alone, for a terminal; one line where there are none, or more than ``WIDTH`` columns take."""
    if not found.comparisons:
        return f"{TITLE}: no numbers"
    page = overview_page(found)
    body = []
    for label, lines in page.blocks:
        body.append([f"[{label.replace('`', '')}]"])
        for line in lines:
            if line.first:
                marked = [MARKED * (place in line.bold) + cell for place, cell in enumerate(line.cells)]
                body.append([marked[0], *marked[2:]])
    align = ("left", *["right"] * (len(page.header) - 2))
    text = tabulate(body, [page.header[0], *page.header[2:]], disable_numparse=True, colalign=align)
    if max(map(len, text.splitlines())) > WIDTH:
        return f"{TITLE}: data sets {len(found.datasets)}, too many for a terminal"
    marks = f" ({MARKED} the best and all that a paired test cannot tell from it)" if MARKED in text else ""
    return f"{TITLE}{marks}\n\n{text}\n"


def tidy(found: Overview) -> pd.DataFrame:
    """One row per model and metric; docs/results.md says what the columns are."""
    records = []
    for each in found.comparisons:
        for column in each.columns:
            known = best_published().get((column.dataset, each.metric))
            for contender, model in column.models.items():
                pair = each.against(column, contender, each.best(column))
                ranked = each.ranks is not None and contender.name in each.ranks.methods
                is_ranked = ranked and column.dataset in each.ranks.datasets
                place = each.ranks.methods.index(contender.name) if ranked else None
                records.append(
                    {
                        **model.cell._asdict(),
                        "metric": each.metric,
                        "value": model.mean,
                        "sem": model.sem,
                        "n_seeds": len(model),
                        "n_rows": model.n_rows,
                        "adjusted_value": column.means[contender] if column.adjusted else math.nan,
                        "behind": each.behind(column, contender),
                        "behind_error": pair.found.error if pair else 0.0,
                        "adjusted_p": pair.adjusted if pair else math.nan,
                        "as_good_as_best": each.as_good_as_best(column, contender),
                        "rank": each.ranks.ranks[each.ranks.datasets.index(column.dataset), place]
                        if is_ranked
                        else math.nan,
                        "mean_rank": each.ranks.means[place] if ranked else math.nan,
                        "best_published": known.value if known else None,
                        "published_by": f"{known.method}: {known.source}" if known else None,
                    }
                )
    return pd.DataFrame(records, columns=None if records else [*IDENTITY, "value", "sem"])


def _status(metrics: pd.DataFrame, dataset: str) -> tuple[str, str]:
    """Sign and note of a data set that is a stand-in or has a remark."""
    rows = metrics[metrics["dataset"].eq(dataset) & metrics["metric"].ne("")]
    if "data_official" not in rows or rows["data_official"].isna().all():
        return "", ""
    said = "; ".join(dict.fromkeys(note for note in rows.get("data_note", []) if isinstance(note, str) and note))
    if not rows["data_official"].fillna(True).all():
        return STAND_IN, f"{STAND_IN} {dataset} is a stand-in" + (f": {said}" if said else ".")
    return (NOTED, f"{NOTED} {dataset} is official: {said}") if said else ("", "")


def _lines(found: Overview, each: Comparison) -> Iterator[Line]:
    """Two lines per method, those with the best mean rank first, then what is published."""
    columns = {column.dataset: column for column in each.columns}
    most = DECIMALS.get(each.metric, MOST_DECIMALS)
    for contender in _ordered(each):
        values, gaps, bold, models = [], [], set(), {}
        for place, dataset in enumerate(found.datasets, start=2):
            column = columns.get(dataset)
            if column is None or contender not in column.models:
                values.append(_failure(found, contender, dataset) or NOTHING)
                gaps.append(NOTHING)
                continue
            is_guess = _chance(found, each, column.models[contender])[1]
            values.append(number(column.means[contender], most) + AT_CHANCE * is_guess)
            gaps.append(_gap(each, column, contender, most))
            models[place] = column.models[contender].cell
            if len(column.models) > 1 and each.as_good_as_best(column, contender):
                bold.add(place)
        rank, is_first = _rank(each, contender)
        if is_first:
            bold.add(len(values) + 2)
        ranks = ([rank], [""]) if found.ranked else ([], [])
        yield Line((contender.name, VALUE, *values, *ranks[0]), True, frozenset(bold), models)
        if any(gap != NOTHING for gap in gaps):
            yield Line(("", BEHIND, *gaps, *ranks[1]), False)
    known = [best_published().get((dataset, each.metric)) for dataset in found.datasets]
    if any(known):
        texts = (published.value if published else NOTHING for published in known)
        yield Line(("best published", "", *texts, *([""] if found.ranked else [])), True)


def _ordered(each: Comparison) -> list[Contender]:
    if each.ranks is None:
        return each.contenders
    place = {name: i for i, name in enumerate(each.ranks.methods)}
    return sorted(each.contenders, key=lambda contender: place.get(contender.name, len(place)))


def _gap(each: Comparison, column: Column, contender: Contender, most: int) -> str:
    pair = each.against(column, contender, each.best(column))
    if len(column.models) < 2:
        return NOTHING
    if pair is None:
        return BEST
    mark = "" if pair.found.n_rows else UNPAIRED
    return with_error(each.behind(column, contender), pair.found.error, most) + mark


def _rank(each: Comparison, contender: Contender) -> tuple[str, bool]:
    """The mean rank, and whether no other is better by the critical difference."""
    if each.ranks is None or contender.name not in each.ranks.methods:
        return NOTHING, False
    mean = each.ranks.means[each.ranks.methods.index(contender.name)]
    return number(mean, 2), not each.ranks.differ(contender.name, each.ranks.methods[0])


def _chance(found: Overview, each: Comparison, model: Model) -> tuple[float, bool]:
    """What guessing has of the metric, NaN where that is not defined, and whether a model has no better."""
    rows = found.measured.metrics
    measured = math.nan
    if "chance" in rows:  # not in those of earlier versions
        named = {**model.cell._asdict(), "metric": each.metric}
        measured = float(rows.loc[rows[[*named]].eq(pd.Series(named)).all(axis=1), "chance"].mean())
    level = chance.chance_level(each.metric, model.cell.dataset, measured)
    return level, chance.is_at_chance(model.mean, model.sem, level)


def _chance_note(found: Overview, each: Comparison) -> Iterator[str]:
    models = [model for column in each.columns for model in column.models.values()]
    judged = [(model.cell.dataset, *_chance(found, each, model)) for model in models]
    levels = [(dataset, level) for dataset, level, no_better in judged if no_better]
    if levels:
        most = DECIMALS.get(each.metric, MOST_DECIMALS)
        said = dict.fromkeys(chance.words(each.metric, dataset, number(level, most)) for dataset, level in levels)
        yield f"{AT_CHANCE} {chance.MEANING}: {'; '.join(said)}."


def _failure(found: Overview, contender: Contender, dataset: str) -> str:
    """The status of a cell that has nothing because it failed."""
    rows = found.measured.metrics
    rows = rows[rows["dataset"].eq(dataset) & rows["method"].eq(contender.method) & rows["metric"].eq("")]
    rows = rows[rows["variant"].eq(contender.variant)] if contender.variant else rows
    return "" if rows.empty else str(rows["status"].iloc[0])


def _caption(found: Overview) -> str:
    if not found.comparisons:
        return f"{TITLE}: no cell of this run has {' or '.join(f'`{metric}`' for metric in METRICS)}."
    parts = []
    for each in found.comparisons:
        if each.pairs:
            told = sum(pair.verdict != CANNOT_TELL for pair in each.pairs)
            parts.append(f"`{each.metric}`: {told:,} of {len(each.pairs):,} pairs of models differ")
    of_pairs = f" ({'; '.join(parts)})" if parts else ""
    first = found.comparisons[0]
    return (
        f"{TITLE}: every measured method on the test set of every data set. Bold is the best of a column and all that "
        f"a paired test on the same test rows cannot tell from it, at a level of {first.level:.0%} for all pairs "
        f"together{of_pairs}. Behind is the difference to the best, over the rows that both have, ± its standard error."
    )


def _notes(found: Overview) -> Iterator[str]:
    for each in found.comparisons:
        yield from _chance_note(found, each)
        yield from _rank_notes(each)
        part = [column.dataset for column in each.columns if column.adjusted and _differ_in_rows(column)]
        if part:
            yield (
                f"On {', '.join(part)} not all models were measured on the same rows: `{each.metric}` is given as over "
                "all of them, adjusted by what the other models have on the rows that a model lacks. Other tables have "
                "each model over its own rows."
            )
        parts = {c.dataset: most for c in each.columns if (most := _most_of_a_part(c))}
        if parts:
            named = ", ".join(f"{dataset} ({most:,})" for dataset, most in parts.items())
            yield (
                f"Values per row of `{each.metric}` are there for a random part of the test rows of {named}, as in a "
                "publication: columns are over these rows and pairs are compared on them. Other tables have all rows."
            )
        lacking = [c.dataset for c in each.columns if not c.adjusted and len(c.models) > 1]
        if lacking:
            yield (
                f"{UNPAIRED} unpaired: values per row are lacking for models of {', '.join(lacking)}; the errors of "
                "both numbers stand in for that of their difference, which hides small ones."
            )
        if any(pair.found.of == MODELS for pair in each.pairs):
            yield (
                f"Where a method has one seed, a difference in `{each.metric}` is one of these trained models: how much"
                " it varies from training to training is not in its error."
            )
        if any(model.sampled for column in each.columns for model in column.models.values()):
            yield (
                f"Estimates of `{each.metric}` are biased upward; models are told apart only where the test finds the "
                "difference with the estimated biases and without, and, where a bias is not known, whatever it may be."
            )
        if cited := sources(found.datasets, each.metric):
            yield (
                "Best published: the best values of other work that could be checked, on splits of so many rows for "
                f"training, validation and test; on a stand-in they are of other data. {cited}."
            )
    yield from _variants(found)
    yield from _unmeasured(found)


def _most_of_a_part(column: Column) -> int:
    """How many rows the model with most has, where it was measured on more; 0 elsewhere."""
    most = max((len(model.rows) for model in column.models.values() if model.rows is not None), default=0)
    return most if any(model.n_rows > most for model in column.models.values()) and column.adjusted else 0


def _differ_in_rows(column: Column) -> bool:
    """Whether its models were not all measured on the same rows."""
    first, *others = column.models.values()
    return any(not np.array_equal(first.rows, other.rows) for other in others)


def _rank_notes(each: Comparison) -> Iterator[str]:
    if each.ranks is None:
        return
    found = each.ranks
    friedman = (
        f"Friedman's test of no difference at all: p = {found.p_value:.2g}. " if not math.isnan(found.p_value) else ""
    )
    yield (
        f"Mean ranks in `{each.metric}` are over {len(found.datasets)} data sets ({', '.join(found.datasets)}) and the "
        f"{len(found.methods)} methods that have all of them. {friedman}Two methods differ where their mean ranks are "
        f"{found.critical:.2f} or more apart (Nemenyi, {found.level:.0%}); bold are those that do not differ from the "
        "first."
    )


def _variants(found: Overview) -> Iterator[str]:
    """Which variant a row has on a data set, where its label does not say it."""
    said: dict[str, dict[str, None]] = {}
    for column in (column for each in found.comparisons for column in each.columns):
        for contender, model in column.models.items():
            if model.cell.variant != contender.variant:
                said.setdefault(column.dataset, {})[f"{contender.name} ({model.cell.variant})"] = None
    for dataset, names in said.items():
        yield f"Variants on {dataset}: {', '.join(names)}."


def _unmeasured(found: Overview) -> Iterator[str]:
    shown = {model.cell for each in found.comparisons for column in each.columns for model in column.models.values()}
    rows = found.measured.metrics
    others: dict[str, list[str]] = {}
    for cell, lines in rows.groupby(["dataset", "method", "variant"], sort=False):
        if cell in shown or cell in found.measured.left_out:
            continue
        failed = lines[lines["metric"].eq("")]
        why = str(failed["status"].iloc[0]) if len(failed) else "other metrics only"
        others.setdefault(why, []).append("/".join(part for part in cell if part))
    for why, cells in others.items():
        yield f"Not in the table, {why}: {', '.join(cells)}."
