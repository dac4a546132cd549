"""Budgets at other lengths: which trials there are, how they are scored in pairs, and what the table advises."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from cells import cell, patterns, trial_call

from harness.cli import main
from harness.errors import ConfigError, DataError
from harness.reporting.budgets import COLUMNS, budget_table, markdown, summary, write_budgets
from harness.settings.config import cells, load_settings
from harness.storage.budgets import budget_trials
from harness.storage.records import read_json
from harness.storage.runs import DIVERGED, RunFolder
from harness.storage.search import find_trial, trials
from harness.training.scores import FILE, validation_scores
from harness.training.train import train

CPU = torch.device("cpu")
GRID = load_settings({"preset": "smoke"})["grid"]
TINY = {  # two cells of rws and one of vae_hmc, and nothing else
    "preset": "smoke",
    "grid": {
        **dict.fromkeys(GRID),
        "rws": {
            **dict.fromkeys(GRID["rws"]),
            "adult": {"model": {"layers": [4]}},
            "connect4/two layers": {"model": {"layers": [3, 2]}},
        },
        "vae_hmc": {
            **dict.fromkeys(GRID["vae_hmc"]),
            "binarized_mnist": {"model": {"latent": 2, "hidden": [3], "iterations": 2, "warm_up": 30}},
        },
    },
    "budgets": {
        "rws": {
            name: {
                "training": {
                    "validate_every": 10,
                    "schedule": {"updates": [30, 10], "learning_rate": 0.02, "n_samples": 2},
                }
            }
            for name in ("adult", "connect4")
        }
    },
    "budget_trials": {"lengths": [0.5, 1, 2], "rates": [1]},
}


def planned(only="rws/adult", **asked):
    settings = load_settings({**TINY, "only": only, "budget_trials": {**TINY["budget_trials"], **asked}})
    return budget_trials(settings, cells(settings))


def test_a_length_multiplies_all_updates_and_the_looks_along_with_them():
    own, half, twice = planned()
    assert [trial.name for trial in (own, half, twice)] == ["length=1", "length=0.5", "length=2"]
    assert [trial.chosen for trial in (own, half, twice)] == [True, False, False]
    for trial, updates, every in ((own, [30, 10], 10), (half, [15, 5], 5), (twice, [60, 20], 20)):
        training = trial.cell.training
        assert [phase.updates for phase in training.phases] == updates
        assert [phase.learning_rate for phase in training.phases] == [0.02, 0.002]
        assert training.validate_every == every
    settings = load_settings(TINY)
    (of_grid,) = (each for each in cells(settings) if each.path == "adult/rws/default/0")
    assert own.cell == of_grid


def test_rates_multiply_learning_rates_and_the_own_budget_is_always_there():
    names = [trial.name for trial in planned(lengths=[0.5], rates=[1, 2])]
    assert names == ["length=1", "length=0.5", "length=0.5,rate=2"]
    last = planned(lengths=[0.5], rates=[2])[-1].cell.training
    assert [(phase.updates, phase.learning_rate) for phase in last.phases] == [(15, 0.04), (5, 0.004)]


def test_lengths_that_come_to_the_same_training_are_one_trial():
    assert [trial.name for trial in planned(lengths=[0.5, 0.501, 1.0])] == ["length=1", "length=0.5"]


def test_hyperparameters_that_count_updates_are_scaled():
    trials = planned("vae_hmc", lengths=[0.5])
    assert [trial.cell.model["warm_up"] for trial in trials] == [30, 15]
    trials = planned("vae_hmc", lengths=[0.5], scaled=[])
    assert [trial.cell.model["warm_up"] for trial in trials] == [30, 30]


def test_each_cell_has_its_own_trials_of_one_repetition():
    found = planned(None)
    paths = ("adult/rws/default", "connect4/rws/two_layers", "binarized_mnist/vae_hmc/default")
    assert [trial.path for trial in found] == [f"{path}/length={length}" for path in paths for length in (1, 0.5, 2)]
    settings = load_settings({**TINY, "repetitions": 2})
    assert len(cells(settings)) == 6
    assert [trial.path for trial in budget_trials(settings, cells(settings))] == [trial.path for trial in found]


def test_what_has_no_updates_has_no_trials():
    quick = load_settings({"preset": "quick"})
    found = {trial.cell.method for trial in budget_trials(quick, cells(quick))}
    assert {cell.method for cell in cells(quick)} - found == {"factorised", "mixture"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"lengths": [0]}, r"budget_trials\.lengths\.0: expected a number above 0, found 0"),
        ({"lengths": []}, r"budget_trials\.lengths: expected at least 1"),
        ({"rates": [1, 1]}, r"budget_trials\.rates: expected values that differ"),
        ({"rows": 1}, r"budget_trials\.rows: expected at least 2, found 1"),
        ({"length": [1]}, "budget_trials: unknown key 'length'"),
    ],
)
def test_wrong_settings_are_named(asked, message):
    with pytest.raises(ConfigError, match=message):
        load_settings({"budget_trials": asked})


def test_trials_of_budgets_are_no_trials_of_searches():
    settings = load_settings(TINY)
    assert trials(settings) == []
    found = find_trial(settings, "adult", "rws", "", "length=0.5", budget_trials(settings, cells(settings)))
    assert found.cell.training.validate_every == 5
    with pytest.raises(ConfigError, match="expected one of none at all, found length"):
        find_trial(settings, "adult", "rws", "", "length=0.5")


@pytest.mark.parametrize("method", ["rws", "nade", "vae_hmc", "label_mlp", "ssl_bihm_low"])
def test_scores_are_those_of_the_look_that_chose_the_model(method, tmp_path):
    chosen, data = cell(method), patterns()
    run = RunFolder(tmp_path / "run")
    train(chosen, data, run.path, CPU)
    scores = validation_scores(chosen, lambda: data, run, CPU, chosen.training.validation_rows)
    status = run.status()
    assert len(scores) == chosen.training.validation_rows
    assert scores.mean() == pytest.approx(status["best_validation"], rel=1e-12)
    assert len(validation_scores(chosen, lambda: data, run, CPU, None)) == len(data.valid)


def test_scores_are_read_again_until_the_model_or_the_rows_are_others(tmp_path):
    data, run = patterns(), RunFolder(tmp_path / "run")
    train(cell("nade"), data, run.path, CPU)
    loaded = []

    def scores(chosen, rows):
        return validation_scores(chosen, lambda: loaded.append(1) or data, run, CPU, rows)

    first = scores(cell("nade"), 40)
    assert scores(cell("nade"), 40).tolist() == first.tolist()
    assert len(loaded) == 1
    scores(cell("nade"), 41)
    assert len(loaded) == 2
    longer = cell("nade", validate_every=10)
    train(longer, data, run.path, CPU)
    with pytest.raises(DataError, match="training digest"):
        scores(cell("nade"), 41)
    scores(longer, 41)
    assert len(loaded) == 3
    (run.path / FILE).write_text((run.path / FILE).read_text().replace("losses", "lossez"), encoding="utf-8")
    scores(longer, 41)
    assert len(loaded) == 4


def test_a_model_that_is_missing_has_no_scores(tmp_path):
    run = RunFolder(tmp_path)
    run.write_status(DIVERGED, "not finite at update 20")
    with pytest.raises(DataError, match="expected a trained model, found diverged"):
        validation_scores(cell("nade"), patterns, run, CPU, 40)


def _table(tmp_path, losses, status="ok"):
    """The table of trials of one cell, planned in memory, by length -> losses [B] of its model; None: no model."""
    found = {trial.name: trial for trial in planned(lengths=[0.25, 0.5, 1, 2, 4], rates=[1, 3])}
    asked = [found[name] for name in losses]
    for trial in asked:
        run = RunFolder(tmp_path / trial.path)
        run.path.mkdir(parents=True)
        n = sum(phase.updates for phase in trial.cell.training.phases)
        ok = losses[trial.name] is not None
        facts = {"n_updates": n, "best_update": n, "train_seconds": n / 100} if ok else {}
        run.write_status("ok" if ok else status, "", **facts)
        updates = np.linspace(0, n, 7)
        pd.DataFrame({"update": updates, "valid_loss": [99, 20, 16, 12, 11, 11.5, 10]}).to_csv(run.curve_file)
    return budget_table(asked, tmp_path, lambda trial, run: losses[trial.name], CHANCE)


CHANCE = 0.1
ROWS = np.random.default_rng(0).normal(20, 3, 400)


def lower(by, spread=1.0, rows=400):
    """Losses that are lower by so much on average, exactly, with a standard deviation of the differences."""
    noise = np.random.default_rng(1).normal(size=rows)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return ROWS[:rows] - by + spread * noise


def test_differences_are_paired_and_rows_of_the_tables_decide_how_much_they_weigh(tmp_path):
    table = _table(tmp_path, {"length=1": ROWS, "length=0.5": lower(-0.2, 0.4)}).set_index("trial")
    half = table.loc["length=0.5"]
    assert half["difference"] == pytest.approx(0.2)
    assert half["difference_sem"] == pytest.approx(0.4 / math.sqrt(400))
    rows = planned()[0].cell.evaluation.rows
    assert half["tables_sem"] == pytest.approx(0.4 / math.sqrt(rows))
    assert half["sem"] > 5 * half["difference_sem"]
    assert half["ms_per_update"] == pytest.approx(10)
    assert half["train_seconds"] == pytest.approx(0.2)


def test_the_late_fall_is_that_of_the_lowest_loss_so_far_after_the_first_look(tmp_path):
    (row,) = _table(tmp_path, {"length=1": ROWS}).itertuples()
    assert row.late_fall == pytest.approx(11 - 10)  # looks at 4/6 and 6/6 of the updates
    assert row.late_share == pytest.approx((11 - 10) / (20 - 10))


T = 1 / math.sqrt(100)  # the tables' error of differences with a standard deviation of 1: 100 test rows
A = (2 - 1.2816 * math.sqrt(1 + 100 / 400)) * T  # allowed: 400 validation rows, a chance of one in ten


@pytest.mark.parametrize(
    ("others", "proposed", "verdict"),
    [
        ({"length=0.25": -1.01 * A, "length=0.5": -0.99 * A, "length=2": 3 * T}, "length=0.5", "shorten to 20 updates"),
        ({"length=0.25": -0.99 * A, "length=0.5": -1.01 * A}, "length=0.25", "shorten to 10 updates"),
        ({"length=0.5": -1.01 * A, "length=2": 1.9 * T}, "length=1", "keep"),
        ({"length=0.5": -1.01 * A, "length=2": 2.1 * T, "length=4": 9 * T}, "length=2", "lengthen to 80 updates"),
        (
            {"length=0.5": -2 * A, "length=0.5,rate=3": T},
            "length=0.5,rate=3",
            "shorten to 20 updates at 3 times the rate",
        ),
        ({"length=0.5": 0, "length=0.5,rate=3": T}, "length=0.5,rate=3", "shorten to 20 updates at 3 times the rate"),
        ({"length=1,rate=3": 1.9 * T}, "length=1", "keep"),
        ({"length=1,rate=3": 2.1 * T}, "length=1,rate=3", "keep 40 updates at 3 times the rate"),
        ({"length=0.5": None}, "length=1", "keep"),
    ],
)
def test_the_verdict_is_by_the_errors_that_a_reader_of_the_tables_has(tmp_path, others, proposed, verdict):
    gained = {name: None if gain is None else lower(gain) for name, gain in others.items()}
    table = _table(tmp_path, {"length=1": ROWS, **gained}, status="diverged")
    assert set(table["verdict"]) == {verdict}
    assert table[table["proposed"]]["trial"].tolist() == [proposed]
    assert table[table["own"]]["trial"].tolist() == ["length=1"]


def test_what_is_allowed_shows_as_worse_by_two_errors_once_in_ten_times(tmp_path):
    """Validation and test rows drawn anew: the table's reader sees two errors as often as ``chance`` says."""
    rng = np.random.default_rng(3)
    n, m, repeats = 300, 100, 20_000
    half = _table(tmp_path, {"length=1": ROWS[:n], "length=0.5": lower(-1.0, rows=n)}).iloc[1]
    assert half["tables_sem"] == pytest.approx(1 / math.sqrt(m))
    truth = half["allowed"] + rng.normal(size=repeats) / math.sqrt(n)  # as far as the validation rows tell
    seen = truth + rng.normal(size=repeats) / math.sqrt(m)
    assert np.mean(seen > 2 * half["tables_sem"]) == pytest.approx(CHANCE, abs=4 * math.sqrt(0.1 * 0.9 / repeats))


