"""What is said about single layers: the classifier of their features, and models that lack one of them."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from cells import NO_CELLS, cell, patterns

from harness.evaluation.analyses import layer_features
from harness.evaluation.evaluate import evaluate
from harness.evaluation.manifest import OK
from harness.evaluation.perform import analyse_cell
from harness.evaluation.plan import analyses_of
from harness.evaluation.subject import LeftOutError, Subject
from harness.method import Batch
from harness.reporting.figures import figure_depth, write
from harness.storage.records import read_json
from harness.storage.runs import RunFolder
from harness.training.train import train

CPU = torch.device("cpu")
FEATURES = {"few": 30, "many": None, "penalties": [0.1, 0.001], "n_samples": 10, "validation_rows": 60}


class Sorting:
    """A model whose first layer tells the prototype behind a row, its second nothing, its third as little."""

    def __init__(self, data):
        self.prototypes = torch.stack(
            [torch.from_numpy(data.train[data.train_labels == y]).float().mean(0).round() for y in range(3)]
        )

    def encode(self, x, n_samples, generator):
        near = (x[:, None, :] - self.prototypes).abs().sum(2)
        noise = torch.rand(len(x), 4, generator=generator)
        return [torch.softmax(-near, dim=1) * 1e-3 + 0.5, noise, torch.zeros(len(x), 2)]


def subject(model, data, **changes):
    return Subject(replace(cell(), **changes), model, data, CPU, [], None)


def test_a_layer_is_as_informative_as_it_is():
    data = patterns()
    found = layer_features.analyse(subject(Sorting(data), data), **FEATURES)
    assert list(found["layer"]) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert list(found["units"][::2]) == [12, 3, 4, 2]
    assert list(found["labels"][:2]) == [30, 200]
    errors = found[found["labels"] == 200].set_index("layer")["value"]
    nearest = Sorting(data).encode(torch.from_numpy(data.test).float(), 1, torch.Generator())[0].argmax(1)
    assert errors[1] <= (nearest.numpy() != data.test_labels).mean() + 2 / 60  # however little the units vary
    chance = 2 / 3
    assert abs(errors[2] - chance) < 4 * math.sqrt(chance * (1 - chance) / 60)
    assert errors[3] == pytest.approx(chance)
    assert found["sem"].tolist() == pytest.approx(np.sqrt(found["value"] * (1 - found["value"]) / 60))


def test_the_few_labels_are_those_of_the_repetition():
    data = patterns()
    shown = [layer_features._training_rows(subject(None, data, seed=seed), 30, 30)[0].x for seed in (0, 0, 1)]
    assert torch.equal(shown[0], shown[1])
    assert not torch.equal(shown[0], shown[2])


def test_penalties_are_chosen_on_validation_rows(monkeypatch):
    class Fitted:
        def __init__(self, x, y, penalty, start):
            self.right = {1.0: "valid", 0.1: "test"}[penalty]

        def probabilities(self, x):
            return torch.eye(2)[
                (torch.ones(4) if len(x) == {"valid": 4, "test": 5}[self.right] else torch.zeros(len(x))).long()
            ]

    monkeypatch.setattr(layer_features, "LinearClassifier", Fitted)
    train_rows, valid, test = (Batch(torch.rand(n, 2), torch.ones(n, dtype=torch.int64)) for n in (3, 4, 5))
    assert layer_features._test_error(train_rows, valid, test, [0.1, 1.0]) == (1.0, 1.0)


def test_data_without_labels_are_left_out():
    data = replace(patterns(), train_labels=None)
    with pytest.raises(LeftOutError, match="patterns has no labels"):
        layer_features.analyse(subject(Sorting(patterns()), data), **FEATURES)


# -- ablations --------------------------------------------------------------------------------------------------------

ASKED = {
    **NO_CELLS,
    "groups": {},
    "grid": {"bihm": {"patterns": {}}},
    "ablations": {"bihm": {"patterns/all layers": {}, "patterns/without layer 2": {}}},
    "analyses": {"ablation": {"*": {"rows": 40, "n_samples": 20}}, "layer_features": {"*": FEATURES}},
}
SHORT = {"variant": "without layer 2", "model": {"layers": [6]}}


@pytest.fixture(scope="module", name="home")
def trained(tmp_path_factory):
    """Two seeds of a model and of one with a layer less."""
    home = tmp_path_factory.mktemp("runs")
    for seed in range(2):
        for changes in ({"variant": "all layers"}, SHORT):
            chosen = replace(cell(), seed=seed, **changes)
            run = home / chosen.path
            train(chosen, patterns(), run, CPU)
            evaluate(run, chosen, patterns(), CPU, "smoke")
            found = analyse_cell(run, chosen, analyses_of(ASKED, chosen), patterns, CPU, strict=True)
            assert {name: each["status"] for name, each in found.items()} == {"ablation": OK}
    return home


def test_rows_of_an_ablation_have_the_likelihoods_that_the_evaluation_measured(home):
    run = home / replace(cell(), **SHORT).path
    table = pd.read_csv(RunFolder(run).table_file("ablation"))
    measured = {row["metric"]: row for row in read_json(run / "metrics.json")["rows"]}
    for metric in ("log p", "log p~*"):
        values = table.loc[table["metric"] == metric, "value"]
        ours, theirs = values.mean(), measured[f"-{metric}"]
        assert len(values) == 40
        assert abs(ours + theirs["value"]) < 4 * math.hypot(values.sem(), theirs["sem"])


def test_figures_of_ablations_show_differences_to_the_whole_model(home, tmp_path):
    cells = [
        replace(cell(), seed=seed, **changes) for seed in range(2) for changes in ({"variant": "all layers"}, SHORT)
    ]
    paths = write.write_figure("figure_depth", ASKED, cells, home, tmp_path)
    found = pd.read_csv(paths[0]).set_index("metric")
    assert set(found["variant"]) == {"without layer 2"}
    for metric in ("log p", "log p~*"):
        means = {}
        for each in cells:
            table = pd.read_csv(RunFolder(home / each.path).table_file("ablation"))
            means.setdefault(each.variant, []).append(table.loc[table["metric"] == metric, "value"].mean())
        expected = np.mean(means["all layers"]) - np.mean(means["without layer 2"])
        assert found["value"][metric] == pytest.approx(expected)
        assert found["sem"][metric] >= abs(np.subtract(*means.values()).std(ddof=1)) / math.sqrt(2)
    assert paths[1].read_bytes().startswith(b"\x89PNG")


def test_without_a_whole_model_there_is_nothing_to_compare_with():
    table = pd.DataFrame({"variant": ["without layer 2"], "dataset": "d", "method": "m", "seed": 0, "metric": "log p"})
    assert figure_depth.data(table.assign(row=0, value=1.0, title="M", kind="latent")).empty


def test_figures_of_features_show_every_layer(tmp_path):
    asked = {**ASKED, "ablations": {}, "analyses": {"layer_features": {"*": FEATURES}}}
    run = tmp_path / "runs" / cell().path
    train(cell(), patterns(), run, CPU)
    evaluate(run, cell(), patterns(), CPU, "smoke")
    analyse_cell(run, cell(), analyses_of(asked, cell()), patterns, CPU, strict=True)
    paths = write.write_figure("figure_layer_features", asked, [cell()], tmp_path / "runs", tmp_path)
    found = pd.read_csv(paths[0])
    assert set(zip(found["layer"], found["units"], found["labels"], strict=True)) == {
        (layer, units, labels) for layer, units in enumerate((12, 6, 4)) for labels in (30, 200)
    }
    assert paths[1].read_bytes().startswith(b"\x89PNG")
