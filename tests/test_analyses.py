"""Planning and doing analyses, and drawing figures from them: what is done, kept, left out, and told."""

import importlib
import math
from itertools import pairwise
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from cells import NO_CELLS, cell, patterns
from matplotlib.collections import LineCollection
from matplotlib.text import Text
from seaborn.utils import relative_luminance

from harness.compute.places import PUBLISHED
from harness.errors import ConfigError, DataError
from harness.evaluation.analyses import k_sensitivity
from harness.evaluation.evaluate import evaluate
from harness.evaluation.manifest import FAILED, LEFT_OUT, NO_MODEL, OK, failures, read_manifest
from harness.evaluation.perform import analyse_cell
from harness.evaluation.plan import Planned, analyses_of
from harness.reporting.figures import gather, panels, style, write
from harness.settings.config import load_settings
from harness.storage.records import read_json
from harness.storage.runs import UNAVAILABLE, RunFolder
from harness.training.train import train

CPU = torch.device("cpu")
SETTINGS = {"rows": 30, "ks": [1, 10, 50]}
MOST_IN_LEGEND = 6  # lines


def settings(**analyses):
    return {"groups": {"uci": ["adult", "dna"]}, **NO_CELLS, "analyses": analyses}


def cell_on(dataset, method="bihm", variant=""):
    return SimpleNamespace(dataset=dataset, method=method, variant=variant)


def test_more_specific_settings_win_and_null_takes_away():
    asked = settings(k_sensitivity={"*": {"rows": 1, "ks": [1]}, "uci": {"rows": 2}, "adult": {"rows": 3}, "dna": None})
    (planned,) = analyses_of(asked, cell_on("adult"))
    assert planned == Planned("k_sensitivity", {"rows": 3, "ks": [1]}, ())
    (planned,) = analyses_of(asked, cell_on("nips"))
    assert planned.settings["rows"] == 1
    assert analyses_of(asked, cell_on("dna")) == []


def test_a_method_without_the_capability_lacks_it():
    (planned,) = analyses_of(settings(k_sensitivity={"*": SETTINGS}), cell_on("adult", "nade"))
    assert planned.lacks == ("importance weights",)


def test_entries_of_a_cell_may_choose_among_the_analyses():
    asked = settings(k_sensitivity={"*": SETTINGS}, weight_histogram={"*": {}})
    assert [each.name for each in analyses_of(asked, cell_on("adult"))] == ["k_sensitivity", "weight_histogram"]
    asked["budgets"] = {"bihm": {"*": {"analyses": ["weight_histogram"]}, "dna": {"analyses": []}}}
    assert [each.name for each in analyses_of(asked, cell_on("adult"))] == ["weight_histogram"]
    assert analyses_of(asked, cell_on("dna")) == []
    budgets = {"bihm": {"*": {"analyses": ["weihgt_histogram"]}}}
    with pytest.raises(ConfigError, match=r"budgets\.bihm\.\*\.analyses\.0: .* found 'weihgt_histogram'"):
        load_settings({"budgets": budgets})


def test_ablations_have_analyses_of_their_own():
    asked = settings(k_sensitivity={"*": SETTINGS})
    asked |= {"grid": {"bihm": {"adult": {}}}, "ablations": {"bihm": {"adult/one layer": {}}}}
    assert analyses_of(asked, cell_on("adult", variant="one layer")) == []
    assert len(analyses_of(asked, cell_on("adult"))) == 1


@pytest.mark.parametrize(
    ("analyses", "message"),
    [({"k_sensitivty": {}}, "expected some of .*k_sensitivity"), ({"k_sensitivity": {"adlut": {}}}, "found 'adlut'")],
    ids=["analysis", "data set"],
)
def test_unknown_names_are_errors(analyses, message):
    with pytest.raises(ConfigError, match=message):
        load_settings({"analyses": analyses})


@pytest.mark.parametrize("preset", ["smoke", "quick", "full"])
def test_presets_say_everything_that_their_analyses_want(preset):
    from harness.evaluation.perform import check_settings

    loaded = load_settings({"preset": preset})
    for dataset in ("adult", "binarized_mnist"):
        for planned in analyses_of(loaded, cell_on(dataset)):
            check_settings(planned)


