"""The conformance suite on scores, modes and draws: planted mistakes are caught by the check that names the fault."""

import os

import pytest
import torch
from planted_plugins import CountsInABuffer, FrozenMask, FunctionalDropout, SamplesAlone, Uniform, Unusual
from planted_scores import PLANTED

from harness.cli import main
from harness.errors import ConfigError
from harness.plugins.registry import method_class
from harness.verify import CHECKS, Result, Subject, parametrize_with_checks, run_check, summary, verify
from harness.verify.independence import _variance_ratio, normal_scores
from harness.verify.modes import HeldStill
from harness.verify.subject import N_VISIBLE, generator

pytest_plugins = ["pytester"]
_passed: dict[tuple[type, str], bool] = {}


def parent_passes(cls, check):
    parent = cls.__mro__[1]
    if (parent, check) not in _passed:
        _passed[parent, check] = run_check(check, Subject(parent)).verdict == "passed"
    return _passed[parent, check]


@pytest.mark.parametrize("cls", PLANTED, ids=lambda cls: cls.__name__)
def test_planted_mistakes_are_caught_by_name(cls):
    result = run_check(PLANTED[cls], Subject(cls))
    assert result.verdict == "failed", result.detail
    assert "Error" not in result.detail.split(":")[0], result.detail
    assert parent_passes(cls, PLANTED[cls])


# -- right methods of an unusual make ---------------------------------------------------------------------------------

UNUSUAL = (Unusual, FunctionalDropout, FrozenMask, Uniform, CountsInABuffer)
# what updates, gradients and labels are is the matter of other checks
OTHERS = {"gradient"}


@pytest.mark.parametrize("cls", UNUSUAL, ids=lambda cls: cls.__name__)
def test_right_plugins_pass(cls):
    subject = Subject(cls)
    for check in (name for name in CHECKS if name not in OTHERS):
        result = run_check(check, subject)
        assert result.verdict in ("passed", "not applicable"), f"{check}: {result.detail}"


def test_frozen_parameters_stay_and_ties_hold():
    subject = Subject(Unusual)
    begun, model = subject.new(3), subject._model(1.0, 3)
    assert torch.equal(begun.project, model.project)
    assert not model.project.requires_grad
    assert model.again.weight is model.between.weight
    assert not torch.equal(begun.between.weight, model.between.weight)
    assert torch.equal(Subject(FrozenMask).far_model().mask, torch.ones(N_VISIBLE, N_VISIBLE).double().tril(-1))


def test_running_statistics_have_moved_and_models_evaluate():
    model = Subject(Unusual).model()
    assert not model.training
    assert model.norm.running_mean.abs().min() > 0
    assert model.norm.num_batches_tracked > 0


