"""Metrics of users in files: read without being run, measured beside the built-in ones, and never in their way."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from cells import cell, patterns
from test_workflow import Workflow, only

from harness.check.against_run import compare_runs
from harness.check.rules import Rules, scale_of
from harness.check.summary import summarize
from harness.cli import main
from harness.comparison.read import read_measured
from harness.errors import ConfigError, DataError
from harness.evaluation import per_row
from harness.evaluation.evaluate import evaluate
from harness.plugins import metrics
from harness.plugins.listing import listed
from harness.plugins.metrics import BUILT_IN, codes, metric, use_metrics
from harness.reporting.tables import PlannedCell
from harness.reporting.tables.cell_text import with_error
from harness.reporting.tables.own_metrics import own_metrics_table, tidy, write_own_metrics
from harness.settings.config import Cell, load_settings, resolve
from harness.settings.parts import Evaluation
from harness.storage.collect import read_metrics
from harness.storage.runs import RunFolder
from harness.training.train import train

CPU = torch.device("cpu")
METRIC = '''
"""How probable each row is as a whole, in percent of what a fair coin gives it."""

NAME = "gain"
TITLE = "gain over a fair coin"
UNIT = "bits"
BETTER = "higher"
DECIMALS = 3
MATTERS = 0.5
NEEDS = ("exact log p",)


def measure(subject):
    x = subject.test.x
    return (subject.model.log_prob(x) / math.log(2)) + x.shape[1]
'''
GAIN = METRIC.replace("\nNAME", "\nimport math\n\nNAME", 1)


@pytest.fixture(autouse=True)
def _forget_files():
    yield
    use_metrics([])


@pytest.fixture(name="gain")
def _gain(tmp_path):
    path = tmp_path / "gain.py"
    path.write_text(GAIN)
    return path


def returning(folder, name, expression, **constants):
    """A metric whose function returns the value of an expression."""
    said = {"NAME": name, "TITLE": name, "UNIT": "nats", "BETTER": "lower", **constants}
    lines = [f"{key} = {value!r}" for key, value in said.items()]
    path = folder / f"{name}.py"
    path.write_text("\n".join(["import torch", *lines, f"def measure(subject):\n    return {expression}\n"]))
    return path


def with_metrics(of_model, *paths):
    """The cell, measured by these metrics as well."""
    use_metrics(map(str, paths))
    return replace(of_model, evaluation=replace(of_model.evaluation, metrics=codes(map(str, paths), of_model.method)))


@pytest.fixture(scope="module", name="trained")
def _trained(tmp_path_factory):
    """Folders of trained models, by method."""
    folder = tmp_path_factory.mktemp("trained")
    for method in ("nade", "bihm"):
        train(cell(method), patterns(), folder / method, CPU)
    return folder


def measured_by(trained, method, *paths):
    """By metric, the rows of a model that is measured by these metrics as well."""
    rows = evaluate(trained / method, with_metrics(cell(method), *paths), patterns(), CPU, "smoke")
    return {row["metric"]: row for row in rows}


def test_a_metric_is_known_by_its_text(gain):
    gain.write_text(GAIN + "\nraise RuntimeError('was run')\n")
    use_metrics([str(gain)])
    found = metric("gain")
    assert (found.title, found.unit, found.better) == ("gain over a fair coin", "bits", "higher")
    assert (found.decimals, found.matters, found.needs) == (3, 0.5, ("exact log p",))
    assert (found.origin, found.file) == (str(gain), gain)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"gain"', '"game"', "NAME: expected 'gain', as the file or the entry point is called, found 'game'"),
        ('NAME = "gain"', "", "NAME: expected 'gain', as the file or the entry point is called, found none"),
        ('"gain over a fair coin"', '""', "TITLE: expected a word or two, found ''"),
        ('"bits"', "1", "UNIT: expected a word or two, found 1"),
        ('"bits"', "unit()", r"UNIT: expected a constant, as the text alone is read, found UNIT = unit\(\)"),
        ('"higher"', '"more"', "BETTER: expected 'lower', 'higher' or 'neither', found 'more'"),
        ("DECIMALS = 3", "DECIMALS = True", "DECIMALS: expected a whole number from 0 to 10, found True"),
        ('("exact log p",)', '("exact",)', r"NEEDS: expected capabilities \(.*exact log p.*\), found \('exact',\)"),
        ("MATTERS = 0.5", "MATTERS = 0", "MATTERS: expected a number above 0, found 0"),
        ("MATTERS = 0.5", "", "MATTERS: expected the difference from which on it matters, .* found none"),
        ("def measure", "def value", r"expected one function measure\(subject\), found none"),
        ("measure(subject)", "measure(model, x)", r"expected measure\(subject\), found measure\(model, x\)"),
        ("measure(subject)", "measure()", r"expected measure\(subject\), found measure\(\)"),
        ("return (", "return ((", "expected Python, found"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_when_settings_are_read(gain, old, new, said):
    assert old in GAIN
    gain.write_text(GAIN.replace(old, new))
    with pytest.raises(ConfigError, match=f"^settings: {gain}: {said}"):
        load_settings({"metrics": [str(gain)]})


def test_names_that_are_taken_or_unknown_are_refused(gain, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "gain.py").write_text(GAIN)
    for asked, said in (
        ([gain, elsewhere / "gain.py"], "expected an unused name, found 'gain' twice"),
        (["nothing"], r"expected a file \(\*.py\) or the name of a metric \(.*\), found 'nothing'"),
        ([tmp_path / "no.py"], "expected a Python file, found none"),
        ([returning(tmp_path, "error", "1")], "NAME: expected a name that the harness has no use for, found 'error'"),
    ):
        with pytest.raises(ConfigError, match=said):
            load_settings({"metrics": [str(each) for each in asked]})


def test_values_per_row_have_their_mean_and_error_and_stand_among_the_rows(trained, gain):
    rows = measured_by(trained, "nade", gain)
    frame = per_row.read(RunFolder(trained / "nade")).to_pandas()
    own, likelihood = (frame[frame["metric"].eq(name)].set_index("row")["value"] for name in ("gain", "-log p"))
    expected = 12 - likelihood.loc[own.index] / math.log(2)
    assert len(own) == 40
    assert own.to_numpy() == pytest.approx(expected.to_numpy(), abs=1e-4)
    assert rows["gain"]["value"] == pytest.approx(own.mean())
    assert rows["gain"]["sem"] == pytest.approx(own.std() / math.sqrt(40))
    assert (rows["gain"]["unit"], rows["gain"]["better"], rows["gain"]["matters"]) == ("bits", "higher", 0.5)
    assert rows["gain"]["status"] == "ok"


def test_built_in_numbers_are_what_they_are_without(trained, tmp_path):
    alone = evaluate(trained / "bihm", cell("bihm"), patterns(), CPU, "smoke")
    drawing = returning(tmp_path, "drawing", "torch.rand(60, generator=subject.generator())")
    beside = measured_by(trained, "bihm", drawing)
    again = measured_by(trained, "bihm", drawing)
    for row in alone:
        assert [beside[row["metric"]][key] for key in ("value", "sem")] == [row["value"], row["sem"]]
        assert "unit" not in beside[row["metric"]]
    assert set(beside) == {*(row["metric"] for row in alone), "drawing"}
    assert again["drawing"]["value"] == beside["drawing"]["value"]
    assert beside["drawing"]["n_rows"] == 60


def test_numbers_and_their_errors(trained, tmp_path):
    paths = [
        returning(tmp_path, "number", "torch.tensor(2.5)"),
        returning(tmp_path, "pair", "3, 0.25"),
        returning(tmp_path, "other", "subject.measurement('-log p')['value'] / subject.model.n_visible"),
        returning(tmp_path, "mode", "float(subject.model.training)"),
    ]
    rows = measured_by(trained, "nade", *paths)
    assert (rows["number"]["value"], rows["number"]["sem"]) == (2.5, None)
    assert (rows["pair"]["value"], rows["pair"]["sem"]) == (3.0, 0.25)
    assert rows["other"]["value"] == rows["-log p"]["value"] / 12
    assert rows["mode"]["value"] == 0.0


@pytest.mark.parametrize(
    ("expression", "status", "said"),
    [
        ("float('nan')", "diverged", "bad came out as nan"),
        ("torch.full((40,), float('inf'))", "diverged", "bad came out as inf, not finite on 40 of 40 test rows"),
        ("1 / 0", "failed", "ZeroDivisionError: division by zero"),
        ("exit(3)", "failed", "SystemExit: 3"),
        ("torch.zeros(7)", "failed", "values of 40 or 60 test rows, found an array of shape [7]"),
        ("torch.zeros(40, 2)", "failed", "values of 40 or 60 test rows, found an array of shape [40, 2]"),
        ("None", "failed", "or values of 40 or 60 test rows, found None"),
        ("(1.0, -1.0)", "failed", "expected a standard error of 0 or more, found -1.0"),
    ],
)
def test_a_metric_that_fails_says_so_and_others_do_not_depend_on_it(trained, tmp_path, expression, status, said):
    paths = [returning(tmp_path, "bad", expression), returning(tmp_path, "good", "1.0")]
    rows = measured_by(trained, "nade", *paths)
    assert (rows["bad"]["value"], rows["bad"]["status"]) == (None, status)
    assert said in rows["bad"]["message"]
    assert rows["good"]["value"] == 1.0
    assert rows["-log p"]["status"] == "ok"


def test_a_model_without_the_capability_has_no_such_number(trained, gain):
    of_model = with_metrics(cell("bihm"), gain)
    assert of_model.evaluation.metrics == {}
    forced = replace(of_model, evaluation=replace(of_model.evaluation, metrics={"gain": "0"}))
    rows = evaluate(trained / "bihm", forced, patterns(), CPU, "smoke")
    assert "gain" not in {row["metric"] for row in rows}


def test_code_is_part_of_what_is_measured_and_not_of_what_is_trained(gain):
    asked = {"preset": "smoke", "metrics": [str(gain)]}
    without = resolve(load_settings({"preset": "smoke"}), "connect4", "nade")
    before = resolve(load_settings(asked), "connect4", "nade")
    gain.write_text(GAIN + "\n# changed\n")
    after = resolve(load_settings(asked), "connect4", "nade")
    assert without.training_digest == before.training_digest == after.training_digest
    assert "metrics" not in without.to_dict()["evaluation"]
    assert before.evaluation.metrics != after.evaluation.metrics
    assert Cell.from_dict(json.loads(json.dumps(after.to_dict()))) == after
    with pytest.raises(ConfigError, match=r"cell: evaluation\.metrics: gain: expected "):
        Evaluation.from_dict({**before.to_dict()["evaluation"], "metrics": {"gain": 1}})


def test_a_changed_file_is_what_runs(trained, tmp_path):
    path = returning(tmp_path, "value", "1.0")
    assert measured_by(trained, "nade", path)["value"]["value"] == 1.0
    returning(tmp_path, "value", "2.0")
    assert measured_by(trained, "nade", path)["value"]["value"] == 2.0


def run_of(folder, *values, **constants):
    """``metrics.parquet`` of four seeds of one model with these values of a metric; its file."""
    facts = {"preset": "smoke", "dataset": "adult", "method": "nade", "variant": "", "metric": "mine", "status": "ok"}
    facts |= {"data_digest": "d", "data_official": True, "kind": "ar", "k": 0, "n_rows": 0, "mc_error": 0.0, "sem": 0.1}
    rows = [{**facts, "seed": seed, "value": value, **constants} for seed, value in enumerate(values)]
    folder.mkdir()
    pd.DataFrame(rows).to_parquet(folder / "metrics.parquet")
    return folder / "metrics.parquet"


@pytest.mark.parametrize(("better", "word"), [("higher", "better"), ("lower", "worse"), ("neither", "changed")])
def test_the_check_knows_direction_and_size(tmp_path, better, word):
    own = {"unit": "points", "better": better, "matters": 3.0}
    noise = np.array([0.0, 0.02, -0.02, 0.01])
    earlier = run_of(tmp_path / "a", *(10 + noise), **own)
    later = run_of(tmp_path / "b", *(15 + noise), **own)
    rules = Rules.from_settings(load_settings())
    found, before = (summarize(pd.read_parquet(path), path) for path in (later, earlier))
    (verdict,) = compare_runs(found, before, rules)
    assert (verdict.verdict, verdict.size) == (word, 3.0)


def test_units_of_the_settings_have_their_sizes(tmp_path):
    path = run_of(tmp_path / "a", 50.0, 50.1, unit="percent", better="higher", matters=None)
    (number,) = summarize(pd.read_parquet(path), path).numbers.values()
    rules = Rules.from_settings(load_settings())
    assert rules.size(number.scale, 50.0) == rules.size(scale_of("ess p"), 50.0)


def test_metrics_without_a_direction_are_not_compared(tmp_path):
    path = run_of(tmp_path / "a", 1.0, 2.0, unit="nats", better="neither", matters=None)
    with pytest.raises(DataError, match="expected a metric of which more or less is better, found mine"):
        read_measured(path).compare(0.05, 0.8, "mine")


def test_the_list_says_what_rules_and_comparisons_say_of_built_in_metrics():
    for name, known in BUILT_IN.items():
        found = scale_of(name)
        assert (known.unit, known.better) == (found.unit, found.better)


def table_of(trained, folder, method, *paths):
    """The text, and the csv, of the table of metrics of one model."""
    of_model = with_metrics(cell(method), *paths)
    run = folder / of_model.path
    RunFolder(run).copy_training(RunFolder(trained / method), of_model)
    evaluate(run, of_model, patterns(), CPU, "smoke")
    settings = {"preset": "smoke", "metrics": [str(path) for path in paths]}
    table = own_metrics_table(read_metrics([of_model], folder), [PlannedCell("patterns", method, "")], settings)
    written = write_own_metrics(table, folder / "tables")
    assert [path.name for path in written] == ["metrics.csv", "metrics.md", "metrics.tex"]
    return written[1].read_text(), tidy(table).set_index("metric")


def test_the_table_has_numbers_statuses_and_reasons(trained, gain, tmp_path):
    text, frame = table_of(trained, tmp_path, "nade", gain, returning(tmp_path, "bad", "1 / 0"))
    assert "gain`: gain over a fair coin, bits; higher is better" in text
    assert with_error(frame.value["gain"], frame["sem"]["gain"], 3) in text
    assert (frame.status["bad"], frame.value["bad"]) == ("failed", None)
    assert "`bad` of patterns/nade: failed: ZeroDivisionError: division by zero." in text


def test_the_table_says_which_models_lack_a_capability(trained, gain, tmp_path):
    text, frame = table_of(trained, tmp_path, "bihm", gain, returning(tmp_path, "one", "1.0"))
    assert f"`gain` needs exact log p, not there for {listed('bihm').title}." in text
    assert str(tmp_path) not in text
    assert list(frame.index) == ["one"]


def test_tables_of_the_thesis_are_as_they_are_without(trained, tmp_path):
    """A metric that failed is no failure of the cell, whose other numbers it may lack for reasons of their own."""
    from harness.reporting.tables.pooling import pool, rows_by_cell

    of_model = with_metrics(cell("nade"), returning(tmp_path, "bad", "1 / 0"))
    run = tmp_path / of_model.path
    RunFolder(run).copy_training(RunFolder(trained / "nade"), of_model)
    evaluate(run, of_model, patterns(), CPU, "smoke")
    (rows,) = rows_by_cell(read_metrics([of_model], tmp_path), "smoke").values()
    assert pool(rows, "ess p") is None
    assert pool(rows, "bad").status == "failed"
    assert pool(rows, "-log p").status == "ok"


def test_one_line_of_settings_measures_again_and_trains_nothing(tmp_path):
    flow = Workflow(tmp_path)
    flow.settings["grid"] = only(factorised={"connect4": {}}, bihm={"connect4": {"model": {"layers": [8, 4]}}})
    flow("tables")
    assert not (flow.results / "tables" / "metrics.md").exists()
    paths = ("connect4/factorised/default/0", "connect4/bihm/default/0")
    weights = {path: (flow.run(path) / "model.safetensors").stat().st_mtime_ns for path in paths}
    gain = tmp_path / "gain.py"
    gain.write_text(GAIN)
    flow.settings["metrics"] = [str(gain)]
    jobs = flow.jobs("tables")
    assert jobs["run_model"] == 1  # the other model lacks the capability
    printed = flow("tables")
    assert "gain: gain over a fair coin, bits; higher is better" in printed
    frame = pd.read_parquet(flow.results / "metrics.parquet")
    (own,) = frame[frame["metric"].eq("gain")].to_dict("records")
    assert (own["method"], own["status"], own["unit"]) == ("factorised", "ok", "bits")
    row = pd.read_csv(flow.results / "tables" / "metrics.csv").set_index("metric").loc["gain"]
    assert row["value"] == pytest.approx(own["value"])
    report = tmp_path / "report.html"
    given = ["--settings", str(flow.recorded_settings()), "--runs", str(flow.results / "runs")]
    assert main(["report", *given, "--figures", "--output", str(report)]) == 0
    number = with_error(row["value"], row["sem"], 3)
    assert f'<a href="#run-connect4-factorised">{number}</a>' in report.read_text()
    assert '<a href="#metrics">Metrics</a>' in report.read_text()
    assert flow.jobs("tables") == {}
    gain.write_text(GAIN.replace("x.shape[1]", "x.shape[1] + 1000.0"))
    assert flow.jobs("tables")["run_model"] == 1
    flow("tables", "metrics")
    again = pd.read_csv(flow.results / "tables" / "metrics.csv").set_index("metric").loc["gain"]
    assert again["value"] == pytest.approx(own["value"] + 1000.0)
    assert {path: (flow.run(path) / "model.safetensors").stat().st_mtime_ns for path in paths} == weights


def test_the_table_needs_metrics(tmp_path, capsys):
    assert main(["tables", "metrics", "--runs", str(tmp_path), "--output", str(tmp_path)]) == 3
    assert "table metrics: expected metrics in the settings, found none" in capsys.readouterr().err


def test_own_metrics_are_those_of_files_and_packages(gain):
    use_metrics([str(gain)])
    assert "gain" in metrics.own_metrics()
