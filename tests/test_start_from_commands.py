"""Cells that start from others, on the command line and from Python."""

import json
import shutil

import pandas as pd
import pytest
import torch
from cells import NO_CELLS
from test_workflow import only

import harness
from harness.cli import main
from harness.errors import HarnessError
from harness.plugins import registry
from harness.storage.records import read_json, write_json
from harness.storage.runs import DIVERGED, FAILED, UNAVAILABLE, RunFolder

MODEL = {"model": {"hidden": 4}}
TRAINING = {"phases": [{"updates": 3, "learning_rate": 0.01, "n_samples": 1}], "validation_rows": 20}
SOURCE, STARTED = "connect4/nade/default/0", "connect4/nade/started/0"


class Commands:
    """Calls of ``harness`` for two cells whose runs lie in a folder of their own."""

    def __init__(self, folder):
        self.runs = folder / "results" / "runs"
        self.settings = {
            **NO_CELLS,
            "preset": "smoke",
            "data": {"cache": str(folder / "cache"), "mirrors": [], "download": False},
            "grid": only(nade={"connect4": MODEL, "connect4/started": MODEL}),
            "budgets": {
                "nade": {
                    "*": {"training": dict(TRAINING), "evaluation": {"rows": 20}},
                    "connect4/started": {"training": {"start_from": "nade/connect4"}},
                }
            },
        }

    def __call__(self, path, verb="run", *more):
        dataset, method, variant, _ = path.split("/")
        named = ["--dataset", dataset, "--method", method, "--variant", variant, "--run", str(self.runs / path)]
        return main([verb, *named, "--settings", json.dumps(self.settings), *more])

    def run(self, path):
        return RunFolder(self.runs / path)


@pytest.fixture(name="commands")
def commands_in_a_folder(tmp_path):
    return Commands(tmp_path)


def test_run_wants_what_it_starts_from_trained_and_says_how(commands, capsys):
    assert commands(STARTED) == HarnessError.exit_code
    assert f"harness: {STARTED}: starts from {SOURCE}, which is not trained; `harness run" in capsys.readouterr().err
    assert not commands.run(STARTED).status_file.exists()
    assert commands(SOURCE) == 0
    assert commands(STARTED) == 0
    rows = commands.run(STARTED).measurements()
    assert {row["started_from"] for row in rows} == {f"{SOURCE}, after 3 updates"}
    assert "started_from" not in commands.run(SOURCE).measurements()[0]
    assert commands(STARTED, "train") == 0  # once more, from the same weights
    assert commands.run(STARTED).status()["model_sha256"] == rows[0]["model_sha256"]
    capsys.readouterr()
    assert main(["show", str(commands.run(STARTED))]) == 0
    shown = capsys.readouterr().out
    assert f"started from {SOURCE}, after 3 updates: 6 in all" in shown
    assert "taken: " in shown
    assert "left: " not in shown


@pytest.mark.parametrize("status", [DIVERGED, UNAVAILABLE, FAILED])
def test_a_cell_ends_as_the_one_without_a_model_that_it_starts_from(commands, status, capsys):
    assert commands(SOURCE) == 0
    source = commands.run(SOURCE)
    facts = source.status()
    if status != DIVERGED:
        del facts["training_digest"]
    write_json(source.status_file, {**facts, "status": status, "message": "as it went"})
    assert commands(STARTED) == 0
    expected = f"starts from {SOURCE}, which is {status} (as it went)"
    found = commands.run(STARTED).status()
    assert (found["status"], found["message"]) == (status, expected)
    (row,) = commands.run(STARTED).measurements()
    assert (row["status"], row["message"], row["value"]) == (status, expected, None)
    commands.settings["budgets"]["nade"]["*"]["training"]["l1"] = 0.5  # of which nothing is known
    assert commands(STARTED) == HarnessError.exit_code
    assert f"starts from {SOURCE}, which has no model in {source}: {status} (as it went)" in capsys.readouterr().err


