"""Methods compared: differences by hand, levels and powers by simulation, ranks against the literature's tables."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from harness.check.simulate import binomial_error
from harness.check.write import PUBLISHED
from harness.comparison.compare import compare
from harness.comparison.models import Cell, Model, adjusted_means, models_of
from harness.comparison.pairs import (
    BETTER,
    CANNOT_TELL,
    METHODS,
    MODELS,
    WORSE,
    compared,
    difference_of,
    judged,
    priors_of,
)
from harness.comparison.ranks import critical_difference, friedman, ranks_of
from harness.comparison.rows import RowKey, RowValues, read_rows
from harness.errors import DataError

ADULT = 26_147  # test rows
LEVEL, POWER = 0.05, 0.8


def model(values, method="a", dataset="adult", rows=None, **changes):
    """A model whose seeds have these values per row [S, n]."""
    values = np.atleast_2d(np.asarray(values, float))
    s, n = values.shape
    facts = {
        "sems": values.std(1, ddof=1) / math.sqrt(n),
        "shared": np.zeros(s),
        "bias": 0.0,
        "bias_error": 0.0,
        "sampled": False,
        "n_rows": n,
        "data_digest": "d",
        "rows": np.arange(n) if rows is None else rows,
        "of_rows": values,
        **changes,
    }
    return Model(Cell(dataset, method, ""), method.upper(), tuple(range(s)), values.mean(1), **facts)


def at_most(share, level, repeats):
    return share <= level + 2 * binomial_error(level, repeats)


def within(share, expected, repeats):
    return abs(share - expected) <= 3 * binomial_error(expected, repeats)


# -- size and power ----------------------------------------------------------------------------------------------------


@pytest.fixture(name="measured_differences", scope="module")
def differences_per_row_on_adult():
    """What two trained models differ by, row by row, mean zero: skewed and with long tails, as real ones are."""
    rows = read_rows(PUBLISHED / "quick" / "rows.parquet")
    a, b = (rows[RowKey("adult", method, "", 0, "-log p")].value for method in ("nade", "fvsbn"))
    difference = a - b
    assert abs(stats.skew(difference)) > 0.5
    assert stats.kurtosis(difference) > 3.0
    return difference - difference.mean()


def pairs_on_adult(differences, n_pairs, planted, seed):
    """The verdicts on so many pairs together, each with all rows of adult drawn from ``differences``."""
    generator = np.random.default_rng(seed)
    base = model(4.0 * generator.standard_normal(ADULT) + 13.0)
    small = model([1.0, 2.0])
    found = []
    for _ in range(n_pairs):
        drawn = generator.choice(differences, ADULT) + planted
        difference = difference_of(replace(base, of_rows=base.of_rows + drawn), base)
        found.append(replace(difference, a=small, b=small))  # the rows of all pairs do not fit into memory
    return judged(found, LEVEL, POWER)


def test_nothing_is_claimed_of_a_thousand_pairs_that_do_not_differ(measured_differences):
    pairs = pairs_on_adult(measured_differences, 1000, 0.0, seed=0)
    assert {pair.verdict for pair in pairs} == {CANNOT_TELL}
    p_values = [pair.found.p_value for pair in pairs]
    for level in (0.01, 0.05, 0.2):
        assert within(np.mean(np.array(p_values) < level), level, len(pairs))


def test_five_hundredths_of_a_nat_on_adult_are_found_among_a_thousand_pairs(measured_differences):
    pairs = pairs_on_adult(measured_differences, 1000, 0.05, seed=1)
    assert max(pair.smallest for pair in pairs) < 0.05  # with the power of the settings
    assert {pair.verdict for pair in pairs} == {WORSE}


def test_what_is_planted_at_the_stated_smallest_difference_is_found_with_the_stated_power(measured_differences):
    """Noise so large that the test finds 0.05 nats on adult just with the power of the settings."""
    factor = 0.05 / pairs_on_adult(measured_differences, 400, 0.0, seed=2)[0].smallest
    pairs = pairs_on_adult(factor * measured_differences, 400, 0.05, seed=2)
    assert np.mean([pair.smallest for pair in pairs]) == pytest.approx(0.05, rel=0.01)
    strictest = [pair.found.p_value * len(pairs) < LEVEL for pair in pairs]
    assert within(np.mean(strictest), POWER, len(pairs))


def drawn_models(generator, n_seeds, n_rows=100, n_datasets=3, with_rows=True, spread=0.02):
    """Four methods per data set that do not differ: rows, trainings of very different spread, and rows by trainings."""
    columns = []
    for d in range(n_datasets):
        common = 3.0 * generator.standard_normal(n_rows)
        models = []
        for m in range(4):
            training = spread * 2.0 ** (m + d - 2) * generator.standard_normal((n_seeds, 1))
            of_method = 0.5 * generator.standard_normal(n_rows)
            noise = 0.3 * generator.standard_normal((n_seeds, n_rows))
            one = model(20.0 + common + of_method + training + noise, "abcd"[m], f"data {d}")
            models.append(one if with_rows else replace(one, rows=None, of_rows=None))
        columns.append(models)
    return columns


@pytest.mark.parametrize(("n_seeds", "spread"), [(1, 0.0), (2, 0.02), (3, 0.02), (3, 0.2)])
def test_false_alarms_of_a_whole_comparison_are_as_stated(n_seeds, spread):
    """A difference of single trainings is real where trainings vary, so there they do not."""
    generator = np.random.default_rng(n_seeds)
    repeats, alarms = 200, 0
    for _ in range(repeats):
        columns = drawn_models(generator, n_seeds, spread=spread)
        alarms += any(pair.verdict != CANNOT_TELL for pair in compared(columns, LEVEL, POWER))
    assert at_most(alarms / repeats, LEVEL, repeats)


def test_without_the_spread_of_trainings_false_alarms_would_be_many():
    """Three seeds' rows pooled as if they were of one model: what the random effect is there for."""
    generator = np.random.default_rng(7)
    alarms = 0
    for _ in range(50):
        columns = [
            [model(m.of_rows.mean(0), m.cell.method, m.cell.dataset) for m in models]
            for models in drawn_models(generator, 3, n_rows=2000, spread=0.1)
        ]
        alarms += any(pair.verdict != CANNOT_TELL for pair in compared(columns, LEVEL, POWER))
    assert alarms > 25


