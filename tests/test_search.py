"""Searches: which trials the settings ask for, that a trial is trained and not measured, and what is found."""

import json
import shutil

import pandas as pd
import pytest
from cells import trial_call

from harness.cli import main
from harness.errors import ConfigError, DataError
from harness.settings.config import load_settings, resolve
from harness.storage.search import find_trial, findings, trials

PHASES = [
    {"updates": 30, "learning_rate": 0.02, "n_samples": 2},
    {"updates": 10, "learning_rate": 0.002, "n_samples": 2},
]
TINY = {
    "preset": "smoke",
    "grid": {"rws": {"adult": {"model": {"layers": [4]}}}},
    "budgets": {"rws": {"adult": {"training": {"phases": PHASES, "l1": 0.001}}}},
    "searches": {"rws": {"adult": {"learning_rate": [0.02, 0.05], "training.l1": [0.0, 0.001], "updates": 20}}},
}


def test_every_combination_is_a_trial():
    found = trials(load_settings(TINY))
    assert [trial.name for trial in found] == [
        "learning_rate=0.02,training.l1=0.0",
        "learning_rate=0.02,training.l1=0.001",
        "learning_rate=0.05,training.l1=0.0",
        "learning_rate=0.05,training.l1=0.001",
    ]
    assert [trial.chosen for trial in found] == [False, True, False, False]
    last = found[-1].cell.training
    assert [(phase.updates, phase.learning_rate) for phase in last.phases] == [(15, 0.05), (5, 0.005)]
    assert last.l1 == 0.001


def test_without_a_budget_of_its_own_the_winner_is_the_cell_of_the_grid():
    settings = load_settings({**TINY, "searches": {"rws": {"adult": {"model.layers": [[4], [3, 2]]}}}})
    first, second = trials(settings)
    assert first.cell == resolve(settings, "adult", "rws")
    assert first.chosen
    assert second.name == "model.layers=3-2"
    assert second.cell.model["layers"] == [3, 2]
    assert second.cell.training_digest != first.cell.training_digest


def test_whole_schedules_can_be_compared():
    last = {"updates": 5, "learning_rate": 0.001, "n_samples": 9}
    longer = [{"updates": 30, "learning_rate": 0.005, "n_samples": 2}, last]
    found = trials(load_settings({**TINY, "searches": {"rws": {"adult": {"training.phases": [PHASES, longer]}}}}))
    assert [trial.chosen for trial in found] == [True, False]
    assert found[1].name == "training.phases=30x0.005x2-5x0.001x9"
    assert [phase.updates for phase in found[1].cell.training.phases] == [30, 5]


def test_mappings_that_are_no_phases_are_named_by_their_values():
    labels = [{"rows": 1000, "per_batch": 20}, {"per_batch": 100, "rows": 1000}]  # in whatever order
    found = trials(load_settings({**TINY, "searches": {"rws": {"adult": {"training.labels": labels}}}}))
    assert [trial.name for trial in found] == ["training.labels=20x1000", "training.labels=100x1000"]


def test_the_order_of_a_phases_keys_does_not_change_the_name_of_a_trial():
    phases = [dict(sorted(phase.items())) for phase in PHASES]  # as files of settings may have them
    (trial,) = trials(load_settings({**TINY, "searches": {"rws": {"adult": {"training.phases": [phases]}}}}))
    assert trial.name == "training.phases=30x0.02x2-10x0.002x2"


def test_finer_combinations_are_laid_over_the_coarse_ones():
    finer = [{"learning_rate": [0.02, 0.03], "training.l1": [0.001]}, {"learning_rate": [0.04]}]
    search = {**TINY["searches"]["rws"]["adult"], "finer": finer}
    found = trials(load_settings({**TINY, "searches": {"rws": {"adult": search}}}))
    assert [trial.name for trial in found[4:]] == [
        "learning_rate=0.03,training.l1=0.001",
        "learning_rate=0.04,training.l1=0.0",
        "learning_rate=0.04,training.l1=0.001",
    ]
    assert [sum(phase.updates for phase in trial.cell.training.phases) for trial in found] == [20] * 7


def test_finer_combinations_may_be_longer_and_the_longest_is_what_was_chosen():
    finer = [{"updates": [40], "learning_rate": [0.02], "training.l1": [0.001]}]
    search = {**TINY["searches"]["rws"]["adult"], "finer": finer}
    found = trials(load_settings({**TINY, "searches": {"rws": {"adult": search}}}))
    assert [sum(phase.updates for phase in trial.cell.training.phases) for trial in found] == [20, 20, 20, 20, 40]
    assert found[-1].name == "learning_rate=0.02,training.l1=0.001,updates=40"
    assert found[-1].cell.training_digest == resolve(load_settings(TINY), "adult", "rws").training_digest
    assert [trial.chosen for trial in found] == [False, False, False, False, True]


def test_a_longer_trial_is_not_what_was_chosen_where_the_grid_has_the_shorter():
    search = {"learning_rate": [0.02, 0.05], "finer": [{"updates": [400], "learning_rate": [0.02]}]}
    found = trials(load_settings({**TINY, "searches": {"rws": {"adult": search}}}))
    assert [trial.name for trial in found if trial.chosen] == ["learning_rate=0.02"]


@pytest.mark.parametrize("finer", [{"learning_rate": [0.1]}, [{}], [{"learning_rate": 0.1}], [{"updates": [0]}], []])
def test_finer_combinations_are_a_list_of_axes(finer):
    search = {**TINY["searches"]["rws"]["adult"], "finer": finer}
    with pytest.raises(ConfigError, match="finer"):
        load_settings({**TINY, "searches": {"rws": {"adult": search}}})


