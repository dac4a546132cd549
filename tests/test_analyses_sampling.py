"""Samples, inpainting, draws from layers and the quality of samples: what their tables hold and their figures show."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from cells import NO_CELLS, cell, patterns
from enumerable import z_scores

from harness.errors import ConfigError
from harness.estimators.linear_classifier import LinearClassifier, entropy
from harness.estimators.two_sample import mean_of_pairs, median_distance, mmd_terms
from harness.evaluation.evaluate import evaluate
from harness.evaluation.manifest import LEFT_OUT, NO_MODEL, OK
from harness.evaluation.perform import analyse_cell
from harness.evaluation.pixels import as_table, images_of
from harness.evaluation.plan import analyses_of
from harness.reporting.figures import images, write
from harness.storage.runs import UNAVAILABLE, RunFolder
from harness.training.train import train

CPU = torch.device("cpu")
MASKS = ["left half", "right half", "top half", "bottom half", "centre", "random pixels"]
ANALYSES = {
    "samples": {"n": 9, "sweeps": [0, 2], "proposals": 10},
    "layer_samples": {"ancestors": 3, "draws": 4},
    "inpainting": {"images": 2, "masks": MASKS, "reconstructions": 3, "sweeps": 2, "proposals": 10},
    "sample_quality": {"rows": 50, "sweeps": [0, 1, 3], "proposals": 10, "classifier_rows": 100},
}
SETTINGS = {"groups": {}, **NO_CELLS, "analyses": {name: {"*": values} for name, values in ANALYSES.items()}}


def square():
    """16 columns, hence images of 4 x 4."""
    return patterns(16)


@pytest.fixture(scope="module", name="folder")
def trained(tmp_path_factory):
    """A folder with the runs of a small BiHM and RWS, trained, measured and analysed, under the names of image sets."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("binarized_mnist", "faces48"):
        for method in ("bihm", "rws"):
            here = replace(cell(method), dataset=name)
            run = folder / here.path
            train(here, square(), run, CPU)
            evaluate(run, here, square(), CPU, "smoke")
            analyse_cell(run, here, analyses_of(SETTINGS, here), square, CPU, strict=True)
    return folder


def table(folder, analysis, method="bihm", dataset="binarized_mnist"):
    return pd.read_csv(RunFolder(folder / replace(cell(method), dataset=dataset).path).table_file(analysis))


def test_samples_are_expected_values_before_and_after_sweeps(folder):
    found = table(folder, "samples")
    assert found.groupby("sweeps").size().to_dict() == {0: 9, 2: 9}
    assert set(found["layers"]) == {"6-4"}
    pixels = images_of(found)
    assert pixels.shape == (18, 4, 4)
    assert ((pixels >= 0) & (pixels <= 1)).all()
    assert not np.array_equal(pixels[:9], pixels[9:])


def test_inpainting_keeps_what_is_known(folder):
    found = table(folder, "inpainting")
    test = {tuple(row) for row in square().test}
    for mask, rows in found.groupby("mask"):
        parts = {role: images_of(part) for role, part in rows.groupby("role")}
        assert all(tuple(image.flatten()) in test for image in parts["original"])
        assert len(parts["reconstruction"]) == 2 * 3
        hidden = np.isnan(parts["masked"])
        assert np.array_equal(parts["masked"][~hidden], parts["original"][~hidden])
        if mask != "random pixels":
            half = {
                "left half": np.s_[:, :2],
                "right half": np.s_[:, 2:],
                "top half": np.s_[:2],
                "bottom half": np.s_[2:],
            }
            expected = np.zeros((4, 4), dtype=bool)
            expected[half.get(mask, np.s_[1:3, 1:3])] = True
            assert (hidden == expected).all()
        for copy in range(3):
            reconstruction = parts["reconstruction"][2 * copy : 2 * copy + 2]
            assert np.array_equal(reconstruction[~hidden], parts["original"][~hidden])


def test_draws_from_layer_one_have_one_expectation_and_others_differ(folder):
    found = table(folder, "layer_samples")
    assert found.groupby("level").size().to_dict() == {0: 3, 1: 12, 2: 12}
    ancestors = images_of(found[found["level"] == 0])
    for ancestor in range(3):
        rows = {level: images_of(part) for level, part in found[found["ancestor"] == ancestor].groupby("level")}
        assert (rows[1] == ancestors[ancestor]).all()
        assert len(np.unique(rows[2], axis=0)) > 1