def test_differences_of_methods_with_seeds_are_found_with_the_stated_power():
    generator = np.random.default_rng(11)
    stated, found = [], 0
    repeats = 200
    for _ in range(repeats):
        columns = drawn_models(generator, 3)
        pairs = compared(columns, LEVEL, POWER)
        chosen = pairs[generator.integers(len(pairs))]
        a = chosen.found.a
        moved = replace(a, values=a.values + chosen.smallest, of_rows=a.of_rows + chosen.smallest)
        again = difference_of(moved, chosen.found.b, priors_of(m for models in columns for m in models))
        stated.append(chosen.smallest)
        found += again.p_value * len(pairs) < LEVEL
    assert found / repeats > POWER - 3 * binomial_error(POWER, repeats)
    assert np.median(stated) < 1.0


def test_values_without_rows_raise_no_more_alarms():
    generator = np.random.default_rng(12)
    repeats, alarms = 200, 0
    for _ in range(repeats):
        columns = drawn_models(generator, 3, with_rows=False)
        alarms += any(pair.verdict != CANNOT_TELL for pair in compared(columns, LEVEL, POWER))
    assert at_most(alarms / repeats, LEVEL, repeats)


# -- one difference ----------------------------------------------------------------------------------------------------


def test_a_difference_by_hand():
    found = difference_of(model([1.0, 2.0, 6.0]), model([0.0, 2.0, 1.0], "b"))
    assert found.difference == 2.0
    assert found.error == pytest.approx(np.std([1.0, 0.0, 5.0], ddof=1) / math.sqrt(3))
    assert (found.df, found.n_rows, found.of) == (2.0, 3, MODELS)
    assert found.p_value == pytest.approx(stats.ttest_rel([1.0, 2.0, 6.0], [0.0, 2.0, 1.0]).pvalue)


def test_only_the_rows_that_both_have_count():
    a = model([1.0, 2.0, 3.0, 50.0], rows=np.array([0, 2, 4, 9]))
    b = model([0.5, 1.0, 2.0, 90.0], "b", rows=np.array([1, 2, 4, 10]))
    found = difference_of(a, b)
    assert (found.n_rows, found.difference) == (2, 1.0)
    apart = difference_of(a, replace(b, rows=np.array([20, 21, 22, 23])))
    assert apart.n_rows == 0
    assert apart.error == pytest.approx(math.hypot(a.sems[0], b.sems[0]))


def test_seeds_are_a_random_effect():
    rng = np.random.default_rng(0)
    a, b = (model(rng.standard_normal((3, 50)) + rng.standard_normal((3, 1)), name) for name in "ab")
    found = difference_of(a, b)
    of_rows = (a.of_rows.mean(0) - b.of_rows.mean(0)).var(ddof=1) / 50
    of_seeds = a.values.var(ddof=1) / 3 + b.values.var(ddof=1) / 3
    assert found.error == pytest.approx(math.sqrt(of_rows + of_seeds))
    assert (found.df, found.of) == (2.0, METHODS)
    with_one = difference_of(a, model(b.of_rows[:1], "b"))
    assert (with_one.df, with_one.of) == (2.0, MODELS)


