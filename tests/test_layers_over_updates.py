"""Layers in the course of training: columns of the learning curve, that they change nothing, analysis and figure."""

import logging
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from cells import NO_CELLS, cell, patterns, train_until

from harness import atomic
from harness.blocks.sigmoid_belief import BeliefStack
from harness.evaluation.analyses.layer_use import layers_used
from harness.evaluation.evaluate import evaluate
from harness.evaluation.manifest import LEFT_OUT
from harness.evaluation.perform import analyse_cell
from harness.evaluation.plan import analyses_of
from harness.plugins.registry import build
from harness.reporting.figures import figure_layers_over_updates, style, write
from harness.settings.parts import Labels, Phase
from harness.settings.seeds import generator_for
from harness.storage.runs import RunFolder
from harness.training import layers
from harness.training.train import train

CPU = torch.device("cpu")
ASKED = {"groups": {}, **NO_CELLS, "analyses": {"layers_over_updates": {"*": {}}}}
LAYERED = ("bihm", "rws", "wake_sleep", "nvil", "vimco", "ssl_bihm", "ssl_bihm_low")
FRONT = ["update", "seconds", "phase", "learning_rate", "n_samples", "train_loss", "valid_loss", "valid_sem", "best"]


def budget(method):
    return {"labels": Labels(rows=30, per_batch=5)} if method.startswith("ssl") else {}


def trained(folder, method="bihm", **training):
    chosen = cell(method, **budget(method), **training)
    train(chosen, patterns(), folder, CPU)
    return chosen, pd.read_csv(folder / "curve.csv")


def names(n_layers):
    return [f"{field}_{layer}" for layer in range(1, n_layers + 1) for field in ("live", "reliability", "information")]


@pytest.mark.parametrize("method", LAYERED)
def test_curves_have_every_layer_of_methods_with_binary_layers(tmp_path, method):
    _, curve = trained(tmp_path, method)
    assert list(curve) == [*FRONT, *names(2)]
    first, last = curve.iloc[0], curve.iloc[-1]
    assert last["live_1"] in range(7)
    assert last["reliability_1"] > first["reliability_1"]
    assert last["information_1"] > first["information_1"]
    assert last[[f"reliability_{i}" for i in (1, 2)]].between(-0.2, 1).all()


@pytest.mark.parametrize("method", ["nade", "vae", "label_mlp", "factorised"])
def test_other_curves_are_what_they_were(tmp_path, method):
    chosen = cell(method, **({"labels": Labels(rows=30, per_batch=5)} if method == "label_mlp" else {}))
    train(chosen, patterns(), tmp_path, CPU)
    assert list(pd.read_csv(tmp_path / "curve.csv")) == FRONT


def test_layers_are_seen_at_the_ends_of_phases_and_else_once_in_so_many_rows(tmp_path, monkeypatch):
    _, curve = trained(tmp_path / "few")  # 20 rows an update
    assert list(curve[curve["live_1"].notna()]["update"]) == [0, 60, 90]
    monkeypatch.setattr(layers, "APART", 30 * 20)
    _, curve = trained(tmp_path / "many", validate_every=10)
    assert list(curve["update"]) == list(range(0, 91, 10))
    assert list(curve[curve["live_1"].notna()]["update"]) == [0, 30, 60, 90]
    assert curve[names(2)].notna().all(axis=1).equals(curve[names(2)].notna().any(axis=1))


def test_a_curve_tells_what_many_draws_on_all_rows_tell(tmp_path):
    """The weights of the end of a phase were kept, and are seen here on all validation rows, with other draws."""
    chosen = cell(snapshots=3, validation_rows=60, phases=(Phase(500, 1e-2, 4),), validate_every=100)
    train(chosen, patterns(), tmp_path, CPU)
    curve = pd.read_csv(tmp_path / "curve.csv").set_index("update")
    model = build("bihm", 12, dict(chosen.model))
    RunFolder(tmp_path).load_snapshot(500, model, chosen)
    x = torch.from_numpy(patterns().valid).float()
    for layer, found in enumerate(layers_used(model, x, 400, generator_for(CPU, "others")), start=1):
        seen = curve.loc[500]
        assert abs(seen[f"reliability_{layer}"] - found.reliability) < 4 * found.reliability_error
        assert abs(seen[f"information_{layer}"] - found.information) < 4 * found.information_error
        assert abs(seen[f"live_{layer}"] - found.live) <= 1
    assert curve.loc[500, "live_1"] > 0


