"""The Python face: what ``import harness`` offers does what the command line does, for classes of one's own as well."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from cells import MODELS
from harness.methods.nade import NADE

import harness
from harness.cli import main
from harness.compute.places import PUBLISHED
from harness.errors import ConfigError, DataError, HarnessError
from harness.plugins import registry
from harness.storage.runs import OK

SETTINGS = {"data": {"mirrors": [], "download": False}}
SMALL = {"phases": [{"updates": 6, "learning_rate": 0.05, "n_samples": 2}], "validate_every": 3, "validation_rows": 50}
QUICK = {"n_samples": 5, "rows": 40, "z_outer": 50}


class Biases(harness.Method):
    """Independent Bernoullis, by gradients."""

    name, title, kind, source = "biases", "Biases", "control", "a test"

    def __init__(self, n_visible: int, start: float = 0.0):
        super().__init__(n_visible)
        self.bias = torch.nn.Parameter(torch.full((n_visible,), start))

    def log_prob(self, x):
        logits = self.bias.expand_as(x)
        return -torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)

    def loss(self, batch, n_samples, generator):
        return -self.log_prob(batch.x).mean()


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_objects", {})
    monkeypatch.setitem(SETTINGS["data"], "cache", str(tmp_path / "cache"))


def run(method, folder, **more):
    return harness.run(
        "connect4",
        method,
        preset="smoke",
        folder=folder,
        settings=SETTINGS,
        **{"training": SMALL, "evaluation": QUICK} | more,
    )


def test_importing_it_loads_nothing_heavy():
    code = "import sys, harness; dir(harness); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "pandas", "numpy", "scipy"} & set(loaded)
    assert set(harness.__all__) <= set(dir(harness))
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        harness.nonesuch  # noqa: B018


def test_it_is_the_run_of_the_command_line(tmp_path):
    import json

    model = MODELS["bihm"]
    ours = run("bihm", tmp_path / "ours", model=model)
    cell = {"connect4": {"model": model, "training": SMALL, "evaluation": QUICK}}
    settings = json.dumps({**SETTINGS, "grid": {"bihm": cell}})
    named = ["--dataset", "connect4", "--method", "bihm", "--run", str(tmp_path / "theirs")]
    assert main(["run", "--preset", "smoke", "--settings", settings, *named]) == 0
    theirs = harness.Run.of_folder(tmp_path / "theirs")
    assert ours.cell == theirs.cell
    assert ours.status["model_sha256"] == theirs.status["model_sha256"]
    columns = ["metric", "value", "sem"]
    pd.testing.assert_frame_equal(ours.metrics[columns], theirs.metrics[columns])
    pd.testing.assert_frame_equal(ours.rows, theirs.rows)
    assert list(ours.curve["update"]) == [0, 3, 6]


def test_what_is_done_is_not_done_again_and_what_changed_is(tmp_path, monkeypatch):
    first = run("nade", tmp_path / "run", model={"hidden": 4})
    done = (first.folder / "status.json").read_bytes(), (first.folder / "metrics.json").stat().st_mtime_ns
    again = run("nade", tmp_path / "run", model={"hidden": 4})
    assert ((again.folder / "status.json").read_bytes(), (again.folder / "metrics.json").stat().st_mtime_ns) == done
    other = run("nade", tmp_path / "run", model={"hidden": 4}, evaluation={"rows": 20})
    assert (other.folder / "status.json").read_bytes() == done[0]
    assert (other.folder / "metrics.json").stat().st_mtime_ns != done[1]
    assert run("nade", tmp_path / "run", model={"hidden": 3}).cell.model["hidden"] == 3
    assert (other.folder / "status.json").read_bytes() != done[0]


def test_a_finished_training_on_other_threads_is_not_replaced(tmp_path):
    first = run("nade", tmp_path / "run", model={"hidden": 4})
    done = (first.folder / "status.json").read_bytes()
    with pytest.raises(ConfigError, match=r"expected a training on 2 threads, found a finished one on 1 \(6 updates"):
        run("nade", tmp_path / "run", model={"hidden": 4}, threads=2)
    assert (first.folder / "status.json").read_bytes() == done


def test_log_probabilities_come_with_their_errors(tmp_path):
    rows = harness.load_dataset("connect4", SETTINGS).test[:4]
    exact = run(Biases, tmp_path / "exact").log_prob(rows)
    assert exact.value.shape == exact.error.shape == (4,)
    assert (exact.error == 0).all()
    estimated = run("bihm", tmp_path / "estimated", model={"layers": [8, 4]})
    few, many = (estimated.log_prob(rows, n_samples=k) for k in (100, 10_000))
    assert (many.error > 0).all()
    assert (many.error < few.error).all()
    assert (np.abs(few.value - many.value) < 6 * np.hypot(few.error, many.error)).all()
    annealed = run("rbm", tmp_path / "annealed", model={"hidden": 4}, evaluation={**QUICK, "z_inner": 200})
    found, metrics = annealed.log_prob(harness.load_dataset("connect4", SETTINGS).test), annealed.metrics
    value = metrics.set_index("metric").loc["-log p", "value"]
    assert -found.value.mean() == pytest.approx(value, abs=1e-3)
    assert len(set(found.error)) == 1  # that of log Z, which all rows share
    with pytest.raises(HarnessError, match=r"expected rows of 126 columns, found an array of shape \(4, 5\)"):
        estimated.log_prob(rows[:, :5])


def test_a_class_of_ones_own_is_trained_verified_and_trained_again_when_it_changes(tmp_path):
    first = run(Biases, tmp_path / "run", model={"start": 0.5})
    assert first.cell.model == {"start": 0.5}
    assert isinstance(first.model(), Biases)
    with pytest.raises(ConfigError, match=r"defaults\.training: .*'l2'"):
        run(Biases, tmp_path / "run", training={"l2": 0.5})
    with pytest.raises(ConfigError, match=r"model of method biases: .*'strat'"):
        run(Biases, tmp_path / "run", model={"strat": 0.5})
    checks = harness.verify(Biases)
    assert set(checks["verdict"]) == {"passed", "not applicable"}

    class Changed(Biases):
        def loss(self, batch, n_samples, generator):
            return -self.log_prob(batch.x).mean() + 0.1 * self.bias.square().sum()

    before = first.status["model_sha256"]
    assert run(Biases, tmp_path / "run", model={"start": 0.5}).status["model_sha256"] == before
    assert run(Changed, tmp_path / "run", model={"start": 0.5}).status["model_sha256"] != before


def test_an_instance_is_copied_and_left_untrained(tmp_path):
    instance = Biases(126, start=-1.0)
    trained = run(instance, tmp_path / "run")
    assert (instance.bias == -1.0).all()
    assert not (trained.model().bias == -1.0).any()
    nade = run(NADE(126, hidden=3), tmp_path / "built in")
    assert nade.model().input_weight.shape == (126, 3)
    assert run("nade", tmp_path / "named", model={"hidden": 4}).model().input_weight.shape == (126, 4)
    with pytest.raises(ConfigError, match="device: expected auto, cpu"):
        run(Biases, tmp_path / "device", device="gpuu")
    with pytest.raises(ConfigError, match="expected an instance for 126 columns, found one for 7"):
        run(Biases(7), tmp_path / "other")


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (torch.nn.Linear, "expected the name of one, a Method class or an instance"),
        (type("Bihm", (Biases,), {"name": "bihm"}), "expected a name of its own, found 'bihm': built in"),
        (type("Odd", (Biases,), {"name": "a/b"}), "method Odd"),
        ("nonesuch", "expected method/data set/variant out of"),
    ],
)
def test_what_is_no_method_is_one_error(method, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        run(method, tmp_path)


def test_results_are_read_from_a_folder():
    found = harness.results(PUBLISHED / "quick")
    assert {"metric", "value", "sem"} <= set(found.metrics)
    assert len(found.runs) > 100
    assert {"dataset", "method"} <= set(found.table("3.1"))
    assert "value" in found.figure_data("3.3")
    assert len(harness.results(PUBLISHED / "long").searches) > 100
    with pytest.raises(DataError, match=r"table_9_9\.csv"):
        found.table("9.9")
    with pytest.raises(DataError, match="expected a folder with results"):
        harness.results("no/such/folder")


def test_runs_of_a_folder_are_listed_while_they_are_made(tmp_path):
    made = run(Biases, tmp_path / "runs" / "connect4" / "biases" / "default" / "0")
    found = harness.results(tmp_path)
    (line,) = found.runs.to_dict("records")
    assert line["status"] == OK
    assert found.run("connect4", "biases").cell == made.cell


CELL = ["dataset", "method", "variant"]


def test_two_runs_are_compared():
    quick, long = PUBLISHED / "quick", PUBLISHED / "long"  # each has cells of its own
    runs = {folder: harness.results(folder).runs for folder in (quick, long)}
    cells = {
        folder: set(found.loc[found["status"] == OK, CELL].itertuples(index=False, name=None))
        for folder, found in runs.items()
    }
    for ours, theirs in ((quick, long), (long, quick)):
        found = harness.compare(ours, theirs)
        assert set(found["verdict"]) == {"changed", "cannot tell", "reproduced", "new", "gone"}
        cell = pd.Series(found[CELL].itertuples(index=False, name=None), index=found.index)
        assert set(found["verdict"][cell.isin(cells[ours] - cells[theirs])]) == {"new"}
        assert set(found["verdict"][cell.isin(cells[theirs] - cells[ours])]) == {"gone"}
    assert set(harness.compare(long, long)["verdict"]) == {"identical"}


def test_a_folder_is_checked():
    found = harness.results(PUBLISHED / "long").check(PUBLISHED / "long")
    assert set(found["against"]) == {"thesis", "earlier run"}
    of_run = found[found["against"] == "earlier run"]
    assert set(of_run["verdict"]) == {"reproduced"}