def test_quality_of_samples_of_p_and_p_star(folder):
    found = table(folder, "sample_quality")
    seen = found.groupby("distribution")["sweeps"].agg(lambda sweeps: sorted(set(sweeps))).to_dict()
    assert seen == {"p": [0], "p*": [1, 3], "test rows": [0], "training rows": [0]}
    of_p = found[found["distribution"] == "p"]
    assert (of_p["change"] == 0).all()
    assert (of_p["change_sem"] == 0).all()
    later = found[found["distribution"] == "p*"]
    assert (later["change_sem"] > 0).all()
    joined = later.merge(of_p, on="metric")
    assert np.allclose(joined["change_x"], joined["value_x"] - joined["value_y"])
    assert set(found["metric"]) == {"mmd2", "label entropy", "entropy of labels"}
    assert set(table(folder, "sample_quality", "rws")["distribution"]) == {"p", "test rows", "training rows"}
    training = found[(found["distribution"] == "training rows") & (found["metric"] == "mmd2")].iloc[0]
    assert abs(training["value"]) < 4 * training["sem"]


def test_what_does_not_fit_has_its_reason(folder, tmp_path):
    here = replace(cell(), dataset="binarized_mnist")
    run = folder / here.path
    copy = tmp_path / "run"
    copy.mkdir()
    for path in run.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    (copy / "analyses.json").unlink()
    asked = analyses_of(
        {**SETTINGS, "analyses": {"inpainting": {"*": {**ANALYSES["inpainting"], "masks": ["lft"]}}}}, here
    )
    with pytest.raises(ConfigError, match=r"analyses\.inpainting: masks\.0: expected one of left half.*found 'lft'"):
        analyse_cell(copy, here, asked, square, CPU, strict=False)
    asked = analyses_of(SETTINGS, replace(here, method="rws"))
    lacks = {each.name: each.lacks for each in asked}
    assert lacks["samples"] == ("joint sampling",)
    assert lacks["inpainting"] == ("inpainting",)
    other = replace(cell(), dataset="patterns")
    train(other, patterns(12), tmp_path / "twelve", CPU)
    evaluate(tmp_path / "twelve", other, patterns(12), CPU, "smoke")
    found = analyse_cell(tmp_path / "twelve", other, analyses_of(SETTINGS, other), patterns, CPU, strict=True)
    assert (found["inpainting"]["status"], found["samples"]["status"]) == (LEFT_OUT, OK)
    assert "12 columns do not form a square image" in found["inpainting"]["message"]


@pytest.mark.parametrize(
    "name",
    ["figure_3_1", "figure_3_2", "figure_4_1", "figure_4_3", "figure_sample_quality", "figure_sweeps"],
)
def test_figures_of_digits(folder, tmp_path, name):
    cells = [
        replace(cell(method), dataset=dataset)
        for dataset in ("binarized_mnist", "faces48")
        for method in ("bihm", "rws")
    ]
    paths = write.write_figure(name, SETTINGS, cells, folder, tmp_path)
    caption = paths[3].read_text()
    assert all(path.stat().st_size > 0 for path in paths)
    if name == "figure_4_1":  # layers 5 to 8 of a model of two
        assert f"{write.NOTHING}." in caption
        return
    shown = pd.read_csv(paths[0])
    assert "binarized_mnist is a stand-in: made for tests." in caption
    if name in ("figure_sample_quality", "figure_sweeps"):
        assert set(shown["dataset"]) == {"binarized_mnist", "faces48"}
    else:
        assert set(shown["dataset"]) == {"binarized_mnist"}
        assert set(shown["method"]) == {"bihm"}
    if name == "figure_4_3":
        assert "BiHM has no layer 3, 4." in caption


@pytest.mark.parametrize("name", ["figure_3_9", "figure_3_10"])
def test_faces_are_those_that_there_are(folder, tmp_path, name):
    """Without the Toronto Face Database its stand-in is shown, and the caption says both."""
    absent = replace(cell(), dataset="tfd")
    run = tmp_path / "runs" / absent.path
    RunFolder(run).write_status(UNAVAILABLE, "ask its owners")
    found = analyse_cell(run, absent, analyses_of(SETTINGS, absent), lambda: pytest.fail("no data"), CPU, strict=True)
    assert found["samples"]["status"] == NO_MODEL
    there = replace(cell(), dataset="faces48")
    home = tmp_path / "runs" / there.path
    home.parent.mkdir(parents=True)
    home.symlink_to(folder / there.path)
    paths = write.write_figure(name, SETTINGS, [absent, there], tmp_path / "runs", tmp_path)
    caption = paths[3].read_text()
    assert "bihm on tfd: unavailable: ask its owners." in caption
    assert "faces48 is a stand-in" in caption
    where = "Panel B, " if name == "figure_3_9" else ""
    assert f"{where}BiHM on faces48: 2 sweeps, 10 proposals for every draw of a layer." in caption
    assert "The latent layers of BiHM have 6-4 units; those of the thesis have 1000-700-700-300." in caption
    assert set(pd.read_csv(paths[0])["dataset"]) == {"faces48"}
    paths = write.write_figure(name, SETTINGS, [absent], tmp_path / "runs", tmp_path / "none")
    assert "ask its owners" in paths[0].read_text()


