"""What one call asks for: some of the cells, budgets of its own, a folder of its own."""

import json

import pytest

from harness.cli import main
from harness.compute import places
from harness.errors import ConfigError
from harness.reporting.tables.planned import NAMES, cells_compared, cells_shown, cells_waited_for, table_named
from harness.settings.asked import results_name, with_updates
from harness.settings.config import cells, load_settings, resolve
from harness.storage.runs import RunFolder


def paths(**asked):
    return [cell.path for cell in cells(load_settings({"preset": "quick", **asked}))]


@pytest.mark.parametrize(
    ("only", "methods", "datasets"),
    [
        ("nade/adult", {"nade"}, {"adult"}),
        ("nade/uci", {"nade"}, 8),
        ("nade", {"nade"}, 9),
        ("adult", 14, {"adult"}),
        (["nade/adult", "rws/dna"], {"nade", "rws"}, {"adult", "dna"}),
        (" nade/adult , vae ", {"nade", "vae"}, {"adult", "binarized_mnist"}),
        ("rws/binarized_mnist/5 layers", {"rws"}, {"binarized_mnist"}),
        ("rws/binarized_mnist/5_layers", {"rws"}, {"binarized_mnist"}),
    ],
)
def test_words_name_methods_data_sets_groups_and_cells(only, methods, datasets):
    found = [path.split("/") for path in paths(only=only)]
    for wanted, place in ((methods, 1), (datasets, 0)):
        names = {parts[place] for parts in found}
        assert (names if isinstance(wanted, set) else len(names)) == wanted


def test_ablations_are_cells_like_others():
    assert {path.split("/")[2] for path in paths(only="bihm/connect4/all layers")} == {"all_layers"}


@pytest.mark.parametrize("only", ["nope", "nade/nope", "nade/adult/nope", "adult/nade", "", "nade,,vae", ["nade", "x"]])
def test_a_word_that_no_cell_answers_to_is_named(only):
    with pytest.raises(ConfigError, match=r"settings: only: expected methods .*bihm.*, data sets .*adult.*, found '"):
        paths(only=only)


def test_updates_and_seeds_beat_every_budget():
    settings = load_settings({"preset": "quick", "updates": 300, "seeds": 2, "budgets": {"nade": {"adult": {
        "repetitions": 5, "training": {"schedule": {"updates": [4000, 2000]}}}}}})  # fmt: skip
    for cell in cells(settings):
        assert sum(phase.updates for phase in cell.training.phases) == (300 if cell.training.phases else 0)
    assert [cell.seed for cell in cells(settings) if (cell.method, cell.dataset) == ("nade", "adult")] == [0, 1]
    nade = resolve(settings, "adult", "nade")
    assert [phase.updates for phase in nade.training.phases] == [200, 100]
    assert nade.training_digest != resolve(load_settings({"preset": "quick"}), "adult", "nade").training_digest


def test_updates_are_spread_over_phases_and_looks_with_them():
    phases = [{"updates": n, "learning_rate": 0.1, "n_samples": 1} for n in (3000, 1000)]
    training = {"phases": phases, "validate_every": 250}
    assert with_updates(training, None) == with_updates(training, 4000) == training
    shorter = with_updates(training, 40)
    assert ([phase["updates"] for phase in shorter["phases"]], shorter["validate_every"]) == ([30, 10], 2)
    longer = with_updates(training, 40_000)
    assert ([phase["updates"] for phase in longer["phases"]], longer["validate_every"]) == ([30_000, 10_000], 250)
    one = with_updates(training, 1)
    assert ([phase["updates"] for phase in one["phases"]], one["validate_every"]) == ([1], 1)
    assert with_updates({"phases": [], "validate_every": 5}, 10) == {"phases": [], "validate_every": 5}


def test_results_go_to_a_folder_of_their_own():
    assert results_name(load_settings({"preset": "smoke"})) == "smoke"
    assert results_name(load_settings({"preset": "smoke", "name": "exp1"})) == "exp1"


@pytest.mark.parametrize("name", ["quick", "Long", "published", "bench", "a/b", "..", "", "-x"])
def test_names_of_other_folders_are_refused(name):
    with pytest.raises(ConfigError, match="settings: name: expected "):
        load_settings({"preset": "smoke", "name": name})


def test_a_run_by_hand_prints_its_numbers_and_can_be_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(places, "ROOT", tmp_path)
    data = {"cache": str(tmp_path / "cache"), "mirrors": [], "download": False}
    asked = json.dumps({"preset": "smoke", "updates": 20, "name": "exp", "data": data})
    assert main(["run", "--dataset", "connect4", "--method", "nade", "--settings", asked]) == 0
    folder = tmp_path / "results/exp/runs/connect4/nade/default/0"
    rows = RunFolder(folder).measurements()
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"connect4/nade/default/0: {folder}"
    (number,) = [line.split() for line in printed if line.startswith("-log p ")]
    assert float(number[2]) == pytest.approx(rows[0]["value"], rel=1e-4)
    assert main(["show", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert printed[-1] in shown
    assert "n_updates 20" in shown
    assert "hidden 100" in shown
    assert main(["show", str(tmp_path)]) == 1
    assert f"{tmp_path}: expected the folder of a run, with config.json, found none" in capsys.readouterr().err


def test_quick_tables_wait_for_the_thesis_and_its_controls():
    """What is left to the overview is in no printed row, and every word of the preset leaves something."""
    settings = load_settings({"preset": "quick"})
    every = cells(settings)
    shown = cells_shown(every, settings)
    waited = cells_waited_for(shown, settings)
    printed = {cell for name in NAMES for cell in table_named(name).printed_cells()}
    names = {(cell.dataset, cell.method, cell.variant) for cell in waited}
    assert {(cell.dataset, cell.method, cell.variant) for cell in printed} <= names
    assert {"factorised", "label_mlp", "label_logistic"} <= {cell.method for cell in waited}
    assert {cell.path for cell in waited} < {cell.path for cell in cells_compared(every, settings)}
    for word in settings["left_to_overview"]:
        one = load_settings({"preset": "quick", "left_to_overview": [word]})
        assert len(cells_waited_for(shown, one)) < len(shown), word


def test_who_asks_for_a_cell_that_is_left_to_the_overview_gets_it():
    settings = load_settings({"preset": "quick", "only": "vimco/adult"})
    (cell,) = cells_waited_for(cells_shown(cells(settings), settings), settings)
    assert cell.path == "adult/vimco/default/0"


def test_nothing_of_a_grid_of_ones_own_is_left_to_the_overview():
    settings = load_settings({"preset": "quick", "grid": "adult,dna"})
    shown = cells_shown(cells(settings), settings)
    assert {cell.method for cell in cells_waited_for(shown, settings)} == set(settings["suite"])
    asked = load_settings({"preset": "quick", "grid": "adult,dna", "left_to_overview": ["mixture"]})
    assert len(cells_waited_for(shown, asked)) == len(shown) - 2