def test_a_closed_form_has_no_spread_of_training():
    rng = np.random.default_rng(1)
    rows = rng.standard_normal(50)
    fixed = model(np.stack([rows] * 3), "factorised")
    other = model(rng.standard_normal((3, 50)), "b")
    assert difference_of(fixed, fixed).error == 0.0
    assert difference_of(fixed, fixed).p_value == 1.0
    found = difference_of(fixed, other)
    assert (found.df, found.of) == (2.0, METHODS)  # of the other's seeds
    assert difference_of(fixed, model(rng.standard_normal(50), "c")).df == 49.0


def test_an_error_that_all_rows_share_does_not_shrink_with_them():
    rows = np.random.default_rng(2).standard_normal(10_000)
    plain, annealed = model(rows), model(rows + 0.3, "rbm", shared=np.array([0.2]))
    found = difference_of(annealed, plain)
    assert found.error == pytest.approx(0.2)
    assert found.p_value > 0.1


def test_noise_of_sampling_is_a_part_of_the_error():
    """Values per row that are estimates: their noise is in the spread of the differences, whatever is stored of it."""
    rng = np.random.default_rng(3)
    exact = 5.0 * rng.standard_normal(4000)
    noise = 0.7
    found = difference_of(model(exact + noise * rng.standard_normal(4000)), model(exact, "b"))
    assert found.error == pytest.approx(noise / math.sqrt(4000), rel=0.05)


@pytest.mark.parametrize(
    ("bias", "bias_error", "claimed"),
    [
        (0.0, 0.0, True),
        (0.5, 0.0, True),
        (0.99, 0.0, False),
        (1.5, 0.0, False),
        (0.0, 2.0, False),
        (math.nan, 0.0, False),
    ],
    ids=["none", "half", "nearly all", "more", "badly known", "unknown"],
)
def test_what_a_bias_may_explain_is_not_claimed(bias, bias_error, claimed):
    rng = np.random.default_rng(4)
    common = 3.0 * rng.standard_normal(1000)
    estimate = model(common + 1.0 + 0.5 * rng.standard_normal(1000), bias=bias, bias_error=bias_error, sampled=True)
    exact = model(common, "b")
    pair = judged([difference_of(estimate, exact)], LEVEL, POWER)[0]
    assert (pair.verdict == WORSE) == claimed
    # an estimate that is better although it is biased upward is better
    lower = replace(estimate, values=estimate.values - 2.0, of_rows=estimate.of_rows - 2.0, bias_error=0.0)
    assert judged([difference_of(lower, exact)], LEVEL, POWER)[0].verdict == BETTER


def test_higher_values_are_better_where_they_are():
    a, b = model([1.0, 2.0, 3.1]), model([0.0, 1.0, 2.0], "b")
    assert judged([difference_of(a, b)], LEVEL, POWER)[0].verdict == WORSE
    found = difference_of(a, b, higher_is_better=True)
    assert judged([found], LEVEL, POWER, higher_is_better=True)[0].verdict == BETTER


# -- all models of a data set ------------------------------------------------------------------------------------------


def test_means_over_the_same_rows_are_plain():
    rng = np.random.default_rng(5)
    models = [model(rng.standard_normal((s, 30)), name) for s, name in ((1, "a"), (2, "b"), (3, "c"))]
    assert adjusted_means(models) == pytest.approx([m.mean for m in models])


def test_models_with_other_rows_are_adjusted_by_least_squares():
    rng = np.random.default_rng(6)
    rows = [np.arange(40), np.arange(0, 40, 2), np.arange(15, 50)]
    models = [model(rng.standard_normal(len(at)) + 0.3 * at, "abc"[i], rows=at) for i, at in enumerate(rows)]
    design, values = [], []
    for i, one in enumerate(models):
        for at, value in zip(one.rows, one.of_rows[0], strict=True):
            design.append([*(float(i == j) for j in range(3)), *(float(at == j) for j in range(50))])
            values.append(value)
    effects = np.linalg.lstsq(np.array(design), np.array(values), rcond=None)[0]
    assert adjusted_means(models) == pytest.approx(effects[:3] + effects[3:].mean())


def test_rows_that_connect_nothing_adjust_nothing():
    a, b = model([1.0, 2.0]), model([1.0, 2.0], "b", rows=np.array([5, 6]))
    assert adjusted_means([a, b]) is None
    assert adjusted_means([a, replace(b, rows=None, of_rows=None)]) is None


def lines(n_seeds=1, dataset="adult", method="nade", **changes):
    facts = {
        **{"variant": "", "metric": "-log p", "status": "ok", "split": "test", "estimator": "exact", "title": "NADE"},
        **{"sem": 0.1, "mc_error": 0.0, "bias": 0.0, "bias_error": 0.0, "n_rows": 4, "data_digest": "d"},
    }
    return pd.DataFrame(
        [{"dataset": dataset, "method": method, "seed": seed, "value": 2.5 + seed, **facts, **changes}
         for seed in range(n_seeds)]
    )  # fmt: skip