@pytest.fixture(scope="module", name="run")
def trained(tmp_path_factory):
    """A small BiHM, trained and measured."""
    run = tmp_path_factory.mktemp("run")
    train(cell(), patterns(), run, CPU)
    evaluate(run, cell(), patterns(), CPU, "smoke")
    (run / "analyses.json").unlink(missing_ok=True)
    return run


def do(run, planned=None, load=patterns, strict=False):
    planned = Planned("k_sensitivity", SETTINGS, ()) if planned is None else planned
    return analyse_cell(run, cell(), [planned], load, CPU, strict)[planned.name]


def test_k_sensitivity_agrees_with_the_evaluation(run):
    """The largest K against the evaluation's own estimate, which has other samples and other rows of the test set."""
    assert do(run)["status"] == OK
    table = pd.read_csv(RunFolder(run).table_file("k_sensitivity")).set_index(["metric", "k"])
    assert {metric for metric, _ in table.index} == {"log p", "log p*", "ess p", "ess p*"}
    measured = {row["metric"]: row for row in read_json(run / "metrics.json")["rows"]}
    for metric in ("log p", "log p*"):
        ours, theirs = table.loc[(metric, 50)], measured[f"-{metric}"]
        assert abs(ours["value"] + theirs["value"]) < 4 * math.hypot(ours["sem"], theirs["sem"])
        assert table.loc[(metric, 1)]["value"] < ours["value"] - table.loc[(metric, 1)]["sem_to_last"]
        assert ours["sem_to_last"] == 0
    assert table.loc[("ess p", 1)]["value"] == pytest.approx(100)
    for metric in ("log p", "log p*"):  # all K lead to one limit, which is above
        limits = table.loc[metric]["value"] - table.loc[metric]["bias"]
        assert limits.to_numpy() == pytest.approx(limits.iloc[0])
        assert table.loc[(metric, 50)]["bias"] < 0 < table.loc[(metric, 50)]["bias_error"]
    assert table.loc["ess p"]["bias"].isna().all()


def test_the_figure_shows_where_estimates_are_heading(run):
    """Also from a table of an earlier version, which knows no biases."""
    from harness.reporting.figures import figure_3_3, style

    do(run)
    style.use_theme()
    table = pd.read_csv(RunFolder(run).table_file("k_sensitivity"))
    facts = {"dataset": "patterns", "method": "bihm", "title": "BiHM", "kind": "latent", "variant": "", "seed": 0}
    table = pd.concat([pd.DataFrame(facts, index=table.index), table], axis=1)
    data = figure_3_3.data(table).set_index(["metric", "k"])
    expected = table.set_index(["metric", "k"]).loc[data.index]
    assert data[["value", "bias", "bias_error"]].to_numpy() == pytest.approx(
        expected[["value", "bias", "bias_error"]].to_numpy()
    )
    (panel,) = (axes for axes in figure_3_3.draw(data.reset_index()).axes if axes.has_data())
    limits = {round(float(line.get_ydata()[0]), 9) for line in panel.lines if list(line.get_xdata()) == [2.5 * 50]}
    last = data.xs(50, level="k")
    assert limits >= set((last["value"] - last["bias"]).round(9))

    old = figure_3_3.data(table.drop(columns=["bias", "bias_error"]))
    assert old["bias"].isna().all()
    (panel,) = (axes for axes in figure_3_3.draw(old).axes if axes.has_data())
    assert max(max(line.get_xdata()) for line in panel.lines if len(line.get_xdata()) > 1) == 50
    bars = [bar.get_segments()[0][:, 0] for bar in panel.collections if isinstance(bar, LineCollection)]
    assert sorted(x for x, _ in bars) == sorted({x for x, _ in bars})  # beside each other
    assert all(50 <= x == same < 100 for x, same in bars)
    assert len(bars) == 2


def test_a_result_that_holds_is_kept_and_another_setting_is_not(run):
    do(run)
    path = RunFolder(run).table_file("k_sensitivity")
    before = path.stat().st_mtime_ns
    do(run, load=lambda: pytest.fail("nothing is to be computed"))
    assert path.stat().st_mtime_ns == before
    do(run, Planned("k_sensitivity", {"rows": 20, "ks": [1, 5]}, ()))
    assert set(pd.read_csv(path)["k"]) == {1, 5}


