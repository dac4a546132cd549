"""The check: planted regressions are caught, losses are named, identities are found broken where they are."""

import math

import numpy as np
import pandas as pd
import pytest

from harness.check import write_check
from harness.check.against_run import compare_runs
from harness.check.against_thesis import compare_with_thesis, rounding
from harness.check.audit import audit_run, audit_thesis
from harness.check.read import read_summary
from harness.check.rules import Rules
from harness.check.summary import summarize
from harness.check.verdict import (
    BETTER,
    CANNOT_TELL,
    CHANGED,
    MISSING,
    NOT_COMPARABLE,
    REPRODUCED,
    WEAKER,
    WORSE,
)
from harness.check.write import PUBLISHED
from harness.errors import ConfigError, DataError
from harness.reporting.tables.reported import Key
from harness.settings.config import load_settings

RULES = Rules.from_settings(load_settings())
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
    return compare_runs(summarize(ours, "A"), summarize(theirs, "B"), RULES)


@pytest.fixture(name="pair")
def two_runs():
    rng = np.random.default_rng(0)
    return run(rng), run(rng)


def at(frame, key=CELL):
    return (frame["dataset"] == key.dataset) & (frame["method"] == key.method)


def test_a_run_against_itself_is_green(pair):
    assert {each.verdict for each in compared(pair[0], pair[0])} == {REPRODUCED}


@pytest.mark.parametrize(("shift", "verdict"), [(0.3, WORSE), (-0.3, BETTER)], ids=["worse", "better"])
def test_three_tenths_of_a_nat_on_one_cell_are_caught(pair, shift, verdict):
    ours, theirs = pair
    ours.loc[at(ours), "value"] += shift
    verdicts = compared(ours, theirs)
    assert of(verdicts).verdict == verdict
    assert {each.verdict for each in verdicts if each.key != CELL} <= {REPRODUCED, CANNOT_TELL}


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


def test_single_seeds_use_the_spread_of_other_cells(pair):
    ours, theirs = (frame[~at(frame) | (frame["seed"] == 0)].copy() for frame in pair)
    ours.loc[at(ours), "value"] = theirs.loc[at(theirs), "value"].mean() + 2.0
    found = of(compared(ours, theirs))
    assert found.verdict == WORSE
    assert 0.3 < found.smallest < 2.0  # the mean spread of the method's cells, with three degrees of freedom
    ours.loc[at(ours), "value"] -= 1.9
    found = of(compared(ours, theirs))
    assert found.verdict == CANNOT_TELL
    assert f"below {found.smallest:.2g} may go unseen" in found.reason


def test_without_any_spread_a_difference_decides_nothing_and_says_why():
    rng = np.random.default_rng(3)
    theirs = run(rng, n_seeds=1)
    ours = theirs.assign(value=theirs["value"] + 5.0)
    assert {(v.verdict, v.reason) for v in compared(ours, theirs)} == {
        (CANNOT_TELL, "how much it varies from seed to seed is not known")
    }
    with_published = compare_runs(
        summarize(ours, "A"), summarize(theirs, "B"), RULES, [read_summary(PUBLISHED / "long")]
    )
    assert {v.verdict for v in with_published} == {WORSE, CANNOT_TELL}  # by method, where long has that method
    assert all(v.reason for v in with_published if v.verdict == CANNOT_TELL)


def digests(frame, sha):
    return frame.assign(model_sha256=[f"{sha}{cell}" for cell in frame.groupby(["dataset", "method", "seed"]).ngroup()])


@pytest.mark.parametrize("shift", [0.0, 1e-5, 0.01, 0.3, -0.3])
def test_the_same_weights_leave_the_noise_of_sampling(pair, shift):
    theirs = digests(pair[0], "a")
    ours = theirs.copy()
    ours.loc[at(ours) & (ours["seed"] == 0), "value"] += 3 * shift  # one of three seeds
    found = of(compared(ours, theirs))
    # errors of sampling 0.002 of each of three values on both sides
    assert found.error == pytest.approx(0.002 * math.sqrt(2 / 3))
    assert found.smallest < 0.02
    assert found.verdict == (REPRODUCED if abs(shift) < 0.005 else WORSE if shift > 0 else BETTER)


def test_exact_values_of_the_same_weights_are_equal_to_rounding(pair):
    theirs = digests(pair[0].assign(mc_error=0.0, k=0), "a")
    ours = theirs.copy()
    ours.loc[at(ours), "value"] *= 1 + 5e-6  # of single precision
    assert of(compared(ours, theirs)).verdict == REPRODUCED
    ours.loc[at(ours), "value"] += 0.001
    found = of(compared(ours, theirs))
    assert (found.verdict, found.p_value, found.reason) == (WORSE, 0.0, "the same weights")


def test_other_weights_are_not_taken_for_the_same(pair):
    found = of(compared(digests(pair[0], "a"), digests(pair[1], "b")))
    assert found.error > 0.002
    assert "the same weights" not in found.reason


