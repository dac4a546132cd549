"""The thesis' qualitative claims, judged from the csv data of the figures and of Table 4.1.

Each claim compares two measured numbers and their errors: it ``holds`` where the difference has the claimed sign by
more than two standard errors, ``does not hold`` where it has the other sign by as much, and is ``undecided`` between.
A claim whose numbers this run did not make is ``not measured``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from harness.measurements import read_csv

HOLDS, FAILS, UNDECIDED, NOT_MEASURED = "holds", "does not hold", "undecided", "not measured"
MNIST = "binarized_mnist"
MNIST_PASS = 500  # updates, of 100 rows each


@dataclass(frozen=True)
class Claim:
    text: str
    verdict: str
    measured: str


def claims_of(folder: Path) -> list[Claim]:
    """All claims, judged by the csv files of the figures in ``folder``, and of the tables in ``tables`` beside it."""
    return [judge(folder) for judge in CLAIMS]


def _verdict(difference: float, error: float) -> str:
    """Of a difference that is claimed to be positive."""
    if not math.isfinite(difference):
        return NOT_MEASURED
    if abs(difference) <= 2.0 * error or not math.isfinite(error):
        return UNDECIDED
    return HOLDS if difference > 0 else FAILS


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


def _value(rows: pd.DataFrame, error: str = "sem") -> tuple[float, float]:
    """Value and error of the first row; NaN of none."""
    return (math.nan, math.nan) if rows.empty else (rows["value"].iloc[0], rows[error].iloc[0])


def _compared(text: str, larger: tuple[float, float], smaller: tuple[float, float], measured: str) -> Claim:
    """Judge ``larger`` > ``smaller``, each a value and its error."""
    difference, error = larger[0] - smaller[0], math.hypot(larger[1], smaller[1])
    verdict = _verdict(difference, error)
    return Claim(text, verdict, measured if verdict != NOT_MEASURED else "this run has no such numbers")


def less_sensitive_to_k(folder: Path) -> Claim:
    """Section 3.7.2: by how much estimates grow from K = 10 to K = 1000."""
    growth = {}
    for method, metric in (("bihm", "log p*"), ("rws", "log p")):
        rows = _rows(folder, "figure_3_3", dataset=MNIST, method=method, metric=metric)
        few, many = (_value(rows[rows["k"] == k] if len(rows) else rows, "sem_to_last") for k in (10, 1000))
        growth[method] = many[0] - few[0], few[1]  # the larger part of the error is that at K = 10
    (bihm, bihm_error), (rws, rws_error) = growth["bihm"], growth["rws"]
    return _compared(
        "Estimates of BiHM's log p* depend less on K than those of RWS' log p: growth from K = 10 to 1,000.",
        growth["rws"],
        growth["bihm"],
        f"BiHM {bihm:.2f} ± {bihm_error:.2f} nats, RWS {rws:.2f} ± {rws_error:.2f} nats",
    )


def ten_samples_suffice(folder: Path) -> Claim:
    """Section 3.7.2: log p* of BiHM with K = 10 against log p of RWS with K = 10,000."""
    bihm = _value(_rows(folder, "figure_3_3", dataset=MNIST, method="bihm", metric="log p*", k=10))
    rws = _value(_rows(folder, "figure_3_3", dataset=MNIST, method="rws", metric="log p", k=10_000))
    return _compared(
        "BiHM's log p* estimated with K = 10 is higher than RWS' log p estimated with K = 10,000.",
        bihm,
        rws,
        f"BiHM {bihm[0]:.2f} ± {bihm[1]:.2f} nats, RWS {rws[0]:.2f} ± {rws[1]:.2f} nats (errors share their rows)",
    )


def larger_effective_samples(folder: Path) -> Claim:
    """Section 3.7.2: effective sample sizes at the largest K that both models have."""
    text = "BiHM's effective sample size for p* is at least five times that of RWS for p."
    bihm = _rows(folder, "figure_ess_by_k", dataset=MNIST, method="bihm", metric="ess p*")
    rws = _rows(folder, "figure_ess_by_k", dataset=MNIST, method="rws", metric="ess p")
    ks = set(bihm.get("k", ())) & set(rws.get("k", ()))
    if not ks:
        return Claim(text, NOT_MEASURED, "this run has no such numbers")
    ours, theirs = (_value(rows[rows["k"] == max(ks)]) for rows in (bihm, rws))
    measured = f"BiHM {ours[0]:.2f} ± {ours[1]:.2f} %, RWS {theirs[0]:.3f} ± {theirs[1]:.3f} %, K = {max(ks):,}"
    return _compared(text, ours, (5.0 * theirs[0], 5.0 * theirs[1]), measured)


def one_inner_sample_is_best(folder: Path) -> Claim:
    """Section 3.7.1: spread of 2 log Z over repeats at the same total number of samples."""
    text = "One inner sample makes the most of a given total number of samples of 2 log Z: spread over repeats."
    rows = _rows(folder, "figure_3_6", dataset=MNIST, method="bihm")
    if rows.empty:
        return Claim(text, NOT_MEASURED, "this run has no such numbers")
    inner = sorted(rows["k_inner"].unique())
    shared = set.intersection(*(set(rows[rows["k_inner"] == k]["k_total"]) for k in inner))
    if inner[0] != 1 or len(inner) < 2 or not shared:
        return Claim(text, NOT_MEASURED, "no total number of samples that all K_inner have")
    at = rows[rows["k_total"] == max(shared)].set_index("k_inner")
    # the standard error of a standard deviation over n repeats is this part of it
    part = 1.0 / math.sqrt(2.0 * (at["n_repeats"].min() - 1))
    spread = {k: (at["sd"][k], part * at["sd"][k]) for k in inner}
    rival = min(inner[1:], key=lambda k: spread[k][0])
    listed = ", ".join(f"K_inner = {k}: {sd:.3f} ± {error:.3f}" for k, (sd, error) in spread.items())
    return _compared(text, spread[rival], spread[1], f"{listed} nats, {max(shared):,} samples")


def partition_function_grows(folder: Path) -> Claim:
    """Section 3.7.1: 2 log Z after the first pass over the training rows and at the last recorded update.

    Not from the first update on: p and q are nearly equal as long as neither has learned anything.
    """
    text = "2 log Z moves toward 0 in the course of training, once a first pass over the rows is done."
    rows = _rows(folder, "figure_3_7", dataset=MNIST, method="bihm", metric="2 log Z")
    rows = rows[rows["update"] >= MNIST_PASS] if len(rows) else rows
    if len(rows) < 2:
        return Claim(text, NOT_MEASURED, "this run has no such numbers")
    rows = rows.sort_values("update")
    first, last, lowest = rows.iloc[0], rows.iloc[-1], rows.loc[rows["value"].idxmin()]
    said = [f"{row['value']:.2f} ± {row['sem']:.2f} at update {row['update']:,.0f}" for row in (first, lowest, last)]
    measured = f"{said[0]}, lowest {said[1]}, {said[2]}"
    return _compared(text, (last["value"], last["sem"]), (first["value"], first["sem"]), measured)


def sweeps_improve_samples(folder: Path, metric: str, name: str, unit: str) -> Claim:
    """Section 3.6.2: samples after the most sweeps of Algorithm 2 against those of p that the chains started from."""
    text = f"Samples of p* are closer to the data than samples of p: change of the {name}."
    rows = _rows(folder, "figure_sweeps", dataset=MNIST, method="bihm", metric=metric)
    if rows.empty:
        return Claim(text, NOT_MEASURED, "this run has no such numbers")
    last = rows.loc[rows["sweeps"].idxmax()]
    measured = f"{last['value']:+.2g} ± {last['sem']:.2g}{unit} after {last['sweeps']} sweeps"
    return _compared(text, (0.0, 0.0), (last["value"], last["sem"]), measured)


def every_layer_helps(folder: Path) -> Claim:
    """Section 3.6.2: the model that loses least by the lack of a layer against the whole one."""
    text = "Removing any layer makes the likelihood of BiHM worse: loss by the least useful layer."
    rows = _rows(folder, "figure_depth", method="bihm", metric="log p")
    if rows.empty:
        return Claim(text, NOT_MEASURED, "this run has no such numbers")
    rows = rows[rows["dataset"] == (MNIST if MNIST in set(rows["dataset"]) else rows["dataset"].iloc[0])]
    least = rows.loc[rows["value"].idxmin()]
    measured = f"{least['value']:+.2f} ± {least['sem']:.2f} nats {least['variant']}, on {least['dataset']}"
    return _compared(text, (least["value"], least["sem"]), (0.0, 0.0), measured)


def lower_layers_tell_more(folder: Path) -> Claim:
    """Section 4.4: a linear classifier of the lowest layer against one of the highest, with the fewest labels."""
    text = "The lowest layer of BiHM tells more about the class than the highest: error of a linear classifier."
    rows = _rows(folder, "figure_layer_features", dataset=MNIST, method="bihm")
    rows = rows[(rows["labels"] == rows["labels"].min()) & (rows["layer"] > 0)] if len(rows) else rows
    if rows.empty:
        return Claim(text, NOT_MEASURED, "this run has no such numbers")
    low, high = (rows[rows["layer"] == layer] for layer in (rows["layer"].min(), rows["layer"].max()))
    said = " and ".join(f"{_value(each)[0]:.3f} ± {_value(each)[1]:.3f}" for each in (low, high))
    return _compared(text, _value(high), _value(low), f"{said} with {rows['labels'].iloc[0]:,} labels")


def labels_alone_do_worse(folder: Path, control: str, name: str) -> Claim:
    """Section 4.3: what the unlabelled images are worth, against the best ``control`` that sees the labels alone.

    The semi-supervised side is the one that the preset trains for it, with labels on the lowest layer.
    """
    text = f"Unlabelled images help: the best semi-supervised BiHM errs less than {name} on the 1,000 labels alone."
    errors = _rows(folder.parent / "tables", "table_4_1", dataset=MNIST, metric="error", status="ok")
    sides = []
    for method in (control, "ssl_bihm_low"):
        rows = errors[errors["method"] == method] if len(errors) else errors
        if rows.empty:
            return Claim(text, NOT_MEASURED, "this run has no such numbers")
        rows = rows.assign(value=rows["value"].astype(float))
        best = rows.loc[rows["value"].idxmin()]
        sides.append((best["value"], best["sem"]))
    (theirs, ours) = sides
    measured = f"semi-supervised {ours[0]:.3f} ± {ours[1]:.3f}, labels alone {theirs[0]:.3f} ± {theirs[1]:.3f}"
    return _compared(text, theirs, ours, measured)


CLAIMS: tuple[Callable[[Path], Claim], ...] = (
    less_sensitive_to_k,
    ten_samples_suffice,
    larger_effective_samples,
    one_inner_sample_is_best,
    partition_function_grows,
    partial(sweeps_improve_samples, metric="mmd2", name="squared maximum mean discrepancy from test rows", unit=""),
    partial(sweeps_improve_samples, metric="label entropy", name="entropy of a classifier's labels", unit=" nats"),
    every_layer_helps,
    lower_layers_tell_more,
    partial(labels_alone_do_worse, control="label_logistic", name="logistic regression"),
    partial(labels_alone_do_worse, control="label_mlp", name="the best small network"),
)
