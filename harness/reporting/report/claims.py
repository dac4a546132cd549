"""The thesis' qualitative claims, judged from the csv data of the figures and of Table 4.1.

Each says that some differences are positive, and is judged as ``harness.reporting.report.judging`` has it, like those
of users. Where a claim speaks of the best of several models, that is the best on the validation set, never on the rows
that are reported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from harness.reporting.report.judging import (
    NO_NUMBERS,
    NOT_MEASURED,
    Claim,
    Number,
    compared,
    judged,
    number_in,
    number_of,
)
from harness.reporting.report.layers import layers_in_use
from harness.reporting.report.own_claims import judge_own
from harness.storage.measurements import read_csv
from harness.storage.runs import RunFolder

MNIST = "binarized_mnist"
DEEP = "12 layers"  # variant of BiHM
MNIST_PASS = 500  # updates, of 100 rows each


def claims_of(folder: Path, own: Sequence[str] = (), strict: bool = False) -> list[Claim]:
    """All claims, judged by the csv files of the figures in ``folder``, and of the tables in ``tables`` beside it.

    own: names of those of users, which come last; one that fails says so, unless ``strict``.
    """
    return [*(judge(folder) for judge in CLAIMS), *(judge_own(name, folder, strict) for name in own)]


def _rows(folder: Path, figure: str, **values: object) -> pd.DataFrame:
    """Rows of a figure's csv with these values; none where the figure or a column does not exist."""
    path = folder / f"{figure}.csv"
    if not path.exists():
        return pd.DataFrame()
    frame = read_csv(path)
    if not set(values) <= set(frame.columns):
        return pd.DataFrame()
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def less_sensitive_to_k(folder: Path) -> Claim:
    """Section 3.7.2: by how much estimates grow from K = 10 to K = 1000."""
    growth = {}
    for method, metric in (("bihm", "log p*"), ("rws", "log p")):
        rows = _rows(folder, "figure_3_3", dataset=MNIST, method=method, metric=metric)
        few, many = (number_in(rows[rows["k"] == k] if len(rows) else rows, "sem_to_last") for k in (10, 1000))
        # the larger part of the error is that at K = 10
        growth[method] = Number(many.value - few.value, few.error, few.df)
    bihm, rws = growth["bihm"], growth["rws"]
    return compared(
        "Estimates of BiHM's log p* depend less on K than those of RWS' log p: growth from K = 10 to 1,000.",
        rws,
        bihm,
        f"BiHM {bihm.value:.2f} ± {bihm.error:.2f} nats, RWS {rws.value:.2f} ± {rws.error:.2f} nats",
    )


def ten_samples_suffice(folder: Path) -> Claim:
    """Section 3.7.2: log p* of BiHM with K = 10 against log p of RWS with K = 10,000."""
    bihm = number_in(_rows(folder, "figure_3_3", dataset=MNIST, method="bihm", metric="log p*", k=10))
    rws = number_in(_rows(folder, "figure_3_3", dataset=MNIST, method="rws", metric="log p", k=10_000))
    return compared(
        "BiHM's log p* estimated with K = 10 is higher than RWS' log p estimated with K = 10,000.",
        bihm,
        rws,
        f"BiHM {bihm.value:.2f} ± {bihm.error:.2f} nats, RWS {rws.value:.2f} ± {rws.error:.2f} nats "
        "(errors share their rows)",
    )


def larger_effective_samples(folder: Path) -> Claim:
    """Section 3.7.2: effective sample sizes at the largest K that both models have."""
    text = "BiHM's effective sample size for p* is at least five times that of RWS for p."
    bihm = _rows(folder, "figure_ess_by_k", dataset=MNIST, method="bihm", metric="ess p*")
    rws = _rows(folder, "figure_ess_by_k", dataset=MNIST, method="rws", metric="ess p")
    ks = set(bihm.get("k", ())) & set(rws.get("k", ()))
    if not ks:
        return Claim(text, NOT_MEASURED, NO_NUMBERS)
    ours, theirs = (number_in(rows[rows["k"] == max(ks)]) for rows in (bihm, rws))
    said = f"BiHM {ours.value:.2f} ± {ours.error:.2f} %, RWS {theirs.value:.3f} ± {theirs.error:.3f} %"
    return compared(text, ours, theirs.times(5.0), f"{said}, K = {max(ks):,}")


