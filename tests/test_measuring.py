"""What is measured of a model: all that its capabilities allow, with the random numbers that it always had."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cells import cell, patterns

from harness.evaluation.measure import chance_levels, measure
from harness.method import Batch, Method
from harness.plugins.registry import build
from harness.storage import pieces
from harness.storage.runs import NO_LIKELIHOOD

CPU = torch.device("cpu")
MODELS = {"eonade": {"hidden": [5], "n_orders": 2}, "rbm": {"hidden": 4}}
# value and standard error of every metric that there was before all that applies was measured
RECORDED = json.loads((Path(__file__).parent / "measured.json").read_text())


def model_of(method):
    """A model that is far from its initial values."""
    torch.manual_seed(3)
    chosen = cell(method, MODELS.get(method))
    model = build(method, patterns().n_features, dict(chosen.model)).eval()
    draws = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draws))
    return model, chosen


@torch.inference_mode()
def measured(model, chosen, data=None):
    """Metric -> its facts."""
    found = measure(model, chosen, data or patterns(), CPU)
    metrics = [each.facts["metric"] for each in found]
    assert len(metrics) == len(set(metrics))
    return {each.facts["metric"]: each.facts for each in found}


@pytest.mark.parametrize("method", RECORDED)
def test_what_was_measured_before_is_what_it_was(method):
    found = measured(*model_of(method))
    for metric, (value, sem) in RECORDED[method].items():
        assert found[metric]["value"] == pytest.approx(value, rel=1e-5), metric
        assert found[metric]["sem"] == pytest.approx(sem, rel=1e-4), metric


def test_another_stream_would_be_noticed():
    model, chosen = model_of("ssl_bihm_low")
    found = measured(model, replace(chosen, seed=1))
    for metric in ("bound -log p*", "-log p~*(y|x)"):
        assert found[metric]["value"] != pytest.approx(RECORDED["ssl_bihm_low"][metric][0], rel=1e-4)


def test_semi_supervised_models_have_likelihoods_beside_their_labels():
    found = measured(*model_of("ssl_bihm_low"))
    assert {"-log p", "bound -log p", "ess p", "-log p~*", "ess p*", "-log p*", "-2 log Z", "error"} <= set(found)
    # its label factor drops out of p*(x): both estimate the same, from other samples
    difference = found["bound -log p*"]["value"] - found["-log p~*"]["value"]
    assert 0 < abs(difference) < 5 * found["-log p~*"]["mc_error"]


class Killed(BaseException):
    """In place of a SIGKILL: nothing is tidied up."""


def test_killed_after_any_piece_it_ends_with_the_same_numbers(tmp_path, monkeypatch):
    model, chosen = model_of("ssl_bihm_low")
    chosen = replace(chosen, evaluation=replace(chosen.evaluation, n_samples=500, z_outer=20_000))
    expected = measured(model, chosen)
    monkeypatch.setattr(pieces, "WRITE_EVERY_S", 0.0)
    monkeypatch.setattr(pieces, "SHARE_OF_WRITING", math.inf)
    do, calls = pieces.Pieces._do, []

    def once(self, name, piece):
        if len(calls) == 2:
            raise Killed
        calls.append(name)
        return do(self, name, piece)

    monkeypatch.setattr(pieces.Pieces, "_do", once)
    kills = 0
    while True:
        calls.clear()
        try:
            with pieces.kept(tmp_path / "file", {}, CPU):
                found = measured(model, chosen)
            break
        except Killed:
            kills += 1
    assert kills > 5
    assert repr(_without_times(found)) == repr(_without_times(expected))


def _without_times(found):
    return {metric: {**facts, "seconds": 0.0} for metric, facts in found.items()}


class Versatile(Method):
    """Exact and estimated likelihoods of rows and of labels, all of which are known."""

    name, title, kind, source = "versatile", "Versatile", "latent", "a test"

    def log_prob(self, x):
        return torch.full((len(x),), -3.0)

    def log_weights(self, x, n_samples, generator):
        return -3.0 + torch.rand(len(x), n_samples, generator=generator) - 0.5

    def log_label_prob(self, x):
        return torch.full((len(x), 3), -math.log(3.0))

    def log_label_weights(self, x, n_samples, generator):
        return torch.rand(len(x), n_samples, 3, generator=generator)

    def log_z2_weights(self, n_outer, n_inner, generator):
        return -torch.rand(n_outer, n_inner, generator=generator)


EXACT = {"-log p", "-log p(y|x)", "error"}


def test_every_capability_is_measured_and_exact_numbers_come_first():
    found = measured(Versatile(12), cell())
    sampled = {"bound -log p", "ess p", "-log p~", "-log p~*", "ess p*", "-log p*", "-2 log Z"}
    assert set(found) == EXACT | sampled | {"bound -log p*", "-log p~*(y|x)"}
    assert {metric for metric, facts in found.items() if facts["estimator"] == "exact"} == EXACT
    assert found["-log p"]["value"] == 3.0
    assert found["-log p(y|x)"]["value"] == pytest.approx(math.log(3.0))


@pytest.mark.parametrize(("method", "of_labels"), [("label_mlp", "-log p(y|x)"), ("ssl_bihm", "-log p~*(y|x)")])
def test_what_guessing_has_is_that_of_the_labels_that_were_seen(method, of_labels):
    """Of three classes of 20 rows each: all of them, and 40 at random; then of labels that are less even."""
    found = measured(*model_of(method))
    if method == "label_mlp":
        assert found["error"]["chance"] == pytest.approx(2 / 3)
        assert found[of_labels]["chance"] == pytest.approx(math.log(3.0))
    else:
        assert 0.5 < found["error"]["chance"] < 2 / 3
        assert found[of_labels]["chance"] < math.log(3.0)
    assert not any("chance" in facts for metric, facts in found.items() if metric not in ("error", of_labels))
    labels = torch.tensor([0, 2, 2, 2])
    entropy = 0.25 * math.log(4.0) + 0.75 * math.log(4.0 / 3.0)
    assert chance_levels(labels) == (pytest.approx(entropy), 0.25)
    # no guess of class shares is better
    shares = torch.linspace(0.01, 0.99, 99)
    assert (-(0.25 * shares.log() + 0.75 * (1 - shares).log())).min().item() == pytest.approx(entropy)


def test_without_labels_there_are_the_metrics_of_rows():
    data = replace(patterns(), test_labels=None)
    found = measured(Versatile(12), cell(), data)
    assert {"-log p", "bound -log p*", "-2 log Z"} <= set(found)
    assert not {"error", "-log p(y|x)", "-log p~*(y|x)"} & set(found)
    found = measured(*model_of("label_mlp"), data)
    assert found[""]["status"] == NO_LIKELIHOOD
    assert found[""]["message"] == "label_mlp predicts labels, and patterns has none"


def test_a_partition_function_is_measured_by_itself():
    class OnlyZ(Method):
        log_z2_weights = Versatile.log_z2_weights

        def loss(self, batch: Batch, n_samples, generator):
            return batch.x.sum()

    assert set(measured(OnlyZ(12), cell())) == {"-2 log Z"}