def test_models_are_gathered_from_measurements():
    rows = {RowKey("adult", "nade", "", s, "-log p"): RowValues(np.arange(4) + s, np.arange(4.0) + 1) for s in (0, 1)}
    (one,) = models_of(lines(2), rows, "-log p", "x")["adult"]
    assert (one.name, one.seeds, one.values.tolist()) == ("NADE", (0, 1), [2.5, 3.5])
    assert one.rows.tolist() == [1, 2, 3]
    assert one.of_rows.tolist() == [[2.0, 3.0, 4.0], [1.0, 2.0, 3.0]]
    assert models_of(lines(2), rows, "-log p", "x", {("adult", "nade", "")}) == {}
    assert models_of(lines(2), {}, "-log p", "x")["adult"][0].rows is None
    timeout = lines(2).assign(status=["timeout", "ok"])
    assert models_of(timeout, rows, "-log p", "x")["adult"][0].seeds == (1,)
    annealed = lines(estimator="annealed importance sampling", mc_error=0.3, bias=math.nan)
    assert models_of(annealed, {}, "-log p", "x")["adult"][0].shared.tolist() == [0.3]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (lambda: pd.concat([lines(), lines()]), "expected one row per number and seed of adult/nade"),
        (
            lambda: pd.concat([lines(), lines(method="made", data_digest="e")]),
            "all models of adult measured on the same",
        ),
    ],
    ids=["twice", "other data"],
)
def test_what_cannot_be_compared_is_one_error(frame, message):
    with pytest.raises(DataError, match=message):
        models_of(frame(), {}, "-log p", "metrics.parquet")


def test_a_method_with_one_variant_per_data_set_is_one_row():
    rng = np.random.default_rng(8)

    def named(dataset, method, variant):
        return replace(model(rng.standard_normal(20), method, dataset), cell=Cell(dataset, method, variant))

    of = {"x": [named("x", "bihm", ""), named("x", "ssl", "a"), named("x", "ssl", "b")],
          "y": [named("y", "bihm", "12 layers"), named("y", "ssl", "a")]}  # fmt: skip
    found = compare(of, "-log p", LEVEL, POWER)
    assert [contender.name for contender in found.contenders] == ["BIHM", "SSL (a)", "SSL (b)"]
    assert len(found.pairs) == 4
    assert found.ranks.datasets == ("x", "y")
    assert set(found.ranks.methods) == {"BIHM", "SSL (a)"}
    assert len(found.frame) == 4
    assert sum(found.record(found.contenders[0]).values()) == 3


# -- ranks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "q"),
    list(
        enumerate((1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164), start=2)
    ),  # Demsar (2006), table 5a
)
def test_critical_differences_are_those_of_the_table(k, q):
    assert critical_difference(k, 14, 0.05) == pytest.approx(q * math.sqrt(k * (k + 1) / (6 * 14)), rel=1e-3)


@pytest.mark.parametrize("digits", [1, 6], ids=["ties", "no ties"])
def test_friedman_is_that_of_scipy(digits):
    table = np.round(np.random.default_rng(9).random((12, 5)), digits)
    chi2 = stats.friedmanchisquare(*table.T).statistic
    f = 11 * chi2 / (12 * 4 - chi2)
    ranks = stats.rankdata(table, axis=1)
    assert friedman(ranks) == pytest.approx(stats.f.sf(f, 4, 44))


def test_equal_and_perfectly_ordered_ranks():
    assert math.isnan(friedman(np.full((4, 3), 2.0)))
    assert friedman(np.tile([1.0, 2.0, 3.0], (4, 1))) == 0.0


def test_ranks_of_methods_that_do_not_differ_raise_no_more_alarms_than_stated():
    rng = np.random.default_rng(10)
    repeats, n, k = 2000, 8, 14
    means = np.argsort(np.argsort(rng.random((repeats, n, k)), axis=2), axis=2).mean(1) + 1.0
    assert at_most(np.mean(np.ptp(means, axis=1) >= critical_difference(k, n, LEVEL)), LEVEL, repeats)


def test_groups_and_the_largest_whole_part():
    values = {f"d{i}": {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0} for i in range(9)}
    values["other"] = {"a": 1.0, "e": 2.0}
    found = ranks_of(values, LEVEL)
    assert found.methods == ("a", "b", "c", "d")
    assert found.means.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert 1.0 < found.critical < 2.0
    assert found.groups() == [(0, 1), (1, 2), (2, 3)]
    assert found.differ("a", "c")
    assert not found.differ("c", "d")
    assert ranks_of(values, LEVEL, higher_is_better=True).methods == ("d", "c", "b", "a")
    assert ranks_of({"x": {"a": 1.0, "b": 2.0}}, LEVEL) is None
    assert ranks_of({}, LEVEL) is None