def one_inner_sample_is_best(folder: Path) -> Claim:
    """Section 3.7.1: spread of 2 log Z over repeats at the same total number of samples."""
    text = "One inner sample makes the most of a given total number of samples of 2 log Z: spread over repeats."
    rows = _rows(folder, "figure_3_6", dataset=MNIST, method="bihm")
    if rows.empty:
        return Claim(text, NOT_MEASURED, NO_NUMBERS)
    inner = sorted(rows["k_inner"].unique())
    shared = set.intersection(*(set(rows[rows["k_inner"] == k]["k_total"]) for k in inner))
    if inner[0] != 1 or len(inner) < 2 or not shared:
        return Claim(text, NOT_MEASURED, "no total number of samples that all K_inner have in common")
    at = rows[rows["k_total"] == max(shared)].set_index("k_inner")
    # the standard error of a standard deviation over n repeats is this part of it
    df = at["n_repeats"].min() - 1
    part = 1.0 / math.sqrt(2.0 * df)
    spread = {k: Number(at["sd"][k], part * at["sd"][k], df) for k in inner}
    listed = ", ".join(f"K_inner = {k}: {sd.value:.3f} ± {sd.error:.3f}" for k, sd in spread.items())
    return judged(text, [spread[k] - spread[1] for k in inner[1:]], f"{listed} nats, {max(shared):,} samples")


def partition_function_grows(folder: Path) -> Claim:
    """Section 3.7.1: 2 log Z after the first pass over the training rows and at the last recorded update.

    Not from the first update on: p and q are nearly equal as long as neither has learned anything.
    """
    text = "2 log Z moves toward 0 in the course of training, once a first pass over the rows is done."
    rows = _rows(folder, "figure_3_7", dataset=MNIST, method="bihm", metric="2 log Z")
    rows = rows[rows["update"] >= MNIST_PASS] if len(rows) else rows
    if len(rows) < 2:
        return Claim(text, NOT_MEASURED, NO_NUMBERS)
    rows = rows.sort_values("update")
    first, last, lowest = rows.iloc[0], rows.iloc[-1], rows.loc[rows["value"].idxmin()]
    said = [f"{row['value']:.2f} ± {row['sem']:.2f} at update {row['update']:,.0f}" for row in (first, lowest, last)]
    measured = f"{said[0]}, lowest {said[1]}, {said[2]}"
    return compared(text, number_of(last), number_of(first), measured)


def sweeps_improve_samples(folder: Path, metric: str, name: str, unit: str) -> Claim:
    """Section 3.6.2: samples after the most sweeps of Algorithm 2 against those of p that the chains started from."""
    text = f"Samples of p* are closer to the data than samples of p: change of the {name}."
    rows = _rows(folder, "figure_sweeps", dataset=MNIST, method="bihm", metric=metric)
    if rows.empty:
        return Claim(text, NOT_MEASURED, NO_NUMBERS)
    last = rows.loc[rows["sweeps"].idxmax()]
    measured = f"{last['value']:+.2g} ± {last['sem']:.2g}{unit} after {last['sweeps']} sweeps"
    return judged(text, [number_of(last).times(-1.0)], measured)


def every_layer_helps(folder: Path) -> Claim:
    """Section 3.6.2: every model that lacks a layer against the whole one."""
    text = "Removing any layer makes the likelihood of BiHM worse: loss without each layer."
    rows = _rows(folder, "figure_depth", method="bihm", metric="log p")
    if rows.empty:
        return Claim(text, NOT_MEASURED, NO_NUMBERS)
    rows = rows[rows["dataset"] == (MNIST if MNIST in set(rows["dataset"]) else rows["dataset"].iloc[0])]
    least = rows.loc[rows["value"].idxmin()]
    said = f"{least['value']:+.2f} ± {least['sem']:.2f} nats {least['variant']}"
    measured = f"least {said}, the lowest of {len(rows)}, on {least['dataset']}"
    return judged(text, [number_of(row) for _, row in rows.iterrows()], measured)


def every_layer_is_used(folder: Path) -> Claim:
    """Section 3.6.2: live units of every layer of the deepest model against a tenth of its units.

    One model has as many live units as it has, which leaves no error; of several seeds, there is that between them.
    """
    text = "BiHM with twelve layers uses all of them: more than a tenth of the units of each live."
    chosen = (MNIST, "bihm", DEEP)
    found = [each for each in layers_in_use(folder) if (each.dataset, each.method, each.variant) == chosen]
    if not found:
        return Claim(text, NOT_MEASURED, NO_NUMBERS)
    (model,) = found
    margins = [number_of(row) for _, row in model.layers.assign(value=model.margins).iterrows()]
    return judged(text, margins, f"{model.used} layers, live units from the data upward: {model.live}")


