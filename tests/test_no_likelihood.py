"""Methods that can be trained and sampled from but not measured: every table says so, and nothing crashes."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from cells import cell, patterns

from harness.errors import ConfigError
from harness.evaluation.evaluate import evaluate
from harness.plugins.registry import use_files
from harness.reporting.tables import PlannedCell, write_tables
from harness.storage.measurements import NUMBERS
from harness.storage.records import read_json
from harness.storage.runs import OK
from harness.training.train import train

HEAD = """
import torch

from harness.method import Method


class Dreamer(Method):
    name, title, kind, source = "dreamer", "Dreamer", "latent", "a test"

    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.bias = torch.nn.Parameter(torch.zeros(n_visible))

    def sample(self, n, generator):
        return (torch.rand(n, self.n_visible, generator=generator) < torch.sigmoid(self.bias)).float()
"""
TRAINED_BY = {
    "loss": """
    def loss(self, batch, n_samples, generator):
        return (batch.x.mean(0) - torch.sigmoid(self.bias)).square().sum()
""",
    "gradients": """
    def accumulate_gradients(self, batch, n_samples, generator):
        mean = torch.sigmoid(self.bias).detach()
        missed = batch.x.mean(0) - mean
        self.bias.grad -= 2 * missed * mean * (1 - mean)
        return missed.square().sum()
""",
    "closed form": """
    def fit(self, train):
        self.bias.data = torch.logit(train.x.mean(0).clamp(0.01, 0.99))
""",
}
CPU = torch.device("cpu")


@pytest.fixture(name="dreamer")
def _dreamer(tmp_path):
    def write(trained_by, folder=tmp_path):
        folder.mkdir(exist_ok=True)
        path = folder / "dreamer.py"
        path.write_text(HEAD + TRAINED_BY[trained_by])
        use_files([path])
        return replace(cell("factorised"), method="dreamer", dataset="adult")

    yield write
    use_files([])


@pytest.mark.parametrize("trained_by", TRAINED_BY)
def test_it_is_trained_and_says_why_it_is_not_measured(trained_by, dreamer, tmp_path):
    run, chosen = tmp_path / "run", dreamer(trained_by)
    assert train(chosen, patterns(), run, CPU) == OK
    (row,) = evaluate(run, chosen, patterns(), CPU, "smoke")
    assert (row["metric"], row["value"], row["status"]) == ("", None, "no likelihood")
    assert row["message"] == "dreamer has none of log_prob, log_weights, log_unnormalised and log_label_prob"
    assert read_json(run / "status.json")["status"] == "ok"


def test_its_own_loss_decides_when_training_ends(dreamer, tmp_path):
    """By automatic differentiation and by hand alike; looking at the validation rows leaves no gradient behind."""
    curves = {}
    for trained_by in ("loss", "gradients"):
        run = tmp_path / trained_by
        train(dreamer(trained_by, run), patterns(), run, CPU)
        curves[trained_by] = pd.read_csv(run / "curve.csv")
        assert curves[trained_by].valid_sem.notna().all()
    curve = curves["loss"]
    assert curve.valid_loss.iloc[-1] < 0.8 * curve.valid_loss.iloc[0]
    pd.testing.assert_series_equal(curve.valid_loss, curves["gradients"].valid_loss, rtol=1e-5)


def test_without_even_a_loss_there_is_nothing_to_watch(dreamer, tmp_path):
    train(dreamer("closed form"), patterns(), tmp_path, CPU)
    assert pd.read_csv(tmp_path / "curve.csv").valid_loss.isna().all()


def test_its_cell_says_so_beside_those_that_are_measured(dreamer, tmp_path):
    run, chosen = tmp_path / "run", dreamer("loss")
    other = replace(cell("factorised"), dataset="adult")
    rows = []
    for each in (chosen, other):
        train(each, patterns(), run, CPU)
        rows += evaluate(run, each, patterns(), CPU, "smoke")
    metrics = pd.DataFrame(rows)
    for column in NUMBERS:
        metrics[column] = pd.to_numeric(metrics.get(column))
    planned = [PlannedCell(each.dataset, each.method, each.variant) for each in (chosen, other)]
    write_tables(metrics, planned, "smoke", tmp_path / "tables")
    table = pd.read_csv(tmp_path / "tables" / "table_3_1.csv", keep_default_na=False).set_index(["dataset", "method"])
    assert table.loc[("adult", "dreamer"), ["value", "status"]].tolist() == ["", "no likelihood"]
    assert table.loc[("adult", "factorised"), "status"] == "ok"
    text = (tmp_path / "tables" / "table_3_1.md").read_text()
    assert "| no likelihood |" in text.replace("  ", " ").replace("  ", " ")
    why = "dreamer has none of log_prob, log_weights, log_unnormalised and log_label_prob"
    assert f"no likelihood: adult (Dreamer): {why}\n" in text


def test_a_budget_without_phases_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"patterns/nade/default/0: training\.phases: expected at least one"):
        train(cell("nade", phases=()), patterns(), tmp_path, CPU)