@pytest.mark.parametrize("make", ["model", "far_model", "telling_model"])
def test_models_are_the_same_whatever_the_global_random_state(make):
    """Dropout draws from it while running statistics move."""
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        states.append(getattr(Subject(FunctionalDropout), make)().state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_held_still_dropout_and_batch_normalisation_are_those_of_evaluation():
    model = Subject(Unusual).model()
    x = Subject(Unusual).rows
    with torch.no_grad():
        expected = model.log_weights(x, 4, generator(0))
        model.train()
        with HeldStill():
            assert torch.equal(model.log_weights(x, 4, generator(0)), expected)
        assert not torch.equal(model.log_weights(x, 4, generator(0)), expected)


def test_no_symmetry_maps_the_rows_onto_each_other():
    x = Subject(Unusual).batch().x
    rows = {tuple(row) for row in x.tolist()}
    for changed in (x.flip(1), 1 - x, 1 - x.flip(1), x.roll(1, 1), x.roll(-1, 1)):
        assert not rows & {tuple(row) for row in changed.tolist()}


# -- size and power of the test of independence -----------------------------------------------------------------------


def test_variance_ratios_have_their_level_and_find_a_factor_of_two():
    """Of 400 trials on heavy-tailed and on tied values: |z| of independent ones as a normal's, of copies far beyond."""
    draws = generator(0)
    independent, copied = [], []
    for trial in range(400):
        values = torch.randn(100, 8, generator=draws, dtype=torch.float64)
        values = values.exp() ** 2 if trial % 2 else values.round()
        independent.append(_variance_ratio(normal_scores(values))[1])
        values[:, 4:] = values[:, :4]
        copied.append(_variance_ratio(normal_scores(values))[1])
    independent, copied = torch.tensor(independent), torch.tensor(copied)
    # 5 % and 1 % of 400, with three standard errors of a binomial above
    assert (independent > 1.96).sum() <= 20 + 3 * 4.4
    assert (independent > 2.58).sum() <= 4 + 3 * 2.0
    assert (copied > 4.4).double().mean() > 0.7


# -- what is told -----------------------------------------------------------------------------------------------------


def test_what_nothing_can_verify_is_not_checked():
    result = run_check("samples", Subject(SamplesAlone))
    assert (result.verdict, result.detail.split(":")[0]) == ("NOT CHECKED", "nothing to compare it with")
    assert run_check("samples", Subject(FrozenMask)).verdict == "not applicable"


def test_a_method_that_cannot_learn_is_told_so():
    class Frozen(FrozenMask):
        def __init__(self, n_visible: int):
            super().__init__(n_visible)
            self.requires_grad_(False)

    assert "expected parameters that learn" in run_check("interface", Subject(Frozen)).detail


def test_a_method_that_ends_the_process_has_failed():
    class Leaves(FrozenMask):
        def log_prob(self, x):
            raise SystemExit(0)

    assert run_check("normalisation", Subject(Leaves)) == Result("normalisation", "failed", "SystemExit: 0")


@pytest.mark.parametrize("processors", [1, 2])
def test_verdicts_are_the_same_on_any_number_of_processors(monkeypatch, processors):
    monkeypatch.setattr("harness.verify.n_processors", lambda: processors)
    subject = Subject(method_class("factorised"))
    assert list(verify("factorised")) == [run_check(check, subject) for check in CHECKS]


def test_a_method_that_takes_its_process_along_fails_the_checks_that_ask_it(monkeypatch):
    class Crashes(FrozenMask):
        def sample(self, n, generator):
            os._exit(0)

    monkeypatch.setattr("harness.verify.n_processors", lambda: 2)
    monkeypatch.setattr("harness.verify.method_class", lambda name: Crashes)
    monkeypatch.setattr("harness.verify.build", lambda *_: None)
    found = {result.check: result for result in verify("fvsbn")}
    assert list(found) == list(CHECKS)
    assert found["samples"].verdict == "failed"
    assert "ended without a word" in found["samples"].detail
    assert [found[check].verdict for check in ("normalisation", "gradient", "learning")] == ["passed"] * 3


def test_the_last_line_sums_up():
    found = [Result("a", "passed", ""), Result("b", "failed", ""), Result("c", "NOT CHECKED", "")]
    assert summary(found) == "1 passed, 1 failed (b), 1 not checked (c), 0 not applicable"


def test_what_is_not_checked_decides_the_exit_code_unless_allowed(capsys, monkeypatch):
    monkeypatch.setattr("harness.verify.method_class", lambda name: SamplesAlone)
    monkeypatch.setattr("harness.verify.build", lambda *_: None)
    monkeypatch.setattr("harness.verify.CHECKS", {name: CHECKS[name] for name in ("interface", "samples")})
    assert main(["verify", "factorised"]) == 1
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last == "factorised: 1 passed, 0 failed, 1 not checked (samples), 0 not applicable"
    assert main(["verify", "factorised", "--allow-unchecked"]) == 0


# -- in a plugin's own tests ------------------------------------------------------------------------------------------

PLUGIN_TESTS = """
from harness.verify import parametrize_with_checks
from planted_plugins import CountsInABuffer
from planted_scores import CentredOverTheBatch


class Mine(CentredOverTheBatch):
    name = "mine"


@parametrize_with_checks("factorised", CountsInABuffer)
def test_conformance(check):
    check()


@parametrize_with_checks(Mine, expected_failures={"rows alone": "centred, as published"})
def test_with_a_known_weakness(check):
    if check.name in ("rows alone", "orderings"):
        check()


@parametrize_with_checks(CountsInABuffer, expected_failures={"rows alone": "not true"})
def test_a_declared_failure_that_passes(check):
    if check.name == "rows alone":
        check()
"""


def test_a_plugins_own_tests_run_the_suite(pytester):
    pytester.makepyfile(PLUGIN_TESTS)
    found = pytester.runpytest_inprocess("-q", "-rA", "-p", "no:cacheprovider")
    outcomes = found.parseoutcomes()
    printed = found.stdout.str()
    assert outcomes["failed"] == 1
    assert "[XPASS(strict)] not true" in printed
    assert outcomes["xfailed"] == 1
    assert "centred, as published" in printed
    assert "test_conformance[Factorised-rows_alone]" in printed
    assert "test_conformance[CountsInABuffer-normalisation]" in printed


def test_unknown_names_are_refused_when_tests_are_collected():
    with pytest.raises(ConfigError, match=r"expected_failures: expected one of interface, .*, found 'speed'"):
        parametrize_with_checks("factorised", expected_failures={"speed": "slow"})
    with pytest.raises(ConfigError, match=r"method: expected one of .*, found 'nonesuch'"):
        parametrize_with_checks("nonesuch")
    with pytest.raises(ConfigError, match="at least one method"):
        parametrize_with_checks()
