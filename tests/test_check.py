"""The check: planted regressions are caught, noise alone is not, identities are found broken where they are."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.check import write_check
from harness.check.against_run import ALPHA, compare_runs
from harness.check.against_thesis import compare_with_thesis, rounding
from harness.check.audit import audit_run, audit_thesis
from harness.check.statistics import fit_prior, holm, two_sided
from harness.check.summary import summarize
from harness.check.verdict import BETTER, MISSING, NOT_COMPARABLE, REPRODUCED, WEAKER, WORSE
from harness.errors import ConfigError, DataError
from harness.tables.reported import Key

DATASETS = ("adult", "connect4", "dna", "mushrooms", "nips", "ocr_letters", "rcv1", "web")
METHODS = ("bihm", "rws", "nade", "vae")
CELL = Key("adult", "rws", "", "-log p")


def run(rng, n_seeds=3, true=0.0, preset="full", **changes):
    """Measurements of a grid whose seeds vary by cell-dependent amounts; the same test rows in every run."""
    rows = []
    for d, dataset in enumerate(DATASETS):
        for m, method in enumerate(METHODS):
            sem = 0.02 * (1 + d)
            spread = sem * (0.5 + 0.25 * m)
            for seed in range(n_seeds):
                rows.append(
                    {
                        **{"dataset": dataset, "method": method, "variant": "", "metric": "-log p", "seed": seed},
                        "value": 20.0 + 5 * d + m + true + spread * rng.standard_normal(),
                        **{"sem": sem, "mc_error": 0.1 * sem, "k": 1000, "n_rows": 500, "status": "ok", "message": ""},
                        **{"data_official": True, "data_digest": dataset, "preset": preset, "n_updates": 1000},
                        **changes,
                    }
                )
    return pd.DataFrame(rows)


def of(verdicts, key=CELL):
    return next(each for each in verdicts if each.key == key)


def compared(ours, theirs):
    return compare_runs(summarize(ours, "A"), summarize(theirs, "B"))


@pytest.fixture(name="pair")
def two_runs():
    rng = np.random.default_rng(0)
    return run(rng), run(rng)


def at(frame, key=CELL):
    return (frame["dataset"] == key.dataset) & (frame["method"] == key.method)


def test_a_run_against_itself_is_green(pair):
    assert {each.verdict for each in compared(pair[0], pair[0])} == {REPRODUCED}


def test_noise_alone_raises_false_alarms_at_the_stated_rate():
    """1,000 pairs of runs; any alarm in any of the 32 cells counts. At most ALPHA and its binomial error."""
    rng = np.random.default_rng(1)
    template = summarize(run(rng), "A")

    def again():
        numbers = {}
        for key, number in template.numbers.items():
            spread = number.sems[0] * (0.5 + 0.25 * METHODS.index(key.method))
            numbers[key] = replace(number, values=tuple(20.0 + spread * rng.standard_normal(3)))
        return replace(template, numbers=numbers)

    alarms = sum(any(each.verdict != REPRODUCED for each in compare_runs(again(), again())) for _ in range(1000))
    assert alarms / 1000 < ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / 1000)


@pytest.mark.parametrize(("shift", "verdict"), [(0.3, WORSE), (-0.3, BETTER)], ids=["worse", "better"])
def test_three_tenths_of_a_nat_on_one_cell_are_caught(pair, shift, verdict):
    ours, theirs = pair
    ours.loc[at(ours), "value"] += shift
    verdicts = compared(ours, theirs)
    assert of(verdicts).verdict == verdict
    assert {each.verdict for each in verdicts if each.key != CELL} == {REPRODUCED}


@pytest.mark.parametrize(
    ("damage", "verdict", "reason"),
    [
        (lambda f: f[~(at(f) & (f["seed"] == 2))], WEAKER, "2 seeds instead of 3"),
        (lambda f: f.assign(k=f["k"].where(~at(f), 500)), WEAKER, "500 samples instead of 1,000"),
        (lambda f: f.assign(n_rows=f["n_rows"].where(~at(f), 100)), WEAKER, "100 rows instead of 500"),
        (lambda f: f[~at(f)], MISSING, "not measured"),
        (lambda f: f.assign(data_digest=f["data_digest"].where(~at(f), "x")), NOT_COMPARABLE, "other data"),
    ],
    ids=["seed lost", "K halved", "rows lost", "cell lost", "other data"],
)
def test_losses_are_named(pair, damage, verdict, reason):
    found = of(compared(damage(pair[0]), pair[1]))
    assert (found.verdict, found.reason) == (verdict, reason)


def test_a_cell_that_failed_says_how(pair):
    ours, theirs = pair
    ours.loc[at(ours), ["metric", "value", "status", "message"]] = ["", None, "diverged", "not finite at update 7"]
    ours = ours.drop_duplicates(["dataset", "method", "metric", "seed"])
    assert "diverged: not finite at update 7" in of(compared(ours, theirs)).reason


def test_single_seeds_use_the_spread_of_other_cells():
    rng = np.random.default_rng(2)
    theirs, ours = run(rng), run(rng, n_seeds=3)
    one = ours[~at(ours) | (ours["seed"] == 0)].copy()
    one.loc[at(one), "value"] = theirs.loc[at(theirs), "value"].mean() + 0.4
    kept = theirs[~at(theirs) | (theirs["seed"] == 0)].copy()
    kept.loc[at(kept), "value"] = theirs.loc[at(theirs), "value"].mean()
    assert of(compared(one, kept)).verdict == WORSE


def test_without_any_spread_a_difference_decides_nothing():
    rng = np.random.default_rng(3)
    theirs = run(rng, n_seeds=1)
    ours = theirs.copy()
    ours.loc[at(ours), "value"] += 0.3
    found = of(compared(ours, theirs))
    assert found.verdict == NOT_COMPARABLE
    assert "spread between seeds is not known" in found.reason


def test_presets_must_agree(pair):
    with pytest.raises(ConfigError, match="expected two runs of one preset, found quick and full"):
        compared(pair[0].assign(preset="quick"), pair[1])


def test_the_prior_is_found_again():
    """Variances drawn from a scaled inverse chi-square with 8 degrees of freedom, estimated from 20,000 of them."""
    rng = np.random.default_rng(4)
    true = 0.5 * 8 / rng.chisquare(8, 20_000)
    drawn = true * rng.chisquare(2, 20_000) / 2
    prior = fit_prior(drawn, [2] * 20_000, standard_errors=0.0)
    assert prior.scale == pytest.approx(0.5, rel=0.03)
    assert prior.df == pytest.approx(8, rel=0.1)
    assert fit_prior(drawn, [2] * 20_000).df < prior.df
    # no scatter: its estimate has a standard error of 0.024, and trigamma(df / 2) = 5 of them at df = 17
    assert fit_prior(0.5 * rng.chisquare(2, 20_000) / 2, [2] * 20_000).df > 17


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert two_sided(0.0, 0.0, math.inf) == 1.0
    assert two_sided(1.96, 1.0, math.inf) == pytest.approx(0.05, abs=1e-4)


def thesis_row(key, value, **changes):
    return run(np.random.default_rng(0), 1).iloc[:1].assign(**key._asdict(), value=value, **changes)


@pytest.mark.parametrize(
    ("value", "changes", "verdict"),
    [
        (13.66, {}, REPRODUCED),
        (13.0, {}, BETTER),
        (14.5, {}, WORSE),
        (14.5, {"preset": "quick"}, NOT_COMPARABLE),
        (14.5, {"data_official": False}, NOT_COMPARABLE),
        (13.66, {"sem": math.nan}, NOT_COMPARABLE),
    ],
    ids=["reproduced", "better", "worse", "small budget", "stand-in", "no error"],
)
def test_against_the_printed_number(value, changes, verdict):
    key = Key("adult", "rws", "", "-log p")  # printed 13.65
    found = of(compare_with_thesis(summarize(thesis_row(key, value, **changes), "A")), key)
    assert found.verdict == verdict
    assert found.theirs == 13.65


def test_printed_digits_stand_for_an_interval():
    assert (rounding("13.7"), rounding("9"), rounding("86.49")) == pytest.approx((0.05, 0.5, 0.005))
    key = Key("adult", "rws", "", "-log p")
    exact = thesis_row(key, 13.65 + 0.0049, sem=1e-6)
    assert of(compare_with_thesis(summarize(exact, "A")), key).verdict == REPRODUCED


def test_shares_of_fewer_samples_are_not_compared():
    key = Key("adult", "bihm", "", "ess p*")
    found = of(compare_with_thesis(summarize(thesis_row(key, 99.0, k=500), "A")), key)
    assert (found.verdict, "falls with K" in found.reason) == (NOT_COMPARABLE, True)
    many = thesis_row(key, 99.0, k=100_000)
    assert of(compare_with_thesis(summarize(many, "A")), key).verdict == BETTER


def test_every_printed_number_is_compared():
    verdicts = compare_with_thesis(summarize(run(np.random.default_rng(0)), "A"))
    assert len(verdicts) == len({each.key for each in verdicts}) > 130
    assert {each.verdict for each in verdicts if each.key.method == "ssl_bihm"} == {MISSING}


def test_the_thesis_own_violations_are_listed():
    found = {(v.dataset, v.identity): v.size for v in audit_thesis()}
    # printed: -log p* 272.71, -log p~* 272.62, -2 log Z 1.97; each may be off by 0.005
    size = abs(272.71 - 272.62 + 1.97) - 0.015
    assert found["nips", "-log p* = -log p~* + 2 log Z"] == pytest.approx(size)
    assert found["rcv1", "log p~* <= log p*"] == pytest.approx(46.98 - 45.78 - 0.01)
    assert not any(v.table in ("3.2", "3.3") for v in audit_thesis())


@pytest.mark.parametrize(
    ("numbers", "identity"),
    [
        ({"ess p*": 101.0}, "0 <= ess p* <= 100"),
        ({"-log p~*(y|x)": -0.2}, "log p~*(y|x) <= 0"),
        ({"bound -log p": 10.0, "-log p": 11.0}, "bound <= log p"),
        ({"-2 log Z": -0.4}, "Z <= 1"),
        ({"-log p~*": 10.0, "-log p*": 9.0, "-2 log Z": 0.5}, "-log p* = -log p~* + 2 log Z"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_that_contradicts_itself_is_found(numbers, identity):
    rows = pd.concat([thesis_row(Key("adult", "bihm", "", m), v, mc_error=1e-4) for m, v in numbers.items()])
    assert [violation.identity for violation in audit_run(summarize(rows, "A"))] == [identity]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.drop(columns="sem"), "none named sem"),
        (lambda f: pd.concat([f, f.iloc[:1]]), "several for adult/bihm//-log p/0"),
        (lambda f: pd.concat([f, f.assign(preset="quick")]), "found full, quick"),
    ],
    ids=["column", "twice", "presets"],
)
def test_bad_input_is_an_error_that_names_the_run(pair, damage, message):
    with pytest.raises(DataError, match=f"A.*{message}"):
        summarize(damage(pair[0]), "A")


def test_files_and_outcome(pair, tmp_path):
    ours, theirs = pair
    ours.loc[at(ours), "value"] += 0.3
    for name, frame in (("a", ours), ("b", theirs)):
        (tmp_path / name).mkdir()
        frame.to_parquet(tmp_path / name / "metrics.parquet")
    outcome = write_check(tmp_path / "a", tmp_path / "b" / "metrics.parquet", tmp_path / "out")
    assert outcome.regressions == 1
    assert outcome.counts["earlier run"] == {REPRODUCED: 31, WORSE: 1}
    table = pd.read_csv(tmp_path / "out" / "check.csv", keep_default_na=False)
    assert set(table["against"]) == {"thesis", "earlier run"}
    assert "| adult/rws" in (tmp_path / "out" / "check.md").read_text()
    assert (tmp_path / "out" / "check.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(tmp_path / "out" / "audit.csv")) == len(audit_thesis())
    with pytest.raises(DataError, match=r"nowhere.*no such file"):
        write_check(tmp_path / "nowhere", None, tmp_path / "out")
