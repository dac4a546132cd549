"""What the check is worth, measured: shifts of published numbers are found, noise is not, stated powers are kept."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from harness.check.against_run import compare_runs
from harness.check.calibration import Calibration, by_rows
from harness.check.read import read_summary
from harness.check.rules import Rules
from harness.check.simulate import binomial_error, retraining, simulate, thesis
from harness.check.summary import Number, Summary
from harness.check.verdict import BETTER, CHANGED, REPRODUCED, WORSE
from harness.check.write import PUBLISHED
from harness.comparison.rows import RowValues
from harness.comparison.statistics import (
    ALONE,
    fit_prior,
    holm,
    power_of,
    smallest_difference,
    two_sided,
)
from harness.reporting.tables.reported import Key
from harness.settings.config import load_settings

RULES = Rules.from_settings(load_settings())
RUNS = {path.parent.name: read_summary(path) for path in sorted(PUBLISHED.glob("*/metrics.parquet"))}
REPEATS = 1000
DIFFERENT = (BETTER, WORSE, CHANGED)


def published(test):
    return pytest.mark.parametrize("preset", ["quick", "long"])(test)


def shifted(run, key, shift):
    number = run.numbers[key]
    rows = {seed: RowValues(each.row, each.value + shift) for seed, each in number.rows.items()}
    moved = replace(number, values=tuple(value + shift for value in number.values), rows=rows)
    return replace(run, numbers={**run.numbers, key: moved})


# -- a published run against itself, one number at a time shifted ------------------------------------------------------


@published
def test_shifts_of_three_tenths_of_a_nat_are_found(preset):
    """Of the cells whose stated smallest difference is below 0.3, 95 %; and these are 80 % of all."""
    run = RUNS[preset]
    keys = [key for key in run.numbers if key.metric == "-log p"]
    stated = {v.key: v.smallest for v in compare_runs(run, run, RULES)}
    able = [key for key in keys if stated[key] < 0.3]
    found = 0
    for key in able:
        verdicts = {v.key: v.verdict for v in compare_runs(shifted(run, key, 0.3), run, RULES)}
        found += verdicts.pop(key) == WORSE
        assert set(verdicts.values()) == {REPRODUCED}
    assert len(able) >= 0.8 * len(keys)
    assert found >= 0.95 * len(able)


@published
@pytest.mark.parametrize("shift", [1.0, -1.0, 100.0])
def test_nothing_that_moved_by_a_nat_is_reproduced(preset, shift):
    """All numbers in nats at once, so that one comparison tests each: what is not shifted does not help."""
    run = RUNS[preset]
    nats = [key for key in run.numbers if not key.metric.startswith(("ess", "error"))]
    moved = run
    for key in nats:
        moved = shifted(moved, key, shift)
    verdicts = {v.key: v for v in compare_runs(moved, run, RULES)}
    assert not [key for key in nats if verdicts[key].verdict == REPRODUCED]
    unseen = [v for v in verdicts.values() if v.key in nats and v.verdict not in DIFFERENT]
    assert all(v.smallest > abs(shift) * 0.5 and v.reason for v in unseen)


@published
def test_no_verdict_is_reproduced_without_the_power_it_needs(preset):
    """Also where the weights are others: digests are taken away, and the last digits of the values with them."""
    run = RUNS[preset]
    generator = np.random.default_rng(0)
    numbers = {
        key: replace(n, models=("",) * len(n), values=tuple(v + 1e-4 * generator.standard_normal() for v in n.values))
        for key, n in run.numbers.items()
    }
    other = replace(run, numbers=numbers)
    verdicts = compare_runs(other, run, RULES, list(RUNS.values()))
    for verdict in verdicts:
        assert verdict.verdict != REPRODUCED or verdict.smallest <= verdict.size
        assert verdict.verdict == REPRODUCED or verdict.reason or verdict.verdict in DIFFERENT


# -- size and power by simulation from measured variances --------------------------------------------------------------


def at_most(share, level, repeats=REPEATS):
    return share <= level + 2 * binomial_error(level, repeats)


@published
def test_false_alarms_of_a_retrained_run_are_as_stated(preset):
    design = retraining(RUNS[preset], Calibration(list(RUNS.values())))
    simulated = simulate(design, REPEATS, np.random.default_rng(1))
    assert len(design.numbers) > 150
    assert at_most(simulated.false_alarms(RULES.level), RULES.level)
    assert at_most(simulated.false_alarms(0.01), 0.01)


@published
@pytest.mark.parametrize("n_seeds", [1, 3])
def test_false_alarms_against_the_thesis_are_as_stated(preset, n_seeds):
    design = thesis(RUNS[preset], Calibration(list(RUNS.values())), n_seeds)
    simulated = simulate(design, REPEATS, np.random.default_rng(2))
    assert len(design.numbers) > 100
    assert at_most(simulated.false_alarms(RULES.level), RULES.level)


@published
def test_the_stated_smallest_difference_is_found_with_the_stated_power(preset):
    design = retraining(RUNS[preset], Calibration(list(RUNS.values())))
    simulated = simulate(design, 200, np.random.default_rng(3))
    assert RULES.power < simulated.found_at_stated(RULES.level, RULES.power) < 0.92


def test_what_three_seeds_of_independent_training_find():
    """The power of long against a retraining, as measured: 0.3 nats in half of the numbers, 1 nat in eight of ten.

    Of those that three seeds measured: the more models of one seed are published, the smaller the share of all.
    """
    numbers = {key: number for key, number in RUNS["long"].numbers.items() if len(number) >= 3}
    assert len(numbers) > 150
    design = retraining(replace(RUNS["long"], numbers=numbers), Calibration(list(RUNS.values())))
    simulated = simulate(design, 200, np.random.default_rng(4))
    assert 0.40 < simulated.found(0.3, RULES.level) < 0.65
    assert 0.65 < simulated.found(1.0, RULES.level) < 0.85
    assert simulated.found(10.0, RULES.level) > 0.9


def drawn(run, generator, n_seeds=3):
    """A run of the same cells with other seeds, each number with the variance that its own seeds have."""
    numbers = {
        key: replace(
            n, models=("",) * n_seeds, seeds=tuple(range(n_seeds)), rows={},
            **{name: getattr(n, name)[:1] * n_seeds for name in ("sems", "mc_errors", "biases")},
            values=tuple(n.mean + math.sqrt(n.spread) * generator.standard_normal(n_seeds)),
        )
        for key, n in run.numbers.items()
    }  # fmt: skip
    return replace(run, numbers=numbers)


def test_whole_comparisons_of_drawn_runs_raise_false_alarms_at_most_at_the_level():
    """Through compare_runs itself: 150 pairs of runs of all likelihoods of long that have several seeds."""
    generator = np.random.default_rng(5)
    chosen = {k: n for k, n in RUNS["long"].numbers.items() if k.metric == "-log p" and len(n) > 1 and not n.constant}
    run = replace(RUNS["long"], numbers=chosen)
    assert len(chosen) > 60
    alarms = 0
    for _ in range(150):
        verdicts = compare_runs(drawn(run, generator), drawn(run, generator), RULES)
        alarms += any(v.verdict in DIFFERENT for v in verdicts)
    assert at_most(alarms / 150, RULES.level, 150)


# -- paired rows -------------------------------------------------------------------------------------------------------

DATASETS = ("adult", "connect4", "dna", "mushrooms", "nips", "ocr_letters", "rcv1", "web")
N = 400


def with_rows(generator, n_seeds, c=0.02, seeds=None):
    """A run whose models differ by 0.3 to 1 nat from row to row, and whose means follow with sqrt(c)."""
    numbers = {}
    for d, dataset in enumerate(DATASETS):
        base = 20.0 + 5 * d + np.random.default_rng(d).standard_normal(N)  # the rows, the same in every run
        key = Key(dataset, "nade", "", "-log p")
        s = 0.3 + 0.1 * d
        cell_c = c * 3 / np.random.default_rng(100 + d).chisquare(3)
        named = tuple(seeds or range(n_seeds))
        rows = {}
        for seed in named:
            noise = generator.standard_normal(N)
            own = s / math.sqrt(2) * (noise - noise.mean() + math.sqrt(cell_c) * generator.standard_normal())
            rows[seed] = RowValues(np.arange(N), base + own)
        means = tuple(float(rows[seed].value.mean()) for seed in named)
        filled = {name: (value,) * len(named) for name, value in
                  (("sems", 0.05), ("mc_errors", 0.0), ("biases", 0.0), ("models", ""))}  # fmt: skip
        numbers[key] = Number(key, named, means, **filled, k=0, n_rows=N, n_test=N, official=True, data_digest=dataset,
                              n_updates=1, kind="autoregressive", rows=rows)  # fmt: skip
    return Summary("quick", numbers, {})


def test_c_is_found_again():
    generator = np.random.default_rng(6)
    ratios = [by_rows(n).ratio for _ in range(300) for n in with_rows(generator, 3).numbers.values()]
    expected = np.mean([0.02 * 3 / np.random.default_rng(100 + d).chisquare(3) for d in range(8)])
    assert np.mean(ratios) == pytest.approx(expected, rel=0.15)


def test_paired_rows_of_single_seeds_raise_no_more_false_alarms_than_stated_and_find_shifts():
    """c is known from another run of three seeds; a shift of all rows moves the mean and not what c goes with."""
    generator = np.random.default_rng(7)
    alarms = found = 0
    smallest = []
    for repeat in range(200):
        key = Key(DATASETS[repeat % len(DATASETS)], "nade", "", "-log p")  # power is a mean over cells
        others = [with_rows(generator, 3)]
        ours, theirs = with_rows(generator, 1, seeds=[7]), with_rows(generator, 1, seeds=[7])
        verdicts = {v.key: v for v in compare_runs(ours, theirs, RULES, others)}
        alarms += any(v.verdict in DIFFERENT for v in verdicts.values())
        smallest.append(verdicts[key].smallest)
        moved = shifted(ours, key, verdicts[key].smallest)
        found += {v.key: v for v in compare_runs(moved, theirs, RULES, others)}[key].verdict == WORSE
    assert at_most(alarms / 200, RULES.level, 200)
    assert found / 200 > RULES.power - 2 * binomial_error(RULES.power, 200)
    assert np.median(smallest) < 1.5


def test_the_variance_of_paired_rows_is_never_below_that_of_independent_rows():
    generator = np.random.default_rng(8)
    ours, theirs = with_rows(generator, 1, seeds=[7]), with_rows(generator, 1, seeds=[7])
    verdict = compare_runs(ours, theirs, RULES, [with_rows(generator, 3, c=1e-5)])[0]
    difference = ours.numbers[verdict.key].rows[7].value - theirs.numbers[verdict.key].rows[7].value
    assert verdict.error == pytest.approx(difference.std(ddof=1) / math.sqrt(N))
    assert verdict.df == ALONE


def test_runs_of_other_rows_are_compared_over_those_that_both_have():
    generator = np.random.default_rng(9)
    theirs = with_rows(generator, 1, seeds=[7])
    key = Key("adult", "nade", "", "-log p")
    number = theirs.numbers[key]
    half = RowValues(number.rows[7].row[:200], number.rows[7].value[:200])
    part = replace(number, n_rows=200, rows={7: half}, values=(float(half.value.mean()),))
    old = replace(theirs, numbers={key: part})
    found = compare_runs(theirs, old, RULES, [with_rows(generator, 3)])[0]
    assert found.difference == 0.0
    assert "over the 200 rows that both have" in found.reason


# -- the statistics ----------------------------------------------------------------------------------------------------


def test_the_prior_is_found_again():
    """Variances drawn from a scaled inverse chi-square with 8 degrees of freedom, estimated from 20,000 of them."""
    generator = np.random.default_rng(4)
    true = 0.5 * 8 / generator.chisquare(8, 20_000)
    measured = true * generator.chisquare(2, 20_000) / 2
    prior = fit_prior(measured, [2] * 20_000, standard_errors=0.0)
    assert prior.typical == pytest.approx(np.exp(np.log(true).mean()), rel=0.03)
    assert prior.mean == pytest.approx(true.mean(), rel=0.05)
    assert prior.df == pytest.approx(8, rel=0.1)
    assert fit_prior(measured, [2] * 20_000).df < prior.df
    # no scatter: its estimate has a standard error of 0.024, and trigamma(df / 2) = 5 of them at df = 17
    assert fit_prior(0.5 * generator.chisquare(2, 20_000) / 2, [2] * 20_000).df > 17


def test_a_prior_is_worth_no_more_than_the_seeds_behind_it():
    prior = fit_prior([1.0, 1.0, 1.0, 0.0], [2, 2, 2, 2])
    assert prior.df == 6  # of three positive ones
    assert fit_prior([1.0, 1.0], [2, 2]) is None
    variance, df = prior.moderated(4.0, 3)
    assert (variance, df) == (pytest.approx((6 * prior.typical + 3 * 4.0) / 9), 9)
    assert prior.moderated(math.nan, 0) == (1.0, ALONE)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert two_sided(0.0, 0.0, math.inf) == 1.0
    assert two_sided(1.0, 0.0, 3.0) == 0.0
    assert two_sided(1.96, 1.0, math.inf) == pytest.approx(0.05, abs=1e-4)
    assert two_sided(2.0, 1.0, 5.0) == pytest.approx(2 * stats.t.sf(2.0, 5))


@pytest.mark.parametrize("df", [3.0, 8.0, math.inf])
def test_the_smallest_difference_has_its_power(df):
    smallest = smallest_difference(2.0, df, 0.001, 0.8)
    assert power_of(smallest, 2.0, df, 0.001) == pytest.approx(0.8, abs=1e-3)
    assert power_of(0.0, 2.0, df, 0.001) == pytest.approx(0.001)


def test_runs_without_a_seed_in_common_are_paired_by_their_rows():
    """The rows are the same whatever the seeds, so how different the two models are says how far the means may be."""
    generator = np.random.default_rng(13)
    others = [with_rows(generator, 3)]
    theirs, ours = with_rows(generator, 1, seeds=[7]), with_rows(generator, 1, seeds=[8])
    key = Key("adult", "nade", "", "-log p")
    verdict = {v.key: v for v in compare_runs(ours, theirs, RULES, others)}[key]
    difference = ours.numbers[key].rows[8].value - theirs.numbers[key].rows[7].value
    prior = Calibration([theirs, ours, *others]).prior(theirs.numbers[key], with_rows=True)
    assert verdict.error == pytest.approx(math.sqrt(prior.mean * difference.var(ddof=1)))
    assert (verdict.df, verdict.reason.rpartition("; ")[2]) == (ALONE, "no seed in common")
    moved = shifted(ours, key, verdict.smallest + abs(verdict.difference))
    assert {v.key: v for v in compare_runs(moved, theirs, RULES, others)}[key].verdict == WORSE


def test_runs_without_a_seed_in_common_raise_no_more_false_alarms_than_stated():
    generator = np.random.default_rng(14)
    alarms = 0
    for _ in range(200):
        others = [with_rows(generator, 3)]
        ours, theirs = with_rows(generator, 2, seeds=[7, 8]), with_rows(generator, 1, seeds=[9])
        alarms += any(v.verdict in DIFFERENT for v in compare_runs(ours, theirs, RULES, others))
    assert at_most(alarms / 200, RULES.level, 200)


def test_as_many_but_other_rows_are_not_taken_for_the_same():
    """Two runs of 200 rows each, drawn differently: they are compared over the rows that both have."""
    generator = np.random.default_rng(15)
    run = with_rows(generator, 1, seeds=[7])
    key = Key("adult", "nade", "", "-log p")
    number = run.numbers[key]

    def part(rows):
        values = RowValues(number.rows[7].row[rows], number.rows[7].value[rows])
        changed = replace(number, n_rows=200, rows={7: values}, values=(float(values.value.mean()),), models=("x",))
        return replace(run, numbers={key: changed})

    found = compare_runs(part(slice(0, 200)), part(slice(100, 300)), RULES, [with_rows(generator, 3)])[0]
    assert found.difference == 0.0
    assert "over the 100 rows that both have" in found.reason