def test_sheets_show_hidden_pixels_in_their_colour():
    values = torch.tensor([[0.0, 1.0, math.nan, 0.25]])
    frame = as_table(values).assign(dataset="binarized_mnist")
    sheet = images.sheet(frame, 1)
    assert sheet.shape == (4, 4, 3)
    assert sheet[1, 1].tolist() == [1.0, 1.0, 1.0]
    assert sheet[1, 2].tolist() == [0.0, 0.0, 0.0]
    assert tuple(sheet[2, 1]) == images.HIDDEN
    assert sheet[2, 2].tolist() == [0.75, 0.75, 0.75]


@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("name", ["figure_3_1", "figure_3_2", "figure_3_9", "figure_4_3"])
def test_grey_levels_of_a_data_set_of_ones_own_are_light(folder, tmp_path, name, grey):
    """A user's data set may take the place of one of the catalogue, and of its images in figures."""
    dataset = "faces48" if name == "figure_3_9" else "binarized_mnist"
    settings = {**SETTINGS, "data": {"own": {dataset: {"file": "mine.npz", "grey": grey}}}}
    paths = write.write_figure(name, settings, [replace(cell(), dataset=dataset)], folder, tmp_path)
    shown = pd.read_csv(paths[0]).dropna(subset=["pixel_0", "pixel_15"]).iloc[:1]
    sheet, pixels = images.sheet(shown, 1), images_of(shown)[0]
    assert sheet[1:5, 1:5].tolist() == np.repeat((pixels if grey else 1.0 - pixels)[:, :, None], 3, axis=2).tolist()
    assert tuple(sheet[0, 0]) == (images.PAPER if grey else images.RULE)
    again = write.write_figure(name, SETTINGS, [replace(cell(), dataset=dataset)], folder, tmp_path / "catalogue")
    assert "grey" not in pd.read_csv(again[0]).columns


def test_discrepancy_is_unbiased_and_its_error_is_right():
    """Two distributions over four points, whose discrepancy is a sum."""
    points = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    p, q = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.tensor([0.25, 0.25, 0.25, 0.25])
    scales = torch.tensor([0.125, 0.25, 0.5, 1.0])
    squared = (points[:, None] - points).square().sum(2)
    kernel = torch.exp(-squared[..., None] / scales).mean(2).double()
    exact = ((p - q).double() @ kernel @ (p - q).double()).item()
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(400):
        x, y = (points[torch.multinomial(each, 60, replacement=True, generator=generator)] for each in (p, q))
        found.append(mean_of_pairs(mmd_terms(x, y, 1.0)))
    values, errors = torch.tensor(found, dtype=torch.float64).t()
    assert z_scores(values[:, None], torch.tensor([exact], dtype=torch.float64)).abs().max() < 4
    # the jackknife's variance is no smaller on average; 400 repeats know a variance to 7%
    assert errors.square().mean() > 0.75 * values.var()
    assert errors.square().mean() < 1.4 * values.var()
    assert median_distance(points) == pytest.approx(1.0)


def test_classifier_tells_classes_apart_and_is_unsure_between_them():
    data = square()
    x, y = torch.from_numpy(data.train).float(), torch.from_numpy(data.train_labels).long()
    classifier = LinearClassifier(x, y)
    test = torch.from_numpy(data.test).float()
    probabilities = classifier.probabilities(test)
    assert (probabilities.argmax(1).numpy() == data.test_labels).mean() > 0.9
    between = 0.5 * (x[y == 0].mean(0) + x[y == 1].mean(0))
    assert entropy(classifier.probabilities(between[None])) > entropy(probabilities).mean()
    assert entropy(torch.tensor([[0.5, 0.5], [1.0, 0.0]])).tolist() == pytest.approx([math.log(2), 0.0])


def test_classifier_finds_the_minimum_wherever_it_starts():
    data = square()
    x, y = torch.from_numpy(data.train).float(), torch.from_numpy(data.train_labels).long()
    found = [LinearClassifier(x, y, 0.1), LinearClassifier(x, y, 0.1, start=LinearClassifier(x, y, 10.0))]
    weights = torch.zeros_like(found[0].weights, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=2000, tolerance_grad=1e-10, tolerance_change=0.0)

    def loss(w):
        logits = x.double() @ w[:, :-1].t() + w[:, -1]
        return torch.nn.functional.cross_entropy(logits, y) + 0.05 * w[:, :-1].square().sum()

    def closure():
        optimizer.zero_grad()
        value = loss(weights)
        value.backward()
        return value

    optimizer.step(closure)
    for classifier in found:
        assert loss(classifier.weights).item() == pytest.approx(loss(weights).item(), rel=1e-4)
        assert (
            classifier.probabilities(x) - torch.softmax(x.double() @ weights[:, :-1].t() + weights[:, -1], 1)
        ).abs().max() < 0.02
