"""The training loop: phases, early stopping, penalties, statuses, and resuming bit for bit after a kill."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from cells import MODELS, WITH_LABELS, cell, patterns, train_until
from enumerable import zero_gradients
from safetensors.torch import load_file
from torch import nn

from harness.data import CATALOGUE, DataSettings, fetch
from harness.errors import ConfigError, DataError
from harness.evaluation.evaluate import evaluate
from harness.evaluation.measure import measure
from harness.settings.parts import Labels, Phase
from harness.storage import checkpoint, snapshots, weights
from harness.storage.records import file_digest
from harness.storage.runs import DIVERGED, OK, TIMEOUT, RunFolder
from harness.training.batches import Rows, TrainingBatches, balanced_rows
from harness.training.flat import FlatParameters
from harness.training.state import new_model
from harness.training.train import Trainer, train

CPU = torch.device("cpu")
LABELS = Labels(rows=30, per_batch=5)


def trained(tmp_path, method="bihm", **training):
    if method in WITH_LABELS:
        training["labels"] = LABELS
    run, chosen = tmp_path / method, cell(method, **training)
    assert train(chosen, patterns(), run, CPU) == OK
    return run, chosen


@pytest.mark.parametrize("method", MODELS)
def test_every_method_learns_is_stored_and_measured(method, tmp_path):
    run, chosen = trained(tmp_path, method)
    assert {path.name for path in run.iterdir()} == {"config.json", "curve.csv", "model.safetensors", "status.json"}
    assert RunFolder(run).config() == chosen
    curve = pd.read_csv(run / "curve.csv")
    if method != "factorised":
        assert curve.valid_loss.min() < curve.valid_loss.iloc[0]
        assert list(curve["update"]) == [0, 20, 40, 60, 80, 90]
    measured = {row["metric"]: row for row in evaluate(run, chosen, patterns(), CPU, "smoke")}
    sampled = {"-log p", "bound -log p", "ess p"}
    of_p_star = {*sampled, "-log p~", "-log p~*", "ess p*", "-log p*", "-2 log Z"}
    labels = {"bound -log p*", "-log p~*(y|x)", "error"}
    expected = {
        "nade": {"-log p"},
        "factorised": {"-log p"},
        "bihm": of_p_star,
        "ssl_bihm": of_p_star | labels,
        "ssl_bihm_low": of_p_star | labels,
        "label_mlp": {"-log p(y|x)", "error"},
        "label_logistic": {"-log p(y|x)", "error"},
    }.get(method, sampled)
    assert set(measured) == expected
    assert all(math.isfinite(row["value"]) and row["sem"] >= 0 for row in measured.values())
    if "-2 log Z" in expected:
        identity = measured["-log p~*"]["value"] - measured["-2 log Z"]["value"]
        assert measured["-log p*"]["value"] == pytest.approx(identity, abs=1e-9)
    if method in WITH_LABELS:
        (metric,) = (metric for metric in expected if metric.endswith("(y|x)"))
        assert measured[metric]["value"] > 0
        assert measured[metric]["message"] == ""


@pytest.mark.parametrize("method", [name for name in MODELS if name != "factorised"])
def test_a_run_is_a_function_of_its_cell(method, tmp_path):
    first, _ = trained(tmp_path / "1", method)
    second, _ = trained(tmp_path / "2", method)
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


@pytest.mark.parametrize("method", [name for name in MODELS if name != "factorised"])
@pytest.mark.parametrize("stop_after", [1, 33, 60, 75])
def test_stopping_and_going_on_changes_no_bit(method, stop_after, tmp_path):
    """Inside a phase, at its end and in the next one; never writes a checkpoint but when stopped."""
    undisturbed, chosen = trained(tmp_path / "undisturbed", method, checkpoint_every_s=1e9)
    run = tmp_path / "stopped"
    train_until(chosen, run, stop_after)
    assert not (run / "status.json").exists()
    assert train(chosen, patterns(), run, CPU) == OK
    assert (run / "model.safetensors").read_bytes() == (undisturbed / "model.safetensors").read_bytes()
    curves = [pd.read_csv(folder / "curve.csv").drop(columns="seconds") for folder in (run, undisturbed)]
    pd.testing.assert_frame_equal(*curves)
    assert not RunFolder(run).checkpoint_file.exists()


def test_snapshots_are_spaced_by_logarithms_and_change_no_weight(tmp_path):
    plain, chosen = trained(tmp_path / "plain")
    run, asking = trained(tmp_path / "asking", snapshots=5)
    expected = snapshots.updates(asking.training)
    assert (expected[0], expected[-1], len(expected)) == (1, 90, 4)  # of 0.09, 0.5, 3, 16 and 90, two fall on one
    assert sorted(int(path.stem) for path in (run / "snapshots").iterdir()) == expected
    assert (run / "model.safetensors").read_bytes() == (plain / "model.safetensors").read_bytes()
    assert asking.training_digest == chosen.training_digest
    assert snapshots.updates(chosen.training) == []
    assert snapshots.updates(replace(asking.training, phases=())) == []


def test_a_snapshot_holds_the_weights_after_its_update(tmp_path):
    run, chosen = trained(tmp_path / "long", snapshots=5)
    until = replace(chosen.training, phases=(Phase(16, 1e-2, 4),), snapshots=1)
    short = tmp_path / "short"
    train(replace(chosen, training=until), patterns(), short, CPU)
    found, expected = new_model(chosen, 12), new_model(chosen, 12)
    RunFolder(run).load_snapshot(16, found, chosen)
    path = RunFolder(short).snapshot_file(16)
    weights.load(path, expected, file_digest(path))
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in found.state_dict().items())


@pytest.mark.parametrize("method", ["bihm", "vae"])
def test_a_stopped_run_keeps_its_snapshots(method, tmp_path):
    undisturbed, chosen = trained(tmp_path / "undisturbed", method, checkpoint_every_s=1e9, snapshots=8)
    run = tmp_path / "stopped"
    train_until(chosen, run, 33)
    early = {path.name: path.stat().st_mtime_ns for path in (run / "snapshots").iterdir()}
    assert 2 < len(early) < len(snapshots.updates(chosen.training))
    assert train(chosen, patterns(), run, CPU) == OK
    for path in (undisturbed / "snapshots").iterdir():
        assert (run / "snapshots" / path.name).read_bytes() == path.read_bytes()
    assert {name: (run / "snapshots" / name).stat().st_mtime_ns for name in early} == early


def test_a_run_that_lost_a_snapshot_is_trained_again(tmp_path):
    run, chosen = trained(tmp_path, snapshots=8)
    folder = RunFolder(run)
    assert folder.is_trained(chosen, "0")
    assert folder.is_trained(cell(), "0")
    assert not folder.is_trained(cell(snapshots=9), "0")
    path = folder.snapshot_file(snapshots.updates(chosen.training)[1])
    content = path.read_bytes()
    path.unlink()
    assert not folder.is_trained(chosen, "0")
    train_until(chosen, run, 33)
    path.unlink()  # a checkpoint alone cannot bring it back
    folder.snapshot_file(12345).write_bytes(b"of another budget")
    assert train(chosen, patterns(), run, CPU) == OK
    assert path.read_bytes() == content
    assert not folder.snapshot_file(12345).exists()


@pytest.mark.slow
def test_three_sigkills_at_random_moments_change_no_byte(tmp_path):
    """The command line on real data: connect4, made from the rules of the game, so no file is needed."""
    cache = DataSettings(cache=tmp_path / "cache", mirrors=(), download=False, paths={}, timeout_s=1)
    fetch("connect4", cache)
    settings = {
        "data": {"cache": str(tmp_path / "cache"), "mirrors": [], "download": False},
        "device": "cpu",
        "grid": {"bihm": {"connect4": {"model": {"layers": [40, 20]}}}},
        "budgets": {
            "bihm": {
                "connect4": {
                    "training": {
                        "phases": [
                            {"updates": 500, "learning_rate": 0.01, "n_samples": 5},
                            {"updates": 200, "learning_rate": 0.001, "n_samples": 5},
                        ],
                        "validate_every": 50,
                        "checkpoint_every_s": 0.05,
                        "snapshots": 6,
                    }
                }
            }
        },
    }
    arguments = ["train", "--settings", json.dumps(settings), "--dataset", "connect4", "--method", "bihm"]

    def command(run):
        return [sys.executable, "-m", "harness", *arguments, "--run", str(run)]

    subprocess.run(command(tmp_path / "undisturbed"), check=True, capture_output=True)
    rng = np.random.default_rng(int.from_bytes(os.urandom(4), "big"))
    run, kills = tmp_path / "killed", []
    for moment in sorted(rng.integers(1, 400, size=3)):  # updates, for a quick machine is done within a second
        process = subprocess.Popen(command(run), stderr=subprocess.DEVNULL)
        wait_for(lambda process=process, moment=moment: checkpoint_update(run) >= moment or process.poll() is not None)
        time.sleep(rng.uniform(0.0, 0.02))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        kills.append(checkpoint_update(run))
    subprocess.run(command(run), check=True, capture_output=True)
    assert kills == sorted(kills)
    assert files_of(run) == files_of(tmp_path / "undisturbed")
    assert len(files_of(run)) == 7


def files_of(run):
    """Name -> bytes of all weights in the folder of a run."""
    return {path.relative_to(run): path.read_bytes() for path in run.glob("**/*.safetensors")}


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def checkpoint_update(run):
    """Updates up to the newest checkpoint, -1 before the first."""
    from safetensors import safe_open

    if not RunFolder(run).checkpoint_file.exists():
        return -1
    with safe_open(RunFolder(run).checkpoint_file, framework="pt") as file:
        return json.loads(file.metadata()["bihm-harness"])["state"]["update"]


def test_sigterm_leaves_a_checkpoint_and_the_code_of_a_stop(tmp_path):
    fetch("connect4", DataSettings(cache=tmp_path / "cache", mirrors=(), download=False, paths={}, timeout_s=1))
    settings = {
        "data": {"cache": str(tmp_path / "cache"), "mirrors": [], "download": False},
        "budgets": {"nade": {"connect4": {"training": {"checkpoint_every_s": 1e6}}}},
    }
    run = tmp_path / "run"
    arguments = ["--dataset", "connect4", "--method", "nade", "--run", str(run), "--settings", json.dumps(settings)]
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "train", *arguments], stderr=subprocess.PIPE, text=True
    )
    lines = []
    while "update" not in (line := process.stderr.readline()):
        lines.append(line)
        assert line, lines
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    assert RunFolder(run).checkpoint_file.exists()
    assert not (run / "status.json").exists()


def test_a_checkpoint_of_another_configuration_or_a_broken_one_is_not_continued(tmp_path):
    run = tmp_path / "run"
    train_until(cell(), run, 33)
    path = RunFolder(run).checkpoint_file
    other = cell(l1=2e-3)
    like = load_file(path)
    assert checkpoint.load(path, f"{cell().training_digest} 0 cpu", like, ("update",)) is not None
    assert checkpoint.load(path, f"{other.training_digest} 0 cpu", like, ("update",)) is None
    path.write_bytes(path.read_bytes()[:100])
    assert checkpoint.load(path, f"{cell().training_digest} 0 cpu", like, ("update",)) is None
    assert train(cell(), patterns(), run, CPU) == OK
    fresh, _ = trained(tmp_path / "fresh")
    assert (run / "model.safetensors").read_bytes() == (fresh / "model.safetensors").read_bytes()


def test_divergence_is_a_status_and_leaves_no_model(tmp_path):
    run = tmp_path / "run"
    chosen = cell("vae", phases=(Phase(60, 1e6, 1),))
    assert train(chosen, patterns(), run, CPU) == DIVERGED
    assert not (run / "model.safetensors").exists()
    rows = evaluate(run, chosen, patterns(), CPU, "smoke")
    assert [(row["metric"], row["value"], row["status"]) for row in rows] == [("", None, DIVERGED)]
    assert "not finite" in rows[0]["message"]


def test_time_limit_keeps_the_best_weights(tmp_path):
    run = tmp_path / "run"
    chosen = cell(time_limit_s=1e-6, validate_every=1)
    assert train(chosen, patterns(), run, CPU) == TIMEOUT
    rows = evaluate(run, chosen, patterns(), CPU, "smoke")
    assert rows[0]["status"] == TIMEOUT
    assert rows[0]["value"] is not None


def test_early_stopping_ends_a_phase_and_keeps_the_best_weights(tmp_path):
    """A learning rate far too large never improves after some point; the second phase starts from the best weights."""
    phases = (Phase(100_000, 3.0, 4), Phase(40, 1e-3, 4))
    run, _ = trained(tmp_path, phases=phases, patience=3, validate_every=10)
    curve = pd.read_csv(run / "curve.csv")
    first = curve[curve.phase == 0]
    best = first.valid_loss.idxmin()
    assert len(first) - 1 - best == 3
    assert len(first) < 1000
    second = curve[curve.phase == 1]
    # 10 updates at a small rate stay near the best weights, which the last ones of the first phase are far from
    assert abs(second.valid_loss.iloc[0] - first.valid_loss[best]) < first.valid_loss.iloc[-1] - first.valid_loss[best]
    assert json.loads((run / "status.json").read_text())["best_validation"] == curve.valid_loss.min()


def test_flat_parameters_are_the_models():
    model = new_model(cell(), 12)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = FlatParameters(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    parameters.values.add_(1.0)
    assert all(torch.equal(before[name] + 1, value) for name, value in model.state_dict().items())
    zero = parameters.gradients.abs().sum()
    assert zero == 0
    for parameter in model.parameters():
        parameter.grad += 1.0
    n = sum(parameter.numel() for parameter in model.parameters())
    assert parameters.gradients.sum().item() == n
    zero_gradients(model)


def test_initial_weights_follow_the_thesis():
    model = new_model(cell(model={"layers": [300, 200]}), 784)
    bound = math.sqrt(6 / (784 + 300)) / 784
    weight = model.q_weight[0].detach()  # [300, 784]: 784 in, 300 out
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.01)
    assert model.p_weight[0].abs().max() <= math.sqrt(6 / (784 + 300)) / 300
    assert all((bias == -1).all() for bias in [*model.p_bias, *model.q_bias, model.prior_bias])


def test_an_epoch_visits_every_row_once_in_a_new_order():
    rows = Rows(np.arange(40, dtype=np.uint8)[:, None], None, False, CPU)
    batches = TrainingBatches(rows, 8, seed=1, labels=None)
    epochs = [torch.cat([batches.at(5 * e + i).x for i in range(5)]).flatten() for e in range(2)]
    assert all(torch.equal(epoch.sort().values, torch.arange(40.0)) for epoch in epochs)
    assert not torch.equal(*epochs)
    assert torch.equal(TrainingBatches(rows, 8, seed=1, labels=None).at(7).x, batches.at(7).x)


def test_labels_are_hidden_but_for_a_balanced_part():
    data = patterns()
    rows = Rows.of_split(data, "train", CPU)
    batches = TrainingBatches(rows, 20, seed=1, labels=LABELS)
    for update in range(20):
        assert (batches.at(update).y >= 0).sum() == LABELS.per_batch
    shown = rows.labels[rows.labels >= 0]
    assert torch.bincount(shown).tolist() == [10, 10, 10]


def test_methods_that_are_compared_have_the_same_labels(tmp_path):
    shown = []
    for method, seed in (("ssl_bihm", 0), ("label_mlp", 0), ("label_mlp", 1)):
        chosen = replace(cell(method, labels=LABELS), seed=seed)
        trainer = Trainer(chosen, patterns(), RunFolder(tmp_path), CPU)
        shown.append(trainer.rows.labels >= 0)
    assert torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[1], shown[2])


def test_batches_may_consist_of_labelled_rows():
    batches = TrainingBatches(Rows.of_split(patterns(), "train", CPU), 5, seed=1, labels=LABELS)
    assert all((batches.at(update).y >= 0).all() for update in range(20))


class TooSure(nn.Module):
    """Its classes have probabilities that sum to e."""

    def log_label_prob(self, x):
        return torch.full((len(x), 3), 1.0 - math.log(3)) + torch.tensor([0.0, -1.0, 1.0])


def test_a_probability_of_a_label_above_one_is_told():
    found = {row.facts["metric"]: row.facts for row in measure(TooSure(), cell("label_mlp"), patterns(), CPU)}
    assert found["-log p(y|x)"]["message"] == "log p(y|x) of a label up to 0.9, above 0"


def test_impossible_label_budgets_are_named():
    labels = np.repeat([0, 1], 5)
    with pytest.raises(ConfigError, match="at most 5 rows each, found 12"):
        balanced_rows(labels, 12, seed=0)
    with pytest.raises(ConfigError, match="multiple of 2"):
        balanced_rows(labels, 3, seed=0)
    rows = Rows(np.zeros((10, 2), np.uint8), None, False, CPU)
    with pytest.raises(ConfigError, match="expected labelled data"):
        TrainingBatches(rows, 5, 0, Labels(4, 2))
    with pytest.raises(ConfigError, match="per_batch: expected at most 4, found 5"):
        TrainingBatches(Rows.of_split(patterns(), "train", CPU), 4, 0, LABELS)


def test_part_of_a_test_set_is_drawn_at_random():
    """Never the first rows: some test sets come sorted."""
    rows = Rows(np.arange(200, dtype=np.uint8)[:, None], None, False, CPU)
    part = rows.random_part(50, seed=3).x.flatten()
    assert len(part.unique()) == 50
    assert part.max() > 150
    assert torch.equal(part, rows.random_part(50, seed=3).x.flatten())
    assert len(rows.random_part(None, seed=3).x) == 200


def test_grey_levels_become_probabilities():
    rows = Rows(np.array([[0, 51, 255]], np.uint8), None, True, CPU)
    assert torch.allclose(rows.batch(slice(None)).x, torch.tensor([[0.0, 0.2, 1.0]]))


def test_evaluation_refuses_weights_that_training_did_not_write(tmp_path):
    run, chosen = trained(tmp_path)
    path = run / "model.safetensors"
    other, _ = trained(tmp_path / "other", l1=0.0)
    path.write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(DataError, match="expected sha256"):
        evaluate(run, chosen, patterns(), CPU, "smoke")
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        evaluate(run, chosen, patterns(), CPU, "smoke")


def test_seeds_differ_between_repetitions():
    models = [new_model(replace(cell(), seed=seed), 12) for seed in (0, 1)]
    assert not torch.equal(models[0].q_weight[0], models[1].q_weight[0])


def test_factorised_is_the_smoothed_mean_of_the_columns(tmp_path):
    """The control of every table: checked on real data against counts."""
    settings = DataSettings(cache=tmp_path / "cache", mirrors=(), download=False, paths={}, timeout_s=1)
    data = fetch("connect4", settings)
    assert "connect4" in CATALOGUE
    p = (data.train.sum(0) + 1) / (len(data.train) + 2)
    expected = -(data.test @ np.log(p) + (1 - data.test) @ np.log1p(-p)).mean()
    chosen = replace(cell("factorised"), dataset="connect4")
    run = tmp_path / "run"
    train(chosen, data, run, CPU)
    (row,) = evaluate(run, chosen, data, CPU, "smoke")
    assert row["value"] == pytest.approx(expected, abs=1e-5)
    assert row["n_rows"] == len(data.test)


def test_runs_are_folders_named_by_their_axes():
    assert cell().path == "patterns/bihm/default/0"
    assert Path(replace(cell(), variant="12 layers").path).parts[2] == "12_layers"