def test_repetitions_side_by_side_start_from_theirs(commands, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.cli.options.results_of", lambda settings: tmp_path / "results")
    commands.settings["seeds"] = 2
    named = ["--dataset", "connect4", "--method", "nade", "--settings", json.dumps(commands.settings), "--seeds", "2"]
    assert main(["run", *named]) == 0
    assert main(["run", *named, "--variant", "started"]) == 0
    for seed in ("0", "1"):
        status = commands.run(f"connect4/nade/started/{seed}").status()
        source = commands.run(f"connect4/nade/default/{seed}").status()
        assert status["started_from"]["model_sha256"] == source["model_sha256"]


class Sharpened(harness.Method):
    """Independent Bernoullis that know the names of another model's biases."""

    name, title, kind, source = "sharpened", "Sharpened", "control", "a test"

    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.logits = torch.nn.Parameter(torch.zeros(n_visible))

    def take_weights(self, weights):
        return {"logits": weights["visible_bias"]}

    def log_prob(self, x):
        logits = self.logits.expand_as(x)
        return -torch.nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)

    def loss(self, batch, n_samples, generator):
        return -self.log_prob(batch.x).mean()


def test_runs_from_python_start_from_others(commands, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_objects", {})
    monkeypatch.setattr("harness.api.run.ROOT", tmp_path)
    settings = {key: value for key, value in commands.settings.items() if key != "preset"}
    more = {"preset": "smoke", "settings": settings}
    with pytest.raises(HarnessError, match=f"{STARTED}: starts from {SOURCE}, which is not trained"):
        harness.run("connect4", "nade", variant="started", **more)
    first = harness.run("connect4", "nade", **more)
    second = harness.run("connect4", "nade", variant="started", **more)
    assert second.status["started_from"]["model_sha256"] == first.status["model_sha256"]
    training = {**TRAINING, "start_from": "nade/connect4"}
    third = harness.run("connect4", Sharpened, training=training, **more)
    assert third.status["started_from"]["taken"] == ["logits"]
    assert third.cell.training.start_from.path == SOURCE
    again = harness.run("connect4", Sharpened, training=training, **more)
    assert read_json(again.folder / "status.json") == third.status


def test_what_is_published_and_reported_says_what_it_started_from(commands, tmp_path):
    assert commands(SOURCE) == 0
    assert commands(STARTED) == 0
    results, published, settings = commands.runs.parent, tmp_path / "published", json.dumps(commands.settings)
    assert main(["publish", "--settings", settings, "--results", str(results), "--output", str(published)]) == 0
    metrics = pd.read_parquet(published / "metrics.parquet")
    told = f"{SOURCE}, after 3 updates"
    assert set(metrics[metrics["variant"] == "started"]["started_from"]) == {told}
    assert metrics[metrics["variant"] == ""]["started_from"].isna().all()
    lines = pd.read_csv(published / "runs.csv", keep_default_na=False).set_index("variant")
    assert json.loads(lines.loc["started", "training"])["start_from"]["seed"] == 0
    assert "start_from" not in json.loads(lines.loc["", "training"])
    page = (published / "tables" / "table_3_1.md").read_text().replace("\\", "")
    assert f"whose updates come on top of its own: NADE (started) on connect4 (from {told})." in page
    again = ["publish", "--settings", settings, "--results", str(results), "--output", str(published), "--add"]
    shutil.rmtree(commands.run(STARTED).path)
    assert main(again) == 0  # with the published one in the place of what is gone
    kept = pd.read_parquet(published / "metrics.parquet")
    assert set(kept[kept["variant"] == "started"]["started_from"]) == {told}
    assert commands(STARTED) == 0
    gathered = tmp_path / "report" / "metrics.parquet"
    assert main(["metrics", "--settings", settings, "--runs", str(commands.runs), "--output", str(gathered)]) == 0
    report = tmp_path / "report" / "report.html"
    figures = ["--runs", str(commands.runs), "--figures", "--output", str(report)]
    assert main(["report", "--settings", settings, *figures]) == 0
    assert told in report.read_text(encoding="utf-8")