def test_seeing_layers_changes_nothing_that_is_trained(tmp_path, monkeypatch):
    chosen, curve = trained(tmp_path / "seen", validate_every=5)
    monkeypatch.setattr(layers, "columns", lambda state, rows: {})
    _, without = trained(tmp_path / "unseen", validate_every=5)
    models = [RunFolder(tmp_path / name).status()["model_sha256"] for name in ("seen", "unseen")]
    assert models[0] == models[1]
    assert "live_1" not in without
    pd.testing.assert_frame_equal(curve[FRONT].drop(columns="seconds"), without.drop(columns="seconds"))
    # what earlier versions trained, curves without layers, counts as trained
    assert RunFolder(tmp_path / "unseen").is_trained(chosen, patterns().digest)


@pytest.mark.parametrize("update", [10, 45, 75])
def test_killed_at_any_update_the_curve_is_the_same(tmp_path, monkeypatch, update):
    """Also between looks that see layers, which depend on when that was last."""
    monkeypatch.setattr(layers, "APART", 30 * 20)
    chosen = cell(validate_every=5)
    train_until(chosen, tmp_path / "killed", update)
    for folder in ("killed", "whole"):
        train(chosen, patterns(), tmp_path / folder, CPU)
    killed, whole = (pd.read_csv(tmp_path / name / "curve.csv").drop(columns="seconds") for name in ("killed", "whole"))
    pd.testing.assert_frame_equal(killed, whole, check_exact=True)
    assert whole["live_2"].notna().sum() == 4


def test_a_training_that_an_earlier_version_began_goes_on_with_layers(tmp_path, monkeypatch):
    chosen = cell()
    with monkeypatch.context() as earlier:
        earlier.setattr(layers, "columns", lambda state, rows: {})
        train_until(chosen, tmp_path, 50)
    train(chosen, patterns(), tmp_path, CPU)
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert list(curve[curve["live_1"].notna()]["update"]) == [60, 90]
    assert list(curve) == [*FRONT, *names(2)]


def test_layers_that_wait_have_no_values_yet(tmp_path):
    chosen = cell("bihm", {"layers": [6, 4, 3], "release": 0.9}, phases=(Phase(30, 1e-3, 4),))
    train(chosen, patterns(), tmp_path, CPU)
    curve = pd.read_csv(tmp_path / "curve.csv")
    assert list(curve) == [*FRONT, *names(3)]
    seen = curve[curve["live_1"].notna()]
    assert len(seen) == 2
    assert seen[names(3)[3:]].isna().all(axis=None)


def fails(self, x, n_samples, generator):
    raise ArithmeticError("no such layer")


def twice(self, x, n_samples, generator, encode=BeliefStack.encode):
    return [2.0 * layer + 0.5 for layer in encode(self, x, n_samples, generator)]


def test_where_encode_fails_training_goes_on_without_layers(tmp_path, monkeypatch, caplog):
    _, whole = trained(tmp_path / "whole")
    monkeypatch.setattr(BeliefStack, "encode", fails)
    with caplog.at_level(logging.WARNING):
        _, curve = trained(tmp_path / "failed")
    assert list(curve) == FRONT
    pd.testing.assert_series_equal(curve["valid_loss"], whole["valid_loss"])
    told = [record.message for record in caplog.records if "goes on without layers" in record.message]
    assert told == [
        "patterns/bihm/default/0: the learning curve goes on without layers: encode: ArithmeticError: no such layer"
    ]


def test_layers_of_other_than_binary_units_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(BeliefStack, "encode", twice)
    assert list(trained(tmp_path)[1]) == FRONT


def test_a_row_may_lack_what_others_have(tmp_path):
    atomic.write_csv(tmp_path / "a.csv", [{"a": 1}, {"a": 2, "b": 0.5}, {"a": 3, "b": None}])
    assert (tmp_path / "a.csv").read_text() == "a,b\n1,\n2,0.5\n3,\n"


# -- analysis and figure ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="home")
def _home(tmp_path_factory):
    """Two seeds of a model, one of several layers of which some wait, and one of a single layer."""
    home = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(layers, "APART", 20 * 20)
        for chosen in cells():
            train(chosen, patterns(), home / chosen.path, CPU)
    for chosen in cells():
        analyse(home / chosen.path, chosen)
    return home


def analyse(run, chosen):
    evaluate(run, chosen, patterns(), CPU, "smoke")
    return analyse_cell(run, chosen, analyses_of(ASKED, chosen), patterns, CPU, strict=True)["layers_over_updates"]


def cells():
    waiting = cell("bihm", {"layers": [6, 4, 3], "release": 0.9}, phases=(Phase(30, 1e-3, 4),))
    return [
        *(replace(cell(), seed=seed) for seed in range(2)),
        replace(waiting, variant="waiting"),
        cell("rws", {"layers": [6]}),
    ]