def test_groups_of_data_sets_have_searches():
    settings = load_settings({"preset": "smoke", "searches": {"nade": {"uci": {"learning_rate": [0.1]}}}})
    assert {trial.cell.dataset for trial in trials(settings)} == set(settings["groups"]["uci"])


@pytest.mark.parametrize("axis", ["training.rate", "model.width", "evaluation.rows", "phases"])
def test_an_axis_that_is_no_setting_is_named(axis):
    with pytest.raises(ConfigError, match=f"expected axes out of learning_rate.*found '{axis}'"):
        load_settings({**TINY, "searches": {"rws": {"adult": {axis: [1]}}}})


def test_a_trial_that_nobody_asked_for_is_an_error():
    with pytest.raises(ConfigError, match=r"trial: adult/rws/default: expected one of learning_rate.*found learn"):
        find_trial(load_settings(TINY), "adult", "rws", "", "learning_rate=7")
    with pytest.raises(ConfigError, match="trial: adult/bihm/default: expected one of none at all"):
        find_trial(load_settings(TINY), "adult", "bihm", "", "learning_rate=7")


@pytest.mark.parametrize("variant", ["two layers", "two_layers"])
def test_the_variant_of_a_trial_is_named_as_in_the_grid_or_as_in_paths(variant):
    named = {
        "preset": "smoke",
        "grid": {"rws": {"adult/two layers": {"model": {"layers": [3, 2]}}}},
        "searches": {"rws": {"adult/two layers": {"training.l1": [0.0]}}},
    }
    assert find_trial(load_settings(named), "adult", "rws", variant, "training.l1=0.0").cell.variant == "two layers"


def test_trials_are_trained_gathered_and_never_measured_on_the_test_set(tmp_path):
    settings = load_settings(TINY)
    planned = trials(settings)
    text = json.dumps(TINY)
    for trial in planned:
        assert main(trial_call(trial, text, tmp_path)) == 0
    assert not list(tmp_path.rglob("metrics.json"))
    assert main(["searches", "--settings", text, "--trials", str(tmp_path), "--output", str(tmp_path / "s.csv")]) == 0
    found = pd.read_csv(tmp_path / "s.csv")
    assert found["n_updates"].tolist() == [20] * 4
    assert found["status"].tolist() == ["ok"] * 4
    assert found["chosen"].tolist() == [False, True, False, False]
    assert sorted(found["rank"]) == [1, 2, 3, 4]
    assert found.loc[found["rank"] == 1, "validation_loss"].item() == found["validation_loss"].min() < 30
    assert (found["sem"] > 0).all()

    other = trials(load_settings({**TINY, "budgets": {"rws": {"adult": {"training": {"batch_size": 50}}}}}))
    with pytest.raises(DataError, match="digest"):
        findings(other, tmp_path)


def test_what_the_grid_has_is_not_trained_as_a_trial_and_as_a_run(tmp_path, monkeypatch, capsys):
    results = tmp_path / "smoke"
    for module in ("options", "cells"):
        monkeypatch.setattr(f"harness.cli.{module}.results_of", lambda settings: results)
    settings = {**TINY, "searches": {"rws": {"adult": {"training.l1": [0.001, 0.0]}}}}
    here = ["--settings", json.dumps(settings), "--dataset", "adult", "--method", "rws"]
    trial, run = results / "searches/adult/rws/default/training.l1=0.001", results / "runs/adult/rws/default/0"
    (run / "snapshots").mkdir(parents=True)
    (run / "snapshots/7.safetensors").write_text("of another training", encoding="utf-8")
    assert main(["trial", *here, "--trial", "training.l1=0.001"]) == 0
    assert main(["run", *here]) == 0
    assert "was trained before, in" in capsys.readouterr().err
    assert not list((run / "snapshots").iterdir())
    assert (run / "model.safetensors").read_bytes() == (trial / "model.safetensors").read_bytes()
    assert (run / "status.json").read_bytes() == (trial / "status.json").read_bytes()
    assert (run / "metrics.json").is_file()
    shutil.rmtree(results / "searches")
    assert main(["trial", *here, "--trial", "training.l1=0.001"]) == 0
    assert "was trained before, in" in capsys.readouterr().err
    assert main(["trial", *here, "--trial", "training.l1=0.0"]) == 0
    assert "was trained before, in" not in capsys.readouterr().err


def test_no_searches_no_rows(tmp_path):
    assert findings(trials(load_settings({"preset": "smoke"})), tmp_path).empty


def test_a_cell_that_is_taken_out_of_the_grid_takes_its_search_along():
    long = load_settings({"preset": "long", "grid": {"rbm": {"adult": None}, "bihm": {"adult": None}}})
    left = {(trial.cell.method, trial.cell.dataset) for trial in trials(long)}
    all_of_them = {(trial.cell.method, trial.cell.dataset) for trial in trials(load_settings({"preset": "long"}))}
    assert all_of_them - left == {(method, "adult") for method in ("bihm", "rbm") if (method, "adult") in all_of_them}
    assert all_of_them - left


def test_a_search_without_axes_or_with_names_too_long_for_a_file_system_is_refused():
    def of(search):
        return trials(load_settings({**TINY, "searches": {"rws": {"adult": search}}}))

    with pytest.raises(ConfigError, match="searches: adult/rws/default/0: expected axes besides updates and finer"):
        of({"updates": 5})
    with pytest.raises(ConfigError, match=r"expected values that make a shorter name, found training\.phases=30x"):
        of({"training.phases": [PHASES * 20]})
