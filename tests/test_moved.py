"""What moved between two runs: a word for every number, the planted changes first, no false alarms by seeds."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from test_check import CELL, RULES, at, run
from test_check_power import RUNS, at_most, shifted, with_rows

from harness.check.moved import (
    GONE,
    IDENTICAL,
    NEW,
    ORDER,
    folded,
    frame_of,
    moved,
)
from harness.check.moved_page import lines
from harness.check.summary import summarize
from harness.check.verdict import CANNOT_TELL, CHANGED, REPRODUCED
from harness.check.write import PUBLISHED
from harness.cli import main
from harness.reporting.tables.reported import Key


def words(found):
    return {each.key: each.word for each in found}


@pytest.fixture(name="pair")
def two_runs():
    rng = np.random.default_rng(0)
    return run(rng), run(rng)


def moved_of(ours, theirs):
    return moved(summarize(ours, "A"), summarize(theirs, "B"), RULES)


def test_a_run_against_itself_is_identical():
    for preset in ("quick", "long"):
        found = moved(RUNS[preset], RUNS[preset], RULES)
        assert set(words(found).values()) == {IDENTICAL}
        assert len(found) == len(RUNS[preset].numbers)


@pytest.mark.parametrize("preset", ["quick", "long"])
def test_a_planted_change_comes_first_and_alone(preset):
    theirs = RUNS[preset]
    key = Key("dna", "nade", "", "-log p")
    found = moved(shifted(theirs, key, 0.3), theirs, RULES)
    assert (found[0].key, found[0].word, found[0].direction) == (key, CHANGED, "worse")
    assert {each.word for each in found[1:]} == {IDENTICAL}


def test_runs_of_other_presets_are_compared(pair):
    """Other seeds, updates, presets: the words of the pairs, and what is different beside the values."""
    ours = pair[0].assign(preset="quick", n_updates=200)
    found = moved_of(ours, pair[1])
    assert set(words(found).values()) <= {REPRODUCED, CANNOT_TELL}
    assert all("updates: 1,000 before, 200 now" in each.remark for each in found)
    ours.loc[at(ours), "value"] -= 3.0
    first = moved_of(ours, pair[1])[0]
    assert (first.key, first.word, first.direction) == (CELL, CHANGED, "better")


def test_cells_of_one_run_alone_are_new_or_gone_and_fold_into_a_line(pair):
    ours, theirs = pair
    ours, theirs = ours[ours["method"] != "rws"], theirs[theirs["method"] != "vae"]
    found = moved_of(ours, theirs)
    assert Counter(words(found).values())[NEW] == Counter(words(found).values())[GONE] == 8
    assert folded(found, NEW) == "8 numbers of 8 cells: vae (8 data sets)"
    assert folded(found, GONE) == "8 numbers of 8 cells: rws (8 data sets)"
    assert [line.partition(":")[0] for line in lines(found)][-2:] == [NEW, GONE]
    failed = theirs.copy()
    failed.loc[at(failed), ["metric", "value", "status", "message"]] = ["", None, "diverged", "at update 7"]
    failed = failed.drop_duplicates(["dataset", "method", "metric", "seed"])
    (one,) = [each for each in moved_of(pair[0], failed) if each.key == CELL]
    assert (one.word, one.found.reason) == (NEW, "diverged: at update 7")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data_digest": "x"}, "other data"),
        ({"k": 500}, "500 samples instead of 1,000, and the bias of their estimates is not known"),
    ],
    ids=["data", "samples"],
)
def test_what_cannot_be_compared_says_why(pair, change, reason):
    ours = pair[0].copy()
    for column, value in change.items():
        ours.loc[at(ours), column] = value
    (one,) = [each for each in moved_of(ours, pair[1]) if each.key == CELL]
    assert (one.word, one.obstacle) == (CANNOT_TELL, reason)
    assert any(line.startswith(f"cannot tell, {reason}: 1 number of 1 cell: rws (adult)") for line in
               lines(moved_of(ours, pair[1])))  # fmt: skip


def test_more_or_fewer_seeds_are_no_obstacle(pair):
    ours = pair[0][~at(pair[0]) | (pair[0]["seed"] == 0)].copy()
    (one,) = [each for each in moved_of(ours, pair[1]) if each.key == CELL]
    assert one.word in (REPRODUCED, CANNOT_TELL)
    assert one.remark == "seeds: 3 before, 1 now"


def test_false_alarms_of_single_seeds_with_rows_are_as_stated():
    """200 pairs of runs whose seeds are others altogether, so that no two models are paired by seed."""
    generator = np.random.default_rng(3)
    alarms = 0
    for _ in range(200):
        others = [with_rows(generator, 3)]
        found = moved(with_rows(generator, 1, seeds=[4]), with_rows(generator, 1, seeds=[7]), RULES, others)
        alarms += any(each.word == CHANGED for each in found)
    assert at_most(alarms / 200, RULES.level, 200)


def test_the_frame_has_a_row_per_number():
    theirs = RUNS["quick"]
    found = moved(replace(theirs, numbers=dict(list(theirs.numbers.items())[5:])), theirs, RULES)
    frame = frame_of(found)
    assert len(frame) == len(theirs.numbers)
    assert frame["verdict"].map(ORDER.index).is_monotonic_increasing
    gone = frame[frame["verdict"] == GONE]
    assert len(gone) == 5
    assert gone["ours"].isna().all()
    assert gone["theirs"].notna().all()


def test_the_verb_prints_what_moved_and_where_it_is_written(tmp_path, capsys):
    assert main(["compare", str(PUBLISHED / "quick"), str(PUBLISHED / "long"), "--output", str(tmp_path)]) == 0
    said = capsys.readouterr().out.splitlines()
    counts = dict(reversed(part.split(" ", 1)) for part in said[0].split(", "))
    frame = pd.read_csv(tmp_path / "moved.csv", keep_default_na=False)
    assert {word: int(n) for word, n in counts.items()} == frame["verdict"].value_counts().to_dict()
    assert said[1].startswith("changed: ")
    assert said[-2:] == [str(tmp_path / "moved.csv"), str(tmp_path / "moved.md")]
    assert len(said) < 40
    assert "## Changed" in (tmp_path / "moved.md").read_text()


def test_differences_are_in_standard_errors_for_the_order():
    theirs = RUNS["quick"]
    a, b = (Key(name, "nade", "", "-log p") for name in ("dna", "nips"))
    found = moved(shifted(shifted(theirs, a, 0.5), b, -2.0), theirs, RULES)
    assert [each.word for each in found[:3]] == [CHANGED, CHANGED, IDENTICAL]
    assert found[0].standardised >= found[1].standardised > 0
    assert not math.isnan(found[2].standardised)