def table_of(home, chosen):
    return pd.read_csv(RunFolder(home / chosen.path).table_file("layers_over_updates"))


def test_the_analysis_has_what_the_curve_has(home):
    chosen = cells()[0]
    curve = pd.read_csv(home / chosen.path / "curve.csv")
    table = table_of(home, chosen)
    assert list(table) == ["update", "seconds", "layer", "n_units", "live", "reliability", "information"]
    assert list(table["update"]) == [0, 20, 40, 60, 80, 90] * 2
    for layer, n_units in ((1, 6), (2, 4)):
        rows = table[table["layer"] == layer]
        assert set(rows["n_units"]) == {n_units}
        for field in layers.FIELDS:
            np.testing.assert_array_equal(rows[field], curve[f"{field}_{layer}"].dropna())


def test_a_layer_that_waits_has_no_rows(home):
    assert set(table_of(home, cells()[2])["layer"]) == {1}


def test_runs_of_earlier_versions_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(layers, "columns", lambda state, rows: {})
    chosen = cell()
    train(chosen, patterns(), tmp_path, CPU)
    found = analyse(tmp_path, chosen)
    assert found["status"] == LEFT_OUT
    assert found["message"].startswith("no layers in the learning curve")


def test_a_curve_that_training_did_not_write_is_an_error(tmp_path):
    chosen = cell()
    train(chosen, patterns(), tmp_path, CPU)
    (tmp_path / "curve.csv").write_text("update,seconds\n0,0\n")
    with pytest.raises(Exception, match=r"curve\.csv: expected sha256"):
        analyse(tmp_path, chosen)


def test_the_figure_shows_models_of_several_layers(home, tmp_path):
    paths = write.write_figure("figure_layers_over_updates", ASKED, [*cells(), cell("nade")], home, tmp_path)
    assert [path.suffix for path in paths] == [".csv", ".png", ".pdf", ".rst"]
    frame = pd.read_csv(paths[0], keep_default_na=False)
    assert set(frame["method"]) == {"bihm"}  # one layer of RWS is no stack, and one that waits is none yet
    assert set(frame["variant"]) == {""}
    assert set(frame["metric"]) == {"live units", "reliability", "information"}
    assert set(frame["n_seeds"]) == {2}
    tables = [table_of(home, each).set_index(["layer", "update"])["live"] for each in cells()[:2]]
    live = frame[frame["metric"] == "live units"].set_index(["layer", "update"])["value"].astype(float)
    pd.testing.assert_series_equal(live, (tables[0] + tables[1]) / 2, check_names=False)
    assert "nade: no layer features" in paths[-1].read_text()


def drawn(frame):
    style.use_theme()
    return figure_layers_over_updates.draw(frame)


def rows(dataset, variant, n_layers, *, updates=(0, 500, 1000)):
    base = {"dataset": dataset, "method": "bihm", "title": "BiHM", "kind": "latent", "variant": variant, "sem": 0.0}
    for layer in range(1, n_layers + 1):
        for update in updates:
            value = {"live units": 50.0 / layer, "reliability": 1.0 / layer, "information": 2.0}
            for metric, each in value.items():
                yield {**base, "update": update, "layer": layer, "n_units": 100, "metric": metric, "value": each}


def test_every_layer_has_a_line_in_two_panels_of_its_model():
    frame = pd.DataFrame([*rows("adult", math.nan, 2), *rows("binarized_mnist", "12 layers", 12)])
    figure = drawn(frame)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in shown if axes.get_title()] == [
        "BiHM (12 layers), binarized_mnist",
        "BiHM, adult",
    ]
    lines = [[line for line in axes.get_lines() if len(line.get_xdata()) == 3] for axes in shown]
    assert [len(each) for each in lines] == [12, 12, 2, 2]
    assert list(lines[2][1].get_ydata()) == [0.25] * 3  # 25 of 100 units
    assert list(lines[3][1].get_ydata()) == [0.5] * 3
    colors = [line.get_color() for line in lines[0]]
    assert len(set(colors)) == 12
    assert [line.get_color() for line in lines[2]] == colors[:2]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"layer {i}" for i in range(1, 13)]
    style.close(figure)


def test_a_data_set_begins_a_line_of_panels():
    variants = [row for i in range(5) for row in rows("adult", f"{i}", 2)]
    figure = drawn(pd.DataFrame([*variants, *rows("dna", math.nan, 2)]))
    visible = [[axes.get_visible() for axes in figure.axes[start : start + 4]] for start in range(0, 24, 4)]
    assert [sum(each) for each in visible] == [4, 4, 1, 1, 1, 1]
    style.close(figure)