def test_a_failing_analysis_is_told_counted_and_tried_again(run, monkeypatch):
    def broken(subject, rows: int, ks: list[int]):
        raise RuntimeError("the method's own mistake")

    planned = Planned("k_sensitivity", {"rows": 7, "ks": [1]}, ())
    already = failures(RunFolder(run).manifest_file)
    with monkeypatch.context() as patched:
        patched.setattr(k_sensitivity, "analyse", broken)
        found = do(run, planned)
        assert (found["status"], found["message"]) == (FAILED, "RuntimeError: the method's own mistake")
        with pytest.raises(RuntimeError):
            do(run, planned, strict=True)
    assert failures(RunFolder(run).manifest_file) == already + 1
    assert do(run, planned)["status"] == OK
    assert failures(RunFolder(run).manifest_file) == already + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [({"rows": "all"}, r"analyses.k_sensitivity: rows: expected"), ({"kx": [1]}, "unknown key 'kx'")],
    ids=["type", "unknown"],
)
def test_wrong_settings_are_errors_that_name_the_key(run, change, message):
    with pytest.raises(ConfigError, match=message):
        do(run, Planned("k_sensitivity", {**SETTINGS, **change}, ()))


def test_left_out_and_no_model_have_reasons(tmp_path):
    RunFolder(tmp_path).write_status(UNAVAILABLE, "no such data")
    found = do(tmp_path, Planned("k_sensitivity", SETTINGS, ("importance weights",)))
    assert (found["status"], found["message"]) == (LEFT_OUT, "bihm has no importance weights")
    found = do(tmp_path, load=lambda: pytest.fail("there is nothing to load"))
    assert (found["status"], found["message"]) == (NO_MODEL, "unavailable: no such data")
    assert read_manifest(RunFolder(tmp_path).manifest_file)["analyses"]["k_sensitivity"]["status"] == NO_MODEL


def test_figures_need_the_manifest(tmp_path):
    with pytest.raises(DataError, match=r"analyses\.json"):
        read_manifest(RunFolder(tmp_path).manifest_file)


def test_pooling_over_seeds():
    frame = pd.DataFrame(
        [("d", "m", "M", "latent", "", seed, 10, value, 0.3) for seed, value in enumerate([1.0, 2.0, 3.0])],
        columns=[*gather.CELL, "seed", "k", "value", "sem"],
    )
    (pooled,) = gather.over_seeds(frame, by=("k",)).itertuples()
    assert (pooled.value, pooled.n_seeds) == (2.0, 3)
    assert pooled.sem == pytest.approx(math.sqrt(0.09 + 1.0 / 3))
    assert pooled.sem_df == pytest.approx(2 * ((0.09 + 1.0 / 3) * 3) ** 2)  # Satterthwaite's, rows without end
    (single,) = gather.over_seeds(frame[:1], by=("k",)).itertuples()
    assert (single.sem, single.sem_df) == (0.3, math.inf)


def test_every_colour_of_a_method_is_seen_on_white():
    """The contrast of WCAG 2, (1 + 0.05) / (L + 0.05); seaborn's yellow has 1.4."""
    found = style.look([f"method_{i}" for i in range(80)])
    assert min(1.05 / (relative_luminance(each["color"]) + 0.05) for each in found.values()) > 2
    assert len({(each["color"], each["marker"]) for each in found.values()}) == 80


def test_looks_of_known_methods_never_change_and_differ():
    few, many = style.look(["rws", "mine"]), style.look(["mine", "bihm", "rws", "another"])
    assert few["rws"] == many["rws"]
    assert len({(look["marker"], tuple(look["color"])) for look in many.values()}) == 4


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([0.2, 0.5, 0.8], [0.2, 0.5, 0.8]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.2, 0.5, 0.52, 0.54], [0.2, 0.42, 0.52, 0.62]),
        ([0.0, 0.0, 0.12], [0.0, 0.1, 0.2]),
        ([0.99, 1.0], [0.9, 1.0]),
        ([], []),
    ],
)
def test_names_of_lines_are_moved_apart_as_little_as_possible(places, expected):
    assert panels.moved_apart(places, [0.1] * len(places)) == pytest.approx(expected)


def test_a_label_of_two_lines_takes_twice_the_room():
    assert panels.moved_apart([0.5, 0.5], [0.2, 0.1]) == pytest.approx([0.425, 0.575])


