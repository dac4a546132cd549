"""Estimates in the course of training: snapshots measured, figures drawn from them, and why others are left out."""

import math

import pandas as pd
import pytest
import torch
from cells import NO_CELLS, cell, patterns

from harness.errors import DataError
from harness.estimators import importance_estimates
from harness.evaluation.evaluate import evaluate
from harness.evaluation.manifest import LEFT_OUT, OK
from harness.evaluation.perform import analyse_cell
from harness.evaluation.plan import analyses_of
from harness.plugins.registry import build
from harness.reporting.figures import figure_3_5, write
from harness.settings.seeds import generator_for
from harness.storage import snapshots
from harness.storage.runs import RunFolder
from harness.training.train import train

CPU = torch.device("cpu")
ANALYSES = {
    "k_sensitivity": {"*": {"rows": 30, "ks": [1, 10, 50]}},
    "training_history": {"*": {"rows": 40, "ks": [5, 200], "z_outer": 500}},
    "z_convergence": {"*": {"n_samples": 1000, "k_inners": [1, 10], "repeats": 3}},
    "weight_histogram": {"*": {"rows": 10, "n_samples": 50, "n_draws": 200, "n_inner": 10, "n_bins": 20}},
}
SETTINGS = {"groups": {}, **NO_CELLS, "analyses": ANALYSES}
SHARED = {"dataset", "method", "title", "kind", "variant"}
COLUMNS = {
    "figure_3_4": {"metric", "k", "update", "seconds", "value", "sem"},
    "figure_3_5": {"k_inner", "k_outer", "value", "sd", "sem", "pareto_k", "k_limit"},
    "figure_3_6": {"k_inner", "k_total", "value", "sd", "error", "pareto_k", "ess"},
    "figure_3_7": {"metric", "update", "value", "sem", "doubt"},
    "figure_3_8": {"metric", "k", "update", "value", "sem"},
    "figure_3_11": {"proposal", "low", "high", "share", "weight", "ess"},
    "figure_ess_by_k": {"metric", "k", "value", "sem"},
}
METHODS = {"bihm": "BiHM", "rws": "RWS - SBN", "vae": "VAE"}


def trained(folder, method, n_snapshots=5):
    chosen = cell(method, snapshots=n_snapshots)
    run = folder / chosen.path
    train(chosen, patterns(), run, CPU)
    evaluate(run, chosen, patterns(), CPU, "smoke")
    return chosen, run


def analysed(chosen, run):
    return analyse_cell(run, chosen, analyses_of(SETTINGS, chosen), patterns, CPU, strict=True)


@pytest.fixture(scope="module", name="results")
def _results(tmp_path_factory):
    """Three small models, trained, measured and analysed: their cells, and the folder of their runs."""
    folder = tmp_path_factory.mktemp("runs")
    cells = []
    for method in METHODS:
        chosen, run = trained(folder, method)
        analysed(chosen, run)
        cells.append(chosen)
    return cells, folder


def history(results, method):
    cells, folder = results
    (chosen,) = (each for each in cells if each.method == method)
    return chosen, folder / chosen.path, pd.read_csv(RunFolder(folder / chosen.path).table_file("training_history"))


def test_every_snapshot_is_measured(results):
    chosen, _, table = history(results, "bihm")
    assert sorted(table["update"].unique()) == snapshots.updates(chosen.training)
    assert set(table["metric"]) == {"log p", "log p~*", "log p*", "2 log Z"}
    assert set(table[table["metric"] != "2 log Z"]["k"]) == {5, 200}
    assert (table.groupby("update")["seconds"].first().diff().dropna() > 0).all()
    assert set(history(results, "vae")[2]["metric"]) == {"log p"}


def test_the_identity_holds_at_every_update(results):
    """log p* = log p~* - 2 log Z; more samples can only raise an estimate on average; training helps."""
    table = history(results, "bihm")[2].set_index(["metric", "k", "update"])["value"].sort_index()
    log_z2 = table["2 log Z", 500]
    for k in (5, 200):
        pd.testing.assert_series_equal(table["log p*", k], table["log p~*", k] - log_z2, check_names=False)
        assert (table["log p~*", k] < table["log p", k]).all()
    assert (table["log p", 5] < table["log p", 200]).all()
    assert table["log p", 200].iloc[-1] > table["log p", 200].iloc[0]