def test_a_closed_form_is_equal_to_rounding_whatever_the_digests(pair):
    constant = pair[0].assign(mc_error=0.0, k=0)
    constant["value"] = constant.groupby(["dataset", "method"])["value"].transform("first")
    theirs, ours = digests(constant, "a"), digests(constant, "b")
    assert {v.reason for v in compared(ours, theirs)} == {"a closed form"}
    ours.loc[at(ours), "value"] += 0.001
    assert of(compared(ours, theirs)).verdict == WORSE
    # one method whose seeds differ tells nothing of another
    varying = ours["method"] == "vae"
    ours.loc[varying, "value"] += np.linspace(0, 0.1, varying.sum())
    assert of(compared(ours, theirs)).reason == "a closed form"
    assert of(compared(ours, theirs), Key("adult", "vae", "", "-log p")).reason != "a closed form"


def test_only_the_seeds_that_both_have_are_compared(pair):
    theirs = pair[1]
    more = theirs[theirs["seed"] == 0].assign(seed=3, value=1e6)
    found = of(compared(pd.concat([theirs, more]), theirs))
    assert (found.difference, found.verdict) == (0.0, REPRODUCED)


def test_runs_without_a_seed_in_common_are_compared_as_means(pair):
    found = of(compared(pair[0].assign(seed=pair[0]["seed"] + 10), pair[1]))
    assert "no seed in common" in found.reason
    assert found.difference == pytest.approx(
        pair[0].loc[at(pair[0]), "value"].mean() - pair[1].loc[at(pair[1]), "value"].mean()
    )


def test_log_z_has_no_direction(pair):
    ours, theirs = (frame.assign(metric="log Z") for frame in pair)
    ours.loc[at(ours), "value"] += 1000
    assert of(compared(ours, theirs), CELL._replace(metric="log Z")).verdict == CHANGED


@pytest.mark.parametrize(
    ("ours", "theirs", "verdict", "reason"),
    [
        ({"k": 5000}, {}, CANNOT_TELL, "5,000 samples instead of 1,000, and the bias"),
        ({"k": 5000, "bias": 0.1}, {"bias": 0.4}, WORSE, "without the biases"),
        ({"k": 5000, "bias": -0.3}, {"bias": 0.0}, WORSE, "without the biases"),
        ({"k": 0, "mc_error": 0.0, "bias": 0.0}, {"bias": 0.3}, WORSE, "without the biases"),
        ({"k": 0, "mc_error": 0.0, "bias": 0.0}, {}, CANNOT_TELL, "0 samples instead of 1,000"),
    ],
    ids=["unknown", "positive", "negative", "exact", "exact, unknown"],
)
def test_other_numbers_of_samples_are_compared_without_their_bias(pair, ours, theirs, verdict, reason):
    """The same seeds' values: a difference of 0.3 comes from the biases alone."""
    found = of(compared(pair[0].assign(**ours), pair[0].assign(**theirs)))
    assert found.verdict == verdict
    assert reason in found.reason
    if verdict == WORSE:
        assert found.difference == pytest.approx(0.3)


def test_presets_must_agree(pair):
    with pytest.raises(ConfigError, match="expected two runs of one preset, found quick and full"):
        compared(pair[0].assign(preset="quick"), pair[1])


LONG = [read_summary(PUBLISHED / "long")]


def thesis_row(key, value, **changes):
    return run(np.random.default_rng(0), 1).iloc[:1].assign(**key._asdict(), value=value, **changes)


@pytest.mark.parametrize(
    ("value", "changes", "verdict"),
    [
        (13.66, {}, CANNOT_TELL),  # one seed: what it takes is between one and three nats
        (10.0, {}, BETTER),
        (17.3, {}, WORSE),
        (17.3, {"preset": "quick"}, NOT_COMPARABLE),
        (17.3, {"data_official": False}, NOT_COMPARABLE),
        (13.66, {"sem": math.nan, "n_test": 1000}, CANNOT_TELL),
    ],
    ids=["one seed", "better", "worse", "small budget", "stand-in", "no error"],
)
def test_against_the_printed_number(value, changes, verdict):
    key = Key("adult", "rws", "", "-log p")  # printed 13.65
    row = thesis_row(key, value, **{"n_test": 500, **changes})
    found = of(compare_with_thesis(summarize(row, "A"), RULES, LONG), key)
    assert found.verdict == verdict
    assert found.theirs == 13.65
    assert found.reason or found.verdict in (BETTER, WORSE)


def three(key, values, **changes):
    rows = [thesis_row(key, value, seed=seed, n_test=500, **changes) for seed, value in enumerate(values)]
    return summarize(pd.concat(rows), "A")


def test_seeds_that_agree_reproduce_a_printed_number():
    key = Key("adult", "fvsbn", "", "-log p")  # printed 13.17
    found = of(compare_with_thesis(three(key, (13.172, 13.175, 13.169)), RULES, LONG), key)
    assert (found.verdict, found.smallest < 0.2) == (REPRODUCED, True)


