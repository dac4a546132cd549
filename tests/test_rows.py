"""What every test row came to: beside the measurements of a run, of all runs, and as it is published."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from cells import cell, patterns

from harness.errors import DataError
from harness.estimators import importance_estimates
from harness.evaluation import evaluate as evaluation
from harness.evaluation import per_row
from harness.evaluation.evaluate import evaluate, record_failure
from harness.evaluation.per_row import RowValues, keep_part
from harness.plugins.registry import build
from harness.storage import weights
from harness.storage.records import file_digest, read_json
from harness.storage.runs import OK, ROWS_DIGEST, UNAVAILABLE, RunFolder
from harness.training.train import train

CPU = torch.device("cpu")
WITH_ROWS = {
    "nade": {"-log p"},
    "eonade": {"-log p", "-log p (one ordering)"},
    "rbm": {"-log p"},
    "vimco": {"-log p", "bound -log p", "ess p"},
    "bihm": {"-log p", "bound -log p", "ess p", "-log p~*", "ess p*"},
    "ssl_bihm": {"bound -log p*", "-log p~*(y|x)", "error", "-log p", "bound -log p", "ess p", "-log p~*", "ess p*"},
    "label_logistic": {"-log p(y|x)", "error"},
}
MODELS = {"eonade": {"hidden": [5], "n_orders": 2}, "rbm": {"hidden": 4}}
EXACT = ("nade", "eonade", "label_logistic")


def untrained(method, run, n_samples=30, rows=40):
    """A run of a model as it starts, with the cell."""
    torch.manual_seed(3)
    of_model = cell(method, MODELS.get(method))
    of_model = replace(of_model, evaluation=replace(of_model.evaluation, n_samples=n_samples, rows=rows))
    model = build(method, patterns().n_features, dict(of_model.model))
    digest = RunFolder(run).save_model(model, of_model)
    RunFolder(run).write_status(OK, model_sha256=digest, n_updates=0)
    return of_model


def measured(method, run, **options):
    of_model = untrained(method, run, **options)
    rows = evaluate(run, of_model, patterns(), CPU, "smoke")
    return of_model, {row["metric"]: row for row in rows}


def frame_of(run):
    return per_row.read(RunFolder(run)).to_pandas().astype({"metric": str})


@pytest.mark.parametrize("method", WITH_ROWS)
def test_the_mean_over_the_rows_is_the_measured_value(method, tmp_path):
    _, found = measured(method, tmp_path)
    frame = frame_of(tmp_path)
    assert set(frame["metric"]) == WITH_ROWS[method]
    assert frame.dtypes[["row", "value", "mc_error"]].tolist() == ["int32", "float64", "float32"]
    for metric, rows in frame.groupby("metric"):
        assert rows["value"].mean() == pytest.approx(found[metric]["value"], rel=1e-12)
        assert len(rows) == found[metric]["n_rows"]
        assert rows["row"].is_monotonic_increasing
        if method in EXACT:
            assert (rows["mc_error"] == 0).all()
            assert (found[metric]["bias"], found[metric]["bias_error"], found[metric]["mc_error"]) == (0, 0, 0)
        elif found[metric]["mc_error"] is None:
            assert rows["mc_error"].isna().all()
        elif method != "rbm":  # whose rows share one error
            mean_error = math.sqrt((rows["mc_error"].astype(float) ** 2).sum()) / len(rows)
            assert mean_error == pytest.approx(found[metric]["mc_error"], rel=1e-5)
    assert {row["model_sha256"] for row in found.values()} == {file_digest(tmp_path / "model.safetensors")}


def test_row_numbers_are_those_of_the_test_split(tmp_path):
    """Scoring the rows that are named, one by one, gives their values."""
    of_model, _ = measured("nade", tmp_path / "all")
    frame = frame_of(tmp_path / "all")
    assert frame["row"].tolist() == list(range(60))
    model = build("nade", 12, dict(of_model.model))
    weights.load(tmp_path / "all/model.safetensors", model, file_digest(tmp_path / "all/model.safetensors"))
    x = torch.from_numpy(patterns().test[17:18]).float()
    assert -model.log_prob(x).item() == pytest.approx(frame["value"][17], rel=1e-5)

    of_model, _ = measured("label_logistic", tmp_path / "labels")
    labels = frame_of(tmp_path / "labels").query("metric == 'error'")
    model = build("label_logistic", 12, dict(of_model.model))
    path = tmp_path / "labels/model.safetensors"
    weights.load(path, model, file_digest(path))
    guesses = model.log_label_prob(torch.from_numpy(patterns().test).float()).argmax(1).numpy()
    assert labels["value"].tolist() == (guesses != patterns().test_labels).tolist()

    part = frame_of_part(tmp_path / "bihm").query("metric == 'bound -log p'")
    again = frame_of_part(tmp_path / "vimco").query("metric == 'bound -log p'")
    assert len(part) == 40
    assert part["row"].tolist() == again["row"].tolist() != list(range(40))  # one part for all methods


def frame_of_part(run):
    measured(run.name, run)
    return frame_of(run)


def test_a_part_of_the_rows_is_named_by_what_they_are(tmp_path):
    """Estimates of the rows that are named, with other samples, agree row by row, though rows differ by far more."""
    of_model, _ = measured("bihm", tmp_path, n_samples=2000)
    model = build("bihm", 12, dict(of_model.model))
    path = tmp_path / "model.safetensors"
    weights.load(path, model, file_digest(path))
    frame = frame_of(tmp_path).query("metric == '-log p'")
    x = torch.from_numpy(patterns().test[frame["row"].to_numpy()]).float()
    other = importance_estimates(model, x, 4000, torch.Generator().manual_seed(1), 4096)
    error = np.hypot(frame["mc_error"], other.log_p_variance.sqrt().numpy())
    z = (frame["value"].to_numpy() + other.log_p.numpy()) / error
    assert np.abs(z).max() < 4.5
    assert np.std(frame["value"]) > 10 * error.mean()  # so that other rows would be told from these


def test_a_measurement_that_fails_leaves_nothing_of_the_one_before(tmp_path, monkeypatch):
    of_model, _ = measured("vimco", tmp_path)
    before = frame_of(tmp_path)

    def broken(*_):
        raise RuntimeError("a broken method")

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "measure", broken)
        with pytest.raises(RuntimeError, match="broken"):
            evaluate(tmp_path, of_model, patterns(), CPU, "smoke")
    assert not (tmp_path / "metrics.json").exists()
    assert not RunFolder(tmp_path).rows_file.exists()

    written = []
    with monkeypatch.context() as patched:  # the rows are there before the file that says so
        for owner, name in ((per_row, "write"), (RunFolder, "write_measurements")):
            real = getattr(owner, name)
            patched.setattr(owner, name, lambda *a, real=real, name=name: (written.append(name), real(*a))[1])
        evaluate(tmp_path, of_model, patterns(), CPU, "smoke")
    assert written == ["write", "write_measurements"]
    pd.testing.assert_frame_equal(frame_of(tmp_path), before)

    record_failure(tmp_path, of_model, "smoke", "it crashed")
    assert len(frame_of(tmp_path)) == 0


def test_rows_of_another_measurement_are_noticed(tmp_path):
    of_model = untrained("vimco", tmp_path)
    evaluate(tmp_path, of_model, patterns(), CPU, "smoke")
    other = RunFolder(tmp_path).rows_file.read_bytes()
    measured_again = replace(of_model, evaluation=replace(of_model.evaluation, rows=20))
    evaluate(tmp_path, measured_again, patterns(), CPU, "smoke")
    RunFolder(tmp_path).rows_file.write_bytes(other)
    with pytest.raises(DataError, match=r"rows.parquet: expected sha256 .* as metrics.json has it"):
        per_row.read(RunFolder(tmp_path))
    RunFolder(tmp_path).rows_file.unlink()
    with pytest.raises(DataError, match=r"rows.parquet: expected a file of sha256 .* as metrics.json has it"):
        per_row.read(RunFolder(tmp_path))
    old = {key: value for key, value in read_json(tmp_path / "metrics.json").items() if key != ROWS_DIGEST}
    (tmp_path / "metrics.json").write_text(json.dumps(old), encoding="utf-8")
    assert per_row.read(RunFolder(tmp_path)) is None  # measured before there were any


def test_a_run_without_a_model_has_no_rows(tmp_path):
    RunFolder(tmp_path).write_status(UNAVAILABLE, "no such data")
    evaluate(tmp_path, cell("vimco"), None, CPU, "smoke")
    assert len(frame_of(tmp_path)) == 0


def test_rows_of_all_runs_lie_below_each_other(tmp_path):
    cells = []
    for method in ("nade", "vimco"):
        of_model = cell(method)
        measured(method, tmp_path / of_model.path)
        cells.append(replace(of_model, evaluation=replace(of_model.evaluation, n_samples=30)))
    per_row.gather(cells, tmp_path, tmp_path / "rows.parquet")
    frame = pd.read_parquet(tmp_path / "rows.parquet")
    assert list(frame.columns) == [*per_row.CELL, "row", "metric", "value", "mc_error"]
    assert len(frame) == 60 + 3 * 40
    assert pq.ParquetFile(tmp_path / "rows.parquet").num_row_groups == 2  # one cell in memory at a time
    for method, rows in frame.groupby("method", observed=True):
        alone = frame_of(tmp_path / cell(method).path)
        assert rows["value"].tolist() == alone["value"].tolist()
        assert rows["metric"].astype(str).tolist() == alone["metric"].tolist()


def table_of(rows, metrics=("-log p", "ess p")):
    values = np.random.default_rng(0).normal(size=len(rows))
    return pa.concat_tables([RowValues(m, np.asarray(rows), values, 0.0).table() for m in metrics]).unify_dictionaries()


def test_all_cells_of_a_data_set_keep_the_same_rows():
    n_test = 9000
    of_model = cell("nade")
    few, many = (replace(of_model, evaluation=replace(of_model.evaluation, rows=n)) for n in (500, 5000))
    kept = {}
    for name, of_cell, n in (("exact", few, None), ("few", few, 500), ("all", many, None), ("many", many, 5000)):
        rows = per_row.random_rows(n_test, n, per_row.seed_for(of_cell.dataset, per_row.TEST_ROWS))
        found = keep_part(table_of(rows), of_cell)
        assert set(found["metric"].to_pylist()) == {"-log p"}
        kept[name] = set(found["row"].to_pylist())
        assert kept[name] == set(keep_part(table_of(rows), replace(of_cell, seed=7, method="made"))["row"].to_pylist())
    assert {name: len(rows) for name, rows in kept.items()} == {"exact": 2000, "few": 500, "all": 2000, "many": 2000}
    assert kept["few"] < kept["exact"]
    assert kept["many"] == kept["all"]
    other = keep_part(table_of(range(n_test)), replace(few, dataset="other"))
    assert kept["exact"] != set(other["row"].to_pylist())


def test_rows_take_little_room(tmp_path):
    """10,000 rows of five metrics whose digits are all noise: 8 bytes a value, 4 an error, and next to nothing else."""
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(20_000, 10_000, replace=False))
    values = [RowValues(str(i), rows, rng.normal(size=10_000), rng.random(10_000)) for i in range(5)]
    per_row.write(tmp_path / "rows.parquet", values)
    assert (tmp_path / "rows.parquet").stat().st_size < 50_000 * 13


def test_a_trained_cell_has_its_rows(tmp_path):
    of_model = cell("bihm")
    train(of_model, patterns(), tmp_path, CPU)
    found = {row["metric"]: row for row in evaluate(tmp_path, of_model, patterns(), CPU, "smoke")}
    assert found["-log p"]["bias"] == found["-log p~"]["bias"] > 0
    assert found["-log p*"]["bias"] == pytest.approx(found["-log p~*"]["bias"] - found["-2 log Z"]["bias"])
    assert found["-2 log Z"]["bias"] == pytest.approx(found["-2 log Z"]["sem"] ** 2 / 2, rel=1e-6)