def test_a_snapshot_is_what_is_measured(results):
    """Estimates of one snapshot, loaded and measured here with other random numbers."""
    chosen, run, table = history(results, "bihm")
    update = snapshots.updates(chosen.training)[2]
    model = build("bihm", 12, dict(chosen.model))
    RunFolder(run).load_snapshot(update, model, chosen)
    x = torch.from_numpy(patterns().valid).float()
    ours = importance_estimates(model, x, 200, generator_for(CPU, "other"), 1000).log_p
    (row,) = table[(table["metric"] == "log p") & (table["k"] == 200) & (table["update"] == update)].itertuples()
    assert row.n_rows == 40
    # 40 of these 60 rows
    assert abs(row.value - ours.mean().item()) < 4 * math.hypot(row.sem, ours.std().item() / math.sqrt(60))


def test_without_snapshots_there_is_nothing_to_look_at(tmp_path):
    chosen, run = trained(tmp_path, "vae", n_snapshots=0)
    found = analysed(chosen, run)["training_history"]
    assert (found["status"], found["message"]) == (LEFT_OUT, "no snapshots of the weights, as training.snapshots is 0")
    assert not RunFolder(run).table_file("training_history").exists()


def test_another_number_of_snapshots_is_measured_again(tmp_path):
    chosen, run = trained(tmp_path, "vae")
    analysed(chosen, run)
    other, _ = trained(tmp_path, "vae", n_snapshots=3)
    assert analysed(other, run)["training_history"]["status"] == OK
    table = pd.read_csv(RunFolder(run).table_file("training_history"))
    assert sorted(table["update"].unique()) == snapshots.updates(other.training)


@pytest.mark.parametrize("harm", ["missing", "another training", "broken"])
def test_wrong_snapshots_are_errors(tmp_path, harm):
    chosen, run = trained(tmp_path, "vae")
    path = RunFolder(run).snapshot_file(90)
    if harm == "missing":
        path.unlink()
    elif harm == "broken":
        path.write_bytes(path.read_bytes()[:50])
    else:
        other = cell("vae", l1=0.5, snapshots=5)
        train(other, patterns(), tmp_path / "other", CPU)
        path.write_bytes(RunFolder(tmp_path / "other").snapshot_file(90).read_bytes())
    with pytest.raises(DataError, match=r"90\.safetensors"):
        analysed(chosen, run)


@pytest.mark.parametrize("name", COLUMNS)
def test_figures_of_trained_models(name, results, tmp_path):
    """Every method that has what a figure shows is in it; the others are named with what they lack."""
    cells, folder = results
    paths = write.write_figure(name, SETTINGS, [*cells, cell("nade")], folder, tmp_path)
    table = pd.read_csv(paths[0])
    assert set(table.columns) >= COLUMNS[name] | SHARED
    everyone = name in ("figure_3_4", "figure_ess_by_k")
    assert set(table["title"]) == (set(METHODS.values()) if everyone else {"BiHM"})
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert paths[2].read_bytes().startswith(b"%PDF")
    caption = paths[3].read_text()
    assert "nade: no " in caption.replace("rws, vae, nade", "nade")
    assert ("rws, vae" in caption) == (name in ("figure_3_5", "figure_3_6", "figure_3_11"))


def test_captions_warn_of_an_estimate_that_is_not_to_be_trusted(results, tmp_path):
    """Of 500 draws for Z, fewer than 100 are effective."""
    cells, folder = results
    paths = write.write_figure("figure_3_7", SETTINGS, cells, folder, tmp_path)
    doubted = pd.read_csv(paths[0])["doubt"].notna().any()
    assert doubted == ("Warning: 2 log Z of BiHM on patterns is not to be trusted" in paths[3].read_text())


def test_figures_of_models_without_a_partition_function_say_so(results, tmp_path):
    cells, folder = results
    others = [each for each in cells if each.method != "bihm"]
    for name in ("figure_3_7", "figure_3_8", "figure_3_11"):
        paths = write.write_figure(name, SETTINGS, others, folder, tmp_path)
        assert list(pd.read_csv(paths[0]).columns) == ["remark"]


def test_a_doubted_estimate_warns_in_the_caption():
    columns = {"dataset": "d", "title": "BiHM", "k_inner": 1, "pareto_k": 0.9, "k_limit": 0.7}
    (warning,) = figure_3_5.remarks(pd.DataFrame([columns, {**columns, "k_inner": 10, "pareto_k": 0.5}]))
    assert warning.startswith("Warning: 2 log Z of BiHM on d with 1 inner samples is not to be trusted")