def test_without_a_model_of_the_own_budget_there_is_no_verdict(tmp_path):
    table = _table(tmp_path, {"length=1": None, "length=0.5": ROWS}, status="unavailable")
    assert set(table["verdict"]) == {"none: unavailable"}
    assert "| unavailable |" in markdown(table).replace("none: unavailable", "unavailable")


def test_the_page_has_a_line_per_trial_and_says_what_it_comes_to(tmp_path):
    table = _table(tmp_path, {"length=1": ROWS, "length=0.5": lower(0.0), "length=2": lower(0.0)})
    page = markdown(table).splitlines()
    assert page[2].startswith("| adult/rws | 40 | 1 | 0.4 | 10.00 |")
    assert page[2].endswith("| shorten to 20 updates |")
    assert page[3].startswith("|  | 20 | 1 | 0.2 |")
    assert page[3].endswith("| proposed |")
    assert summary(table) == "1 cells (shorten 1): 40 updates in 0 s now, 20 in 0 s as proposed."
    assert summary(table.iloc[:0]) == "No cells."
    with pytest.raises(DataError, match="name of a csv file"):
        write_budgets(table, tmp_path / "budgets.md")


def test_the_command_line_trains_scores_and_writes_the_table_and_measures_nothing(tmp_path, capsys):
    given = {**TINY, "only": "rws/adult"}
    settings = load_settings(given)
    text, found = json.dumps(given), planned()
    for trial in found:
        assert main(trial_call(trial, text, tmp_path)) == 0
        scored = read_json(tmp_path / trial.path / FILE)
        assert scored["rows"] == settings["budget_trials"]["rows"]
    (tmp_path / found[0].path / FILE).unlink()  # as after a kill: made again
    output = tmp_path / "budgets.csv"
    assert main(["budgets", "--settings", text, "--trials", str(tmp_path), "--output", str(output)]) == 0
    table = pd.read_csv(output)
    assert list(table.columns) == list(COLUMNS)
    assert table["n_updates"].tolist() == [40, 20, 80]
    assert (table["n_rows"] == 1414).all()  # the whole validation set of ADULT is shorter than the rows asked for
    assert table["difference"].tolist()[0] == 0
    assert table["difference"].tolist()[2] < 0 < table["difference"].tolist()[1]
    assert not list(tmp_path.rglob("metrics.json"))
    assert output.with_suffix(".md").read_text(encoding="utf-8") in capsys.readouterr().out
