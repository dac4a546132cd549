"""The half of the conformance suite about learning: planted faults are caught by the check that names them."""

import math

import harness.methods.bihm
import harness.methods.iwae
import harness.methods.ssl_bihm
import harness.methods.vae
import planted_updates as planted
import pytest
import torch

from harness.blocks import exact
from harness.plugins.registry import method_class, method_names
from harness.verify import Subject, run_check
from harness.verify.causes import likely, likely_value
from harness.verify.gradients import Seeded, largest_jump
from harness.verify.subject import N_VISIBLE

CASES = [(check, cls) for check, classes in planted.PLANTED.items() for cls in classes]


@pytest.mark.parametrize(("check", "cls"), CASES, ids=lambda each: getattr(each, "__name__", each))
def test_planted_faults_are_caught_by_the_check_that_names_them(check, cls):
    result = run_check(check, Subject(cls))
    assert result.verdict == "failed", result.detail
    assert "Error" not in result.detail, result.detail  # a verdict, not a crash


def test_what_the_faults_were_planted_in_are_built_in_methods_which_pass_every_check():
    """In ``test_verify.py``: a fault is caught, and what it was planted in is not."""
    assert {cls.__mro__[1] for _, cls in CASES} <= {method_class(name) for name in method_names()}


@pytest.mark.parametrize(
    ("cls", "check", "words"),
    [
        (planted.WeightsNotNormalised, "gradient", "it is twice that"),
        (planted.SumOverRows, "loss is a mean over rows", "a sum over rows instead of a mean?"),
        (planted.DividedTwice, "loss is a mean over rows", "divided by B twice?"),
        (planted.TimesSamples, "loss is a bound", "the number of samples K"),
        (planted.HiddenIsTheLastClass, "labels in learning", "a label of -1 is read as class 2?"),
        (planted.CriterionWithoutLogK, "validation loss", "2 log K"),
        (planted.CriterionDoubled, "validation loss", "it is twice that"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_verdicts_name_the_likely_cause(cls, check, words):
    assert words in run_check(check, Subject(cls)).detail


def test_discrete_samples_without_an_exact_loss_are_not_called_right():
    result = run_check("gradient", Subject(planted.DreamsByAutograd))
    assert result.verdict == "NOT CHECKED"
    assert "exact_loss" in result.detail


def test_another_estimator_of_the_same_gradient_passes():
    result = run_check("gradient", Subject(planted.StickingTheLanding))
    assert result.verdict == "passed", result.detail
    assert "mean over seeds" in result.detail


@pytest.mark.parametrize("check", ["gradient", "loss is a mean over rows", "learning"])
def test_layers_with_a_training_mode_and_frozen_parameters_pass(check):
    result = run_check(check, Subject(planted.DroppedAndNormalised))
    assert result.verdict == "passed", result.detail


@pytest.mark.parametrize("settings", [{"gamma": -0.5}, {"gamma": 0.7, "estimator": "shared"}])
def test_semi_supervised_gradients_of_both_estimators_pass(settings):
    cls = harness.methods.ssl_bihm.SemiSupervisedBiHM
    result = run_check("gradient with labels", Subject(cls, cls.small | settings))
    assert result.verdict == "passed", result.detail


def test_contrastive_divergence_passes_as_persistent_chains_do():
    cls = method_class("rbm")
    result = run_check("gradient", Subject(cls, cls.small | {"chains": 0}))
    assert result.verdict == "passed", result.detail


def test_only_losses_of_discrete_samples_jump():
    def jump(cls):
        subject = Subject(cls)
        return largest_jump(Seeded(subject.model(), subject.batch(), 3), range(2))

    assert jump(harness.methods.bihm.BiHM) > 1e-4
    assert jump(harness.methods.vae.VAE) < 1e-7
    assert jump(harness.methods.iwae.IWAE) < 1e-7


def test_losses_leave_buffers_and_the_parameters_as_they_are():
    subject = Subject(method_class("rbm"))
    model = subject.model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seeded = Seeded(model, subject.batch(), 2)
    seeded.value(1)
    largest_jump(seeded, range(1))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_expected_weights_of_one_sample_are_its_proposal_and_of_many_the_posterior():
    model = Subject(harness.methods.bihm.BiHM).model()
    log_p, log_q = exact.joint_tables(model, exact.all_binary(N_VISIBLE))
    one, *few, many = (exact.expected_weights(log_p - log_q, log_q, k) for k in (1, 2, 3, None))
    assert torch.allclose(one, log_q.exp())
    assert torch.allclose(many, torch.softmax(log_p, dim=1))
    assert all(torch.allclose(each.sum(1), torch.ones(len(each), dtype=each.dtype)) for each in [*few, many])
    distance = [(each - many).abs().sum() for each in (one, *few)]
    assert distance == sorted(distance, reverse=True)


def test_the_sample_bound_rises_from_the_evidence_bound_towards_log_p():
    model = Subject(harness.methods.bihm.BiHM).model()
    x = exact.all_binary(N_VISIBLE)
    tables = exact.joint_tables(model, x)
    bounds = [exact.sample_bound(*tables, k) for k in (1, 2, 3)]
    assert torch.allclose(bounds[0], exact.bound(model, x))
    assert all(
        (lower < higher).all() for lower, higher in zip(bounds, [*bounds[1:], exact.log_p(model, x)], strict=True)
    )


def test_causes_have_the_words_of_factors_and_offsets():
    expected = torch.tensor([1.5, -0.5])

    def close_to(found):
        return lambda value: torch.allclose(found, value)

    assert likely(expected, close_to(-expected), 4, 3) == "its sign is wrong"
    assert "batch size" in likely(expected, close_to(4 * expected), 4, 3)
    assert likely(expected, close_to(1.1 * expected), 4, 3) == ""
    assert "log K" in likely_value(expected, close_to(expected - math.log(3)), 4, 3)
