"""Which layers a model uses: known answers, what remains of their biases, trained models, the figure and the report."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from cells import NO_CELLS, cell, patterns

from harness.blocks.bernoulli import sample_bernoulli
from harness.estimators.layer_use import layer_use
from harness.evaluation.analyses.layer_use import layers_used
from harness.evaluation.evaluate import evaluate
from harness.evaluation.manifest import OK
from harness.evaluation.perform import analyse_cell
from harness.evaluation.plan import analyses_of
from harness.evaluation.subject import LeftOutError
from harness.plugins.registry import build
from harness.reporting.figures import figure_layer_use, style, write
from harness.reporting.report.layers import layers_in_use
from harness.settings.seeds import generator_for
from harness.storage import snapshots
from harness.storage.runs import RunFolder
from harness.training.train import train

CPU = torch.device("cpu")
SETTINGS = {"rows": 50, "n_samples": 4}
ASKED = {"groups": {}, **NO_CELLS, "analyses": {"layer_use": {"*": SETTINGS}}}
N = 2000


def entropy(p):
    p = np.asarray(p, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.nan_to_num(-p * np.log(p) - (1 - p) * np.log(1 - p))


class Known:
    """Layers given by the probabilities of their units: functions of rows [N, n] that are probabilities themselves.

    hard: means of draws 0 or 1, else the probabilities, known exactly.
    """

    def __init__(self, *layers, hard=True):
        self.layers, self.hard = layers, hard

    def encode(self, x, n_samples, generator):
        exact = [layer(x) for layer in self.layers]
        if not self.hard:
            return exact
        return [torch.stack([sample_bernoulli(p, generator) for _ in range(n_samples)]).mean(0) for p in exact]


def noiseless(x):
    return (x > 0.4).float()


def noise(x):
    return torch.full_like(x, 0.3)


def dead(x):
    return torch.ones_like(x).index_fill(1, torch.arange(3), 0.0)


def half(x):
    """Between the two: p is x itself, uniform."""
    return x


@pytest.fixture(name="rows")
def _rows():
    return torch.rand(N, 8, generator=torch.Generator().manual_seed(3))


def found(model, rows, n_samples=10, seed=0):
    return layers_used(model, rows, n_samples, generator_for(CPU, "layers", seed))


@pytest.mark.parametrize("hard", [True, False], ids=["draws", "probabilities"])
def test_layers_are_used_as_much_as_they_are(rows, hard):
    first, second, third = found(Known(noiseless, noise, dead, hard=hard), rows)
    assert (first.n_units, first.live) == (8, 8)
    assert first.reliability == pytest.approx(1.0)
    assert first.reliability_error == pytest.approx(0.0, abs=1e-12)
    assert first.information == pytest.approx(entropy(noiseless(rows).numpy().mean(0)).sum())
    assert first.information_bias == 0.0

    assert (second.n_units, second.live) == (8, 0)
    assert abs(second.reliability) <= 4 * second.reliability_error
    assert abs(second.information) <= 4 * second.information_error + 8 * 0.01  # second order: see below

    assert (third.n_units, third.live, third.reliability, third.information) == (8, 0, 0.0, 0.0)


def test_a_layer_between_the_two(rows):
    """p(x) uniform: Var p = 1/12 of 1/4, H(1/2) - 1/2 a unit."""
    (layer,) = found(Known(half), rows, n_samples=20)
    assert layer.live == 8
    assert abs(layer.reliability - 1 / 3) < 4 * layer.reliability_error
    expected = 8 * (math.log(2.0) - 0.5)
    assert abs(layer.information - expected) < 4 * layer.information_error + 8 * 0.002
    assert layer.information_error < 0.05 * expected


def test_reliability_is_the_correlation_of_draws(rows):
    """Of which as many are drawn here as make it sure."""
    (layer,) = found(Known(half), rows, n_samples=1)
    draws = [sample_bernoulli(rows, generator_for(CPU, "draws", i)).double() for i in range(200)]
    centred = [each - each.mean(0) for each in draws]
    covariances = [(a * b).mean(0).sum().item() for a, b in zip(centred[::2], centred[1::2], strict=True)]
    variance = np.mean([each.square().mean(0).sum().item() for each in centred])
    assert abs(np.mean(covariances) / variance - layer.reliability) < 4 * layer.reliability_error


def test_errors_are_the_spread_over_samples_of_rows():
    """Of other rows and other draws, for a layer of which a half is noise."""

    def mixed(x):
        return torch.cat([half(x), noise(x)], dim=1)

    layers = []
    for seed in range(200):
        rows = torch.rand(100, 4, generator=torch.Generator().manual_seed(seed))
        layers += found(Known(mixed), rows, n_samples=3, seed=seed)
    for name in ("reliability", "information"):
        spread = np.std([getattr(each, name) for each in layers], ddof=1)
        said = math.sqrt(np.mean([getattr(each, f"{name}_error") ** 2 for each in layers]))
        assert spread == pytest.approx(said, rel=4 / math.sqrt(2 * 200))


@pytest.mark.parametrize("layer", [noise, half])
def test_extrapolation_takes_most_of_the_bias_away(rows, layer):
    """Few draws inflate information by n_units / 4k for k draws 0 or 1 behind each estimate, to the first order."""
    truth = found(Known(layer, hard=False), rows)[0].information
    for k in (5, 10, 40):
        (with_draws,) = found(Known(layer), rows, n_samples=k)
        inflated = with_draws.information + with_draws.information_bias - truth
        assert inflated == pytest.approx(8 / (4 * k), rel=0.35)
        assert abs(with_draws.information - truth) < 0.3 * inflated + 4 * with_draws.information_error


def test_what_lives():
    """Neither idle nor indifferent: bounds of the mean activation, and of what x does to a unit."""

    def units(x):
        on = (torch.arange(len(x)) / len(x))[:, None]
        shares = torch.tensor([0.005, 0.02, 0.5, 0.98, 0.995])
        weak = torch.where(on < 0.5, 0.5, torch.tensor([0.52, 0.65]))
        return torch.cat([(on < shares).float(), weak], dim=1)

    first, second = (units(torch.zeros(N, 1)) for _ in range(2))
    alive = [layer_use(first[:, [i]], second[:, [i]]).live for i in range(7)]
    assert alive == [0, 1, 1, 1, 0, 0, 1]


def test_of_few_rows_and_draws_less_is_certain():
    """Noise alone often exceeds the threshold there, and two standard errors in a fortieth of all units at most."""
    rows = torch.zeros(50, 4000)
    (layer,) = found(Known(noise), rows, n_samples=2)
    assert layer.live <= 0.025 * 4000 + 4 * math.sqrt(0.025 * 4000)


def test_what_is_no_probability_is_left_out(rows):
    with pytest.raises(LeftOutError, match="activations of layer 2 are no probabilities"):
        found(Known(half, lambda x: 3 * x - 1, hard=False), rows)


@pytest.mark.parametrize("method", ["bihm", "rws_nade"])
def test_methods_encode_without_bias(method):
    """Probabilities given a draw of the layer below, and means of draws: both lead to what many draws say."""
    model = {"layers": [6, 4], **({"hidden": [4, 4, 4]} if method == "rws_nade" else {})}
    method = build(method, 12, model)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    x = torch.from_numpy(patterns().train).float()
    for few, many in zip(found(method, x, 3), found(method, x, 1000), strict=True):
        assert abs(few.reliability - many.reliability) < 4 * few.reliability_error
        assert abs(few.information - many.information) < 4 * few.information_error + few.information_bias / 2


# -- of trained models ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", name="home")
def trained(tmp_path_factory):
    """Two seeds of a model whose weights were kept on the way, and another method without any."""
    home = tmp_path_factory.mktemp("runs")
    for chosen in cells():
        run = home / chosen.path
        train(chosen, patterns(), run, CPU)
        evaluate(run, chosen, patterns(), CPU, "smoke")
        done = analyse_cell(run, chosen, analyses_of(ASKED, chosen), patterns, CPU, strict=True)
        assert done["layer_use"]["status"] == OK
    return home


def cells():
    return [*(replace(cell(snapshots=4), seed=seed) for seed in range(2)), cell("rws")]


def test_weights_on_the_way_and_those_that_training_chose_are_measured(home):
    chosen = cells()[0]
    table = pd.read_csv(RunFolder(home / chosen.path).table_file("layer_use"))
    kept = table[table["weights"] == "snapshot"]
    assert list(kept["update"].unique()) == snapshots.updates(chosen.training)
    final = table[table["weights"] == "trained"]
    assert list(final["update"]) == [RunFolder(home / chosen.path).status()["best_update"]] * 2
    assert list(final["layer"]) == [1, 2]
    assert list(final["n_units"]) == [6, 4]
    assert set(table["n_rows"]) == {50}
    assert set(pd.read_csv(RunFolder(home / cells()[2].path).table_file("layer_use"))["weights"]) == {"trained"}


def test_equal_weights_have_equal_numbers(home):
    """The last weights on the way are those that training chose, where it never did better before."""
    table = pd.read_csv(RunFolder(home / cells()[0].path).table_file("layer_use"))
    table = table.set_index(["weights", "update", "layer"])
    best = table.loc["trained"].index[0][0]
    if best in table.loc["snapshot"].index.get_level_values("update"):
        pd.testing.assert_frame_equal(table.loc[("snapshot", best)], table.loc[("trained", best)])


def test_the_figure_shows_every_layer(home, tmp_path):
    paths = write.write_figure("figure_layer_use", ASKED, [*cells(), cell("nade")], home, tmp_path)
    frame = pd.read_csv(paths[0])
    assert set(frame["metric"]) == {"live units", "reliability", "information"}
    assert set(zip(frame["method"], frame["layer"], frame["n_units"], strict=True)) == {
        (method, *layer) for method in ("bihm", "rws") for layer in ((1, 6), (2, 4))
    }
    tables = [pd.read_csv(RunFolder(home / each.path).table_file("layer_use")) for each in cells()[:2]]
    mean = np.mean([table[table["weights"] == "trained"][["live", "information"]] for table in tables], axis=0)
    final = frame[(frame["method"] == "bihm") & (frame["weights"] == "trained")].set_index(["metric", "layer"])
    assert list(final["n_seeds"]) == [2] * 6
    assert list(final.loc["live units"]["value"]) == pytest.approx(mean[:, 0])
    assert list(final.loc["information"]["value"]) == pytest.approx(mean[:, 1])
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert "nade: no layer features" in paths[3].read_text()


def test_curves_are_numbered_at_their_ends(home, tmp_path):
    paths = write.write_figure("figure_layer_use", ASKED, cells(), home, tmp_path)
    shown = pd.read_csv(paths[0])
    figure = figure_layer_use.draw(shown)
    named = [{text.get_text() for text in axes.texts} for part in figure.subfigs[:1] for axes in part.axes]
    assert not [part for part in (figure, *figure.subfigs) if part.legends]
    style.close(figure)
    n_models = shown[shown["weights"] == "snapshot"]["method"].nunique()
    assert named == [{"1", "2"}] * 3 * n_models


def test_without_weights_on_the_way_there_are_no_curves(home, tmp_path):
    paths = write.write_figure("figure_layer_use", ASKED, cells()[2:], home, tmp_path)
    assert set(pd.read_csv(paths[0])["weights"]) == {"trained"}
    assert paths[1].read_bytes().startswith(b"\x89PNG")


def test_models_that_a_figure_does_not_show_need_not_be_measured(home, tmp_path):
    asked = {**ASKED, "grid": {"bihm": {"patterns": {}}}, "ablations": {"bihm": {"patterns/one layer": {}}}}
    paths = write.write_figure(
        "figure_layer_use", asked, [replace(cell(), variant="one layer"), *cells()], home, tmp_path
    )
    assert "patterns is a stand-in: made for tests" in paths[3].read_text()


def test_deep_models_have_a_line_of_their_own():
    def of(name, n_layers):
        return name, pd.DataFrame({"layer": range(1, n_layers + 1)})

    shown = [of("a", 4), of("b", 12), of("c", 4), of("d", 7), of("e", 9)]
    assert [[name for name, _ in line] for line in figure_layer_use._lines(shown)] == [["a"], ["b"], ["c", "d"], ["e"]]


def test_the_report_counts_layers_in_use(home, tmp_path):
    assert layers_in_use(tmp_path) == []
    write.write_figure("figure_layer_use", ASKED, [cell("nade")], home, tmp_path)
    assert layers_in_use(tmp_path) == []
    write.write_figure("figure_layer_use", ASKED, cells(), home, tmp_path)
    table = pd.read_csv(RunFolder(home / cells()[2].path).table_file("layer_use"))
    (model,) = (each for each in layers_in_use(tmp_path) if each.method == "rws")
    assert (model.dataset, model.title, model.variant) == ("patterns", "RWS - SBN", "")
    assert model.live == ", ".join(f"{row.live}/{row.n_units}" for row in table.itertuples())
    assert model.used == f"{(table['live'] > table['n_units'] / 10).sum()} of 2"
