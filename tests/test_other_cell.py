"""A folder that holds the training of another cell: every verb says so, and leaves what is there as it is."""

import json
import shutil
from dataclasses import replace

import pandas as pd
import pytest
import torch
from cells import NO_CELLS, cell, patterns
from test_workflow import only

from harness.cli import main
from harness.errors import DataError
from harness.evaluation.evaluate import evaluate
from harness.evaluation.perform import analyse_cell
from harness.evaluation.plan import Planned
from harness.storage.collect import read_metrics
from harness.storage.runs import UNAVAILABLE, RunFolder
from harness.training.train import train

CPU = torch.device("cpu")
PLANNED = Planned("k_sensitivity", {"rows": 20, "ks": [1, 5]}, ())
WIDER = {"model": {"hidden": 6}}
LONGER = {"training": {"l1": 0.5}}


@pytest.fixture(name="trained", scope="module")
def _trained(tmp_path_factory):
    """A small model that the command line trained and measured; (its settings, its folder)."""
    folder = tmp_path_factory.mktemp("trained")
    data = {"cache": str(folder / "cache"), "mirrors": [], "download": False}
    training = {"phases": [{"updates": 3, "learning_rate": 0.01, "n_samples": 1}], "validation_rows": 20}
    grid = {"nade": {"connect4": {"model": {"hidden": 4}}}, "factorised": {"connect4": {}}}
    budgets = {"nade": {"connect4": {"training": training}}}
    settings = {**NO_CELLS, "preset": "smoke", "data": data, "grid": grid, "budgets": budgets}
    assert main(["datasets", "--fetch", "connect4", "--settings", json.dumps(settings)]) == 0
    assert main(["run", *words(settings, folder / "run")]) == 0
    return settings, folder / "run"


def words(settings, run, method="nade"):
    named = ["--dataset", "connect4", "--method", method, "--run", str(run)]
    return [*named, "--settings", json.dumps(settings)]


def changed(settings, entry):
    other = json.loads(json.dumps(settings))
    for part, values in entry.items():
        place = other["grid"] if part == "model" else other["budgets"]
        place["nade"]["connect4"][part] |= values
    return other


@pytest.mark.parametrize("verb", ["evaluate", "analyse"])
@pytest.mark.parametrize(
    ("entry", "expected", "found"),
    [(WIDER, "model.hidden 6", "model.hidden 4"), (LONGER, "training.l1 0.5", "training.l1 ")],
)
def test_other_settings_are_one_line_of_error(trained, tmp_path, capsys, verb, entry, expected, found):
    settings, run = trained
    shutil.copytree(run, tmp_path / "run")
    before = (tmp_path / "run/metrics.json").read_bytes()
    assert main([verb, *words(changed(settings, entry), tmp_path / "run")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    digest = RunFolder(run).status()["training_digest"]
    assert line.startswith(f"harness: {tmp_path / 'run'}/status.json: expected training digest ")
    assert f"({expected}), found {digest} ({found}" in line
    assert (tmp_path / "run/metrics.json").read_bytes() == before


@pytest.mark.parametrize("verb", ["evaluate", "analyse"])
def test_another_method_is_named(trained, capsys, verb):
    settings, run = trained
    assert main([verb, *words(settings, run, method="factorised")]) == 1
    assert 'method "factorised"' in (line := capsys.readouterr().err)
    assert 'method "nade"' in line
    assert RunFolder(run).measurements()[0]["method"] == "nade"


def test_the_tables_of_other_settings_are_refused(trained, tmp_path, capsys):
    settings, run = trained
    results = tmp_path / "runs"
    shutil.copytree(run, results / "connect4/nade/default/0")
    assert main(["run", *words(settings, results / "connect4/factorised/default/0", method="factorised")]) == 0
    capsys.readouterr()
    tables = ["tables", "--runs", results, "--output", tmp_path / "tables"]
    for entry, code in ((WIDER, 1), ({}, 0)):
        given = ["--settings", json.dumps(only_here(changed(settings, entry)))]
        assert main([*map(str, tables), *given]) == code
        assert ("metrics.json: expected training digest" in capsys.readouterr().err) == (code == 1)
    metrics = tmp_path / "metrics.parquet"
    assert main(["metrics", *given, "--runs", str(results), "--output", str(metrics)]) == 0
    assert set(pd.read_parquet(metrics)["method"]) == {"nade", "factorised"}


def only_here(settings):
    """Settings of these cells alone."""
    return {**settings, "grid": only(**settings["grid"]), "ablations": {"bihm": None}, "repetitions": 1}


def test_callers_from_python_are_told_as_well(tmp_path):
    run, here = tmp_path / "run", cell("nade")
    train(here, patterns(), run, CPU)
    evaluate(run, here, patterns(), CPU, "smoke")
    measured = (run / "metrics.json").read_bytes()
    for other in (replace(here, seed=1), cell("nade", {"hidden": 7}), cell("factorised")):
        with pytest.raises(DataError, match=f"expected training digest {other.training_digest} .*, found {'.' * 64} "):
            evaluate(run, other, patterns(), CPU, "smoke")
        with pytest.raises(DataError, match="expected training digest"):
            analyse_cell(run, other, [PLANNED], patterns, CPU, strict=True)
        place = tmp_path / other.training_digest
        shutil.copytree(run, place / other.path)
        with pytest.raises(DataError, match=r"metrics\.json: expected training digest"):
            read_metrics([other], place)
    assert (run / "metrics.json").read_bytes() == measured


def test_a_run_without_a_model_is_told_by_its_configuration(tmp_path):
    RunFolder(tmp_path).write_config(cell("nade"))
    RunFolder(tmp_path).write_status(UNAVAILABLE, "no data")
    assert evaluate(tmp_path, cell("nade"), None, CPU, "smoke")[0]["status"] == UNAVAILABLE
    with pytest.raises(DataError, match=r"config\.json: expected training digest .*\(model\.hidden 7\)"):
        evaluate(tmp_path, cell("nade", {"hidden": 7}), None, CPU, "smoke")


def test_how_a_model_is_measured_is_free(tmp_path):
    here = cell("bihm")
    train(here, patterns(), tmp_path, CPU)
    for n in (10, 20):
        other = replace(here, evaluation=replace(here.evaluation, n_samples=n))
        assert evaluate(tmp_path, other, patterns(), CPU, "smoke")[0]["k"] == n


def test_measurements_of_a_model_that_was_trained_again_since_are_not_gathered(tmp_path):
    of_model, data = cell(), patterns()
    run = tmp_path / of_model.path
    train(of_model, data, run, CPU)
    evaluate(run, of_model, data, CPU, "smoke")
    assert len(read_metrics([of_model], tmp_path))
    status = RunFolder(run).status()
    words_of = status.pop("status"), status.pop("message")
    RunFolder(run).write_status(*words_of, **{**status, "model_sha256": "0" * 64})  # as by another training
    with pytest.raises(DataError, match=r"metrics\.json: expected measurements of the model of sha256 0000"):
        read_metrics([of_model], tmp_path)