def test_a_part_of_the_rows_adds_its_error():
    key = Key("adult", "fvsbn", "", "-log p")
    whole, part = (
        of(compare_with_thesis(summarize(thesis_row(key, 13.2, n_test=n, sem=0.1), "A"), RULES, LONG), key)
        for n in (500, 2000)
    )
    assert part.error**2 - whole.error**2 == pytest.approx(0.1**2 * (1 - 500 / 2000))


def test_the_error_of_a_printed_number_has_the_spread_of_both_trainings():
    key = Key("adult", "fvsbn", "", "-log p")
    alone = of(compare_with_thesis(three(key, (13.1, 13.2, 13.3)), RULES, LONG), key)
    # three values 0.1 apart: the prior draws their variance, 0.01, toward other cells' with few degrees of freedom
    assert 0.5 * 0.1 < alone.error / math.sqrt(1 + 1 / 3) < 0.1
    assert 2 < alone.df < 8


def test_printed_digits_stand_for_an_interval():
    assert (rounding("13.7"), rounding("9"), rounding("86.49")) == pytest.approx((0.05, 0.5, 0.005))
    key = Key("adult", "rws", "", "-log p")
    exact = thesis_row(key, 13.65 + 0.0049, sem=1e-6)
    assert of(compare_with_thesis(summarize(exact, "A"), RULES, LONG), key).p_value == 1.0


def test_shares_of_fewer_samples_are_not_compared():
    key = Key("adult", "bihm", "", "ess p*")
    found = of(compare_with_thesis(summarize(thesis_row(key, 99.0, k=500), "A"), RULES, LONG), key)
    assert (found.verdict, "falls with K" in found.reason) == (NOT_COMPARABLE, True)
    many = thesis_row(key, 99.0, k=100_000)
    assert of(compare_with_thesis(summarize(many, "A"), RULES, LONG), key).verdict in (BETTER, CANNOT_TELL)


def test_every_printed_number_is_compared():
    verdicts = compare_with_thesis(summarize(run(np.random.default_rng(0)), "A"), RULES)
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
        ({"-log p(y|x)": -0.2}, "log p(y|x) <= 0"),
        ({"bound -log p": 10.0, "-log p": 11.0}, "bound <= log p"),
        ({"-2 log Z": -0.4}, "Z <= 1"),
        ({"-log p~*": 10.0, "-log p*": 9.0, "-2 log Z": 0.5}, "-log p* = -log p~* + 2 log Z"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_run_that_contradicts_itself_is_found(numbers, identity):
    rows = pd.concat([thesis_row(Key("adult", "bihm", "", m), v, mc_error=1e-4) for m, v in numbers.items()])
    assert [violation.identity for violation in audit_run(summarize(rows, "A"))] == [identity]


@pytest.mark.parametrize(("bias", "found"), [(math.nan, 1), (0.0, 1), (-0.5, 1), (0.9, 1), (1.1, 0), (-1.1, 0)])
def test_what_a_bias_explains_is_no_contradiction(bias, found):
    """A bound a nat above log p: more samples would move either by its bias."""
    numbers = {"bound -log p": 10.0, "-log p": 11.0}
    rows = [
        thesis_row(Key("adult", "bihm", "", m), v, mc_error=1e-4, bias=bias if m == "-log p" else 0.0)
        for m, v in numbers.items()
    ]
    assert len(audit_run(summarize(pd.concat(rows), "A"))) == found


def test_files_and_outcome(pair, tmp_path):
    ours, theirs = pair
    ours.loc[at(ours), "value"] += 0.3
    for name, frame in (("a", ours), ("b", theirs)):
        (tmp_path / name).mkdir()
        frame.to_parquet(tmp_path / name / "metrics.parquet")
    outcome = write_check(tmp_path / "a", tmp_path / "b" / "metrics.parquet", tmp_path / "out")
    assert outcome.regressions == 1
    counts = outcome.counts["earlier run"]
    assert counts[WORSE] == 1
    assert set(counts) <= {REPRODUCED, CANNOT_TELL, WORSE}
    assert any("of 32 could have been called different" in line for line in outcome.lines())
    table = pd.read_csv(tmp_path / "out" / "check.csv", keep_default_na=False)
    assert set(table["against"]) == {"thesis", "earlier run"}
    assert "| adult/rws" in (tmp_path / "out" / "check.md").read_text()
    for name in ("check", "check_power"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "out" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    curves = pd.read_csv(tmp_path / "out" / "check_power.csv")
    assert set(curves["curve"]) == {"size against a run", "size against the thesis", "power of this comparison",
                                    "power against independent training"}  # fmt: skip
    for _, curve in curves.groupby("curve"):
        assert (curve["y"].diff().iloc[1:] >= -2 * curve["error"].iloc[1:]).all()
        assert curve["y"].iloc[-1] > curve["y"].iloc[0]
        assert curve["y"].between(0, 1).all()
    assert len(pd.read_csv(tmp_path / "out" / "audit.csv")) == len(audit_thesis())
    with pytest.raises(DataError, match=r"nowhere.*no such file"):
        write_check(tmp_path / "nowhere", None, tmp_path / "out")
