"""Values that are no numbers: a status with its reason, never an error of 0 nor a blank that is said to be fine."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from cells import cell, patterns

from harness import cli, data
from harness.estimators.pareto import Tail
from harness.estimators.two_sample import median_distance
from harness.evaluation import per_row
from harness.evaluation.evaluate import evaluate
from harness.evaluation.manifest import LEFT_OUT
from harness.evaluation.perform import analyse_cell
from harness.evaluation.plan import Planned
from harness.plugins.registry import build
from harness.reporting.tables.pooling import pool, rows_by_cell
from harness.storage.collect import read_metrics
from harness.storage.records import read_json
from harness.storage.runs import OK, RunFolder

CPU = torch.device("cpu")
MODELS = {"rbm": {"hidden": 4}}
ERRORS = ("sem", "mc_error", "bias", "bias_error")


def broken(method, run, value=math.nan, parameter=0):
    """A run of a model with one parameter of this value."""
    torch.manual_seed(3)
    of_model = cell(method, MODELS.get(method))
    model = build(method, patterns().n_features, dict(of_model.model))
    with torch.no_grad():
        list(model.parameters())[parameter].fill_(value)
    digest = RunFolder(run).save_model(model, of_model)
    RunFolder(run).write_status(OK, model_sha256=digest, n_updates=0)
    return of_model


@pytest.mark.parametrize("method", ["nade", "vimco", "bihm", "rbm", "ssl_bihm", "label_logistic"])
def test_what_is_not_finite_has_diverged_and_has_no_error(method, tmp_path):
    of_model = broken(method, tmp_path)
    rows = evaluate(tmp_path, of_model, patterns(), CPU, "smoke")
    assert rows
    for row in rows:
        assert row["value"] is None
        assert row["status"] == "diverged"
        assert row["message"].startswith(f"{row['metric']} came out as nan")
        assert all(row[name] is None for name in ERRORS)
    frame = per_row.read(RunFolder(tmp_path)).to_pandas()
    assert len(frame) > 0
    assert frame["mc_error"].isna().all()


def test_a_row_without_a_value_is_counted_and_other_numbers_stay(tmp_path, monkeypatch):
    """Weights of some rows vanish in every sample: their -log p is infinite, while that of others has a value."""
    of_model = broken("vimco", tmp_path, 0.0)
    real = type(build("vimco", 12, dict(of_model.model))).log_weights

    def log_weights(self, x, n_samples, generator):
        found = real(self, x, n_samples, generator)
        found[(x == chosen).all(1)] = -math.inf
        return found

    chosen = torch.from_numpy(patterns().test[0]).float()
    alike = (patterns().test == patterns().test[0]).all(1)
    monkeypatch.setattr(type(build("vimco", 12, dict(of_model.model))), "log_weights", log_weights)
    found = {row["metric"]: row for row in evaluate(tmp_path, of_model, patterns(), CPU, "smoke")}
    frame = per_row.read(RunFolder(tmp_path)).to_pandas().astype({"metric": str})
    of_p = frame[frame["metric"] == "-log p"]
    assert np.isinf(of_p["value"]).tolist() == alike[of_p["row"]].tolist()
    assert of_p["mc_error"].isna().tolist() == alike[of_p["row"]].tolist()
    n_bad = alike[of_p["row"]].sum()
    assert n_bad > 0
    assert found["-log p"]["message"] == f"-log p came out as inf, not finite on {n_bad} of 40 test rows"
    assert found["-log p"]["status"] == "diverged"


def test_tables_say_so(tmp_path):
    of_model = broken("vimco", tmp_path / cell("vimco").path)
    evaluate(tmp_path / of_model.path, of_model, patterns(), CPU, "smoke")
    (rows,) = rows_by_cell(read_metrics([of_model], tmp_path), "smoke").values()
    found = pool(rows, "-log p")
    assert (found.status, found.value) == ("diverged", None)
    assert found.message.startswith("-log p came out as nan")


def test_the_command_tells_it_and_succeeds(tmp_path, monkeypatch, capsys):
    of_model = broken("vimco", tmp_path)
    monkeypatch.setattr(cli.cells, "cell_of", lambda *_: (of_model, RunFolder(tmp_path)))
    monkeypatch.setattr(data, "obtain", lambda *_: patterns())
    assert cli.main(["evaluate", "--dataset", "adult", "--method", "vimco"]) == 0
    said = capsys.readouterr().err
    assert "-log p: diverged: -log p came out as nan, not finite on 40 of 40 test rows" in said
    assert read_json(tmp_path / "metrics.json")["rows"][0]["status"] == "diverged"


def alike(n_different=0):
    found = patterns(16)
    train = np.tile(found.train[:1], (200, 1))
    train[:n_different] = found.train[:n_different]
    object.__setattr__(found, "train", train)
    return found


def test_samples_are_not_compared_where_all_rows_are_alike(tmp_path):
    of_model = cell("vimco")
    torch.manual_seed(3)
    model = build("vimco", 16, dict(of_model.model))
    digest = RunFolder(tmp_path).save_model(model, of_model)
    RunFolder(tmp_path).write_status(OK, model_sha256=digest, n_updates=0)
    evaluate(tmp_path, of_model, alike(), CPU, "smoke")
    planned = Planned("sample_quality", {"rows": 20, "sweeps": [0], "proposals": 2, "classifier_rows": 100}, ())
    found = analyse_cell(tmp_path, of_model, [planned], alike, CPU, strict=True)["sample_quality"]
    assert found["status"] == LEFT_OUT
    assert "training rows are alike" in found["message"]

    few = Planned("sample_quality", {"rows": 2, "sweeps": [0], "proposals": 2, "classifier_rows": 100}, ())
    found = analyse_cell(tmp_path, of_model, [few], lambda: patterns(16), CPU, strict=True)["sample_quality"]
    assert (found["status"], found["message"][:11]) == (LEFT_OUT, "2 test rows")

    mostly = analyse_cell(tmp_path, of_model, [planned], lambda: alike(40), CPU, strict=True)["sample_quality"]
    assert mostly["status"] == "ok"
    table = pd.read_csv(tmp_path / "analyses/sample_quality.csv")
    assert table["value"].notna().all()
    assert table["sem"].notna().all()


def test_a_distance_is_that_of_rows_that_differ():
    rows = torch.zeros(10, 3)
    assert median_distance(rows) == 0.0
    rows[0] = 1.0
    assert median_distance(rows) == 3.0


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf])
def test_a_tail_of_no_numbers_has_no_shape(weight):
    tail = Tail(100)
    tail.add(torch.full((100,), weight, dtype=torch.float64))
    assert math.isnan(tail.pareto_k())