def lower_layers_tell_more(folder: Path) -> Claim:
    """Section 4.4: a linear classifier of the lowest layer against one of the highest, with the fewest labels."""
    text = "The lowest layer of BiHM tells more about the class than the highest: error of a linear classifier."
    rows = _rows(folder, "figure_layer_features", dataset=MNIST, method="bihm")
    rows = rows[(rows["labels"] == rows["labels"].min()) & (rows["layer"] > 0)] if len(rows) else rows
    if rows.empty:
        return Claim(text, NOT_MEASURED, NO_NUMBERS)
    low, high = (rows[rows["layer"] == layer] for layer in (rows["layer"].min(), rows["layer"].max()))
    said = " and ".join(f"{number_in(each).value:.3f} ± {number_in(each).error:.3f}" for each in (low, high))
    return compared(text, number_in(high), number_in(low), f"{said} with {rows['labels'].iloc[0]:,} labels")


def labels_alone_do_worse(folder: Path, control: str, name: str) -> Claim:
    """Section 4.3: what the unlabelled images are worth, against a ``control`` that sees the labels alone.

    On both sides the variant with the lowest validation loss. The semi-supervised side is the one that the preset
    trains for it, with labels on the lowest layer.
    """
    text = f"Unlabelled images help: semi-supervised BiHM errs less than {name} on the 1,000 labels alone."
    errors = _rows(folder.parent / "tables", "table_4_1", dataset=MNIST, metric="error", status="ok")
    sides, variants = [], []
    for method in (control, "ssl_bihm_low"):
        rows = errors[errors["method"] == method] if len(errors) else errors
        if rows.empty:
            return Claim(text, NOT_MEASURED, NO_NUMBERS)
        rows = rows.assign(variant=rows["variant"].fillna(""))
        chosen = rows["variant"].iloc[0] if len(rows) == 1 else _best_on_validation(folder.parent, method, rows)
        if chosen is None:
            return Claim(text, NOT_MEASURED, f"no validation losses to choose a variant of {method} by")
        sides.append(number_in(rows[rows["variant"] == chosen]))
        variants.append(f" ({chosen})" if chosen else "")
    (theirs, ours) = sides
    said = [f"{each.value:.3f} ± {each.error:.3f}{variant}" for each, variant in zip(sides, variants, strict=True)]
    return compared(text, theirs, ours, f"semi-supervised {said[1]}, labels alone {said[0]}; each chosen on validation")


def _best_on_validation(results: Path, method: str, rows: pd.DataFrame) -> str | None:
    """The variant of ``rows`` whose validation loss is lowest on average over seeds; None where one has none."""
    losses = _validation_losses(results, method)
    if losses.empty:
        return None
    means = losses.groupby("variant")["best_validation"].mean().reindex(rows["variant"].unique())
    return None if means.isna().any() else means.idxmin()


def _validation_losses(results: Path, method: str) -> pd.DataFrame:
    """Columns variant, best_validation of the models of a method on MNIST: published ones, else those in ``runs``."""
    listed = results / "runs.csv"
    if listed.exists():
        found = pd.read_csv(listed, keep_default_na=False, na_values={"best_validation": [""]})
        found = found[(found["dataset"] == MNIST) & (found["method"] == method)]
        return found[["variant", "best_validation"]]
    records = []
    folders = map(RunFolder, sorted(results.glob(f"runs/{MNIST}/{method}/*/*")))
    for run in (each for each in folders if each.status_file.exists()):
        status, cell = run.status(), run.config()
        if status.get("training_digest") == cell.training_digest:
            records.append({"variant": cell.variant, "best_validation": status.get("best_validation")})
    return pd.DataFrame(records, columns=["variant", "best_validation"]).astype({"best_validation": float})


CLAIMS: tuple[Callable[[Path], Claim], ...] = (
    less_sensitive_to_k,
    ten_samples_suffice,
    larger_effective_samples,
    one_inner_sample_is_best,
    partition_function_grows,
    partial(sweeps_improve_samples, metric="mmd2", name="squared maximum mean discrepancy from test rows", unit=""),
    partial(sweeps_improve_samples, metric="label entropy", name="entropy of a classifier's labels", unit=" nats"),
    every_layer_helps,
    every_layer_is_used,
    lower_layers_tell_more,
    partial(labels_alone_do_worse, control="label_logistic", name="logistic regression"),
    partial(labels_alone_do_worse, control="label_mlp", name="a small network"),
)