def test_lines_of_one_name_share_a_label():
    figure, (axes,) = panels.grid(1, "x", "y")
    axes.set_ylim(0.0, 4.0)
    panels.label_ends(
        axes, [(1.0, 3.0, "BiHM", "b"), (1.0, 1.0, "BiHM", "b"), (1.0, 2.0, "BiHM", "b"), (1, 0, "VAE", "r")]
    )
    style.close(figure)
    assert [(text.get_text(), text.xy[1]) for text in axes.texts] == [("VAE", 0), ("BiHM (3 variants)", 2.0)]


def test_a_line_that_leaves_the_panel_is_named_where_it_left():
    figure, (axes,) = panels.grid(1, "x", "y")
    axes.set_ylim(0.0, 4.0)
    panels.label_ends(axes, [(1.0, -9.0, "far below", "b"), (1.0, 2.0, "within", "r"), (1.0, math.nan, "nowhere", "g")])
    style.close(figure)
    assert [(text.get_text(), text.xy[1]) for text in axes.texts] == [("far below", 0.0), ("within", 2.0)]


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*/figures/*.csv")), ids=lambda path: path.stem)
def test_no_legend_explains_more_lines_than_one_tells_apart(path):
    """Of the published quick run, drawn again: where there are more, each line is named at its end."""
    module = importlib.import_module(f"harness.reporting.figures.{path.stem}")
    style.use_theme()
    figure = module.draw(pd.read_csv(path, keep_default_na=False, na_values=[""]))
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    named = [len(axes.texts) for axes in figure.axes]
    style.close(figure)
    assert all(len(legend.get_texts()) <= MOST_IN_LEGEND for legend in legends)
    if path.stem in ("figure_3_3", "figure_3_4", "figure_ess_by_k", "figure_layer_features", "figure_sweeps"):
        assert not legends
        assert all(named)


def test_names_of_many_lines_do_not_overlap():
    style.use_theme()
    figure, (axes,) = panels.grid(1, "x", "y")
    axes.set_ylim(0.0, 1.0)
    panels.label_ends(axes, [(1.0, 0.5 + 0.001 * i, f"line {i}", "k") for i in range(13)])
    figure.canvas.draw()
    boxes = sorted((Text.get_window_extent(text) for text in axes.texts), key=lambda box: box.y0)  # without the arrow
    style.close(figure)
    assert len(boxes) == 13
    assert all(below.y1 <= above.y0 for below, above in pairwise(boxes))


def test_notes_stand_below_the_caption(tmp_path):
    asked = settings(k_sensitivity={"*": SETTINGS})
    paths = write.write_figure("figure_3_3", asked, [cell(method="nade")], tmp_path / "runs", tmp_path)
    caption, notes = paths[-1].read_text().split("\n\n")
    assert caption.startswith("Sensitivity of the test-set log-likelihood")
    assert notes == "- Not shown: nade: no importance weights.\n"


def test_every_figure_says_what_it_is_drawn_from():
    from harness.plugins.analyses import analysis_names

    for name in write.figure_names():
        assert set(write.analyses_behind(name)) <= set(analysis_names())


def test_an_unknown_figure_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"expected one of .*figure_3_3.*found 'figure_9_9'"):
        write.write_figure("figure_9_9", settings(), [], tmp_path, tmp_path)


def test_a_figure_without_anything_to_draw_says_why(tmp_path):
    asked = settings(k_sensitivity={"*": SETTINGS})
    cells = [cell(method="nade")]
    paths = write.write_figure("figure_3_3", asked, cells, tmp_path / "runs", tmp_path)
    assert [path.suffix for path in paths] == [".csv", ".png", ".pdf", ".rst"]
    assert "nade: no importance weights" in paths[0].read_text()
    assert all(path.stat().st_size > 0 for path in paths)


def test_a_figure_of_a_trained_model(run, tmp_path):
    asked = settings(k_sensitivity={"*": SETTINGS})
    do(run, analyses_of(asked, cell())[0])
    home = tmp_path / "runs" / cell().path
    home.parent.mkdir(parents=True)
    home.symlink_to(run)
    paths = write.write_figure("figure_3_3", asked, [cell(), cell(method="nade")], tmp_path / "runs", tmp_path)
    table = pd.read_csv(paths[0])
    assert set(table["metric"]) == {"log p", "log p*"}
    assert (table["method"] == "bihm").all()
    assert "Not shown: nade: no importance weights." in paths[3].read_text()
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    assert paths[2].read_bytes().startswith(b"%PDF")
