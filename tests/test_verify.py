"""The conformance suite: every built-in method passes, and planted mistakes are caught by name."""

import functools
import math

import harness.methods.bihm
import harness.methods.fvsbn
import harness.methods.iwae
import harness.methods.nade
import harness.methods.rws
import harness.methods.vae
import pytest
import torch
from torch import nn

from harness.blocks.bernoulli import normalised_weights
from harness.cli import main
from harness.plugins.registry import method_class, method_names
from harness.verify import CHECKS, Subject, run_check


def verdicts(cls, *checks):
    subject = Subject(cls)
    return {name: run_check(name, subject) for name in checks or CHECKS}


@functools.cache
def subject_of(cls):
    """One for all checks, as the suite has it: finding models that tell takes as long as some checks."""
    return Subject(cls)


@pytest.mark.slow
@pytest.mark.parametrize("name", method_names())
@pytest.mark.parametrize("check", CHECKS)
def test_built_in_methods_pass(check, name):
    result = run_check(check, subject_of(method_class(name)))
    if result.verdict == "not applicable":
        assert result.detail
        return
    assert result.verdict == "passed", result.detail


# -- planted mistakes -------------------------------------------------------------------------------------------------


class MissingLogK(harness.methods.iwae.IWAE):
    def loss(self, batch, n_samples, generator):
        return -torch.logsumexp(self.log_weights(batch.x, n_samples, generator), dim=1).mean()


class WrongSignOfQ(harness.methods.bihm.BiHM):
    def add_q_gradients(self, inferred, weights):
        super().add_q_gradients(inferred, -weights)


class WrongTemperature(harness.methods.bihm.BiHM):
    def accumulate_gradients(self, batch, n_samples, generator):
        inferred = self.infer(batch.x, n_samples, generator)
        weights, _ = normalised_weights(inferred.log_p - inferred.log_q, self.prior_bias.dtype)  # not half of it
        half = 0.5 * (inferred.log_p - inferred.log_q)
        weights /= -len(batch.x)
        self.add_p_gradients(inferred, weights)
        self.add_prior_gradients(inferred, weights)
        self.add_q_gradients(inferred, weights + 1.0 / weights.numel())
        return -2.0 * (torch.logsumexp(half, dim=1) - math.log(n_samples)).mean()


class SumOverSamples(harness.methods.vae.VAE):
    def loss(self, batch, n_samples, generator):
        mean, log_std = self.posterior(batch.x)
        h, _ = self.draw(mean, log_std, n_samples, generator)
        divergence = 0.5 * (mean.square() + torch.exp(2 * log_std) - 1.0).sum(-1) - log_std.sum(-1)
        return (divergence - self.log_likelihood(batch.x, h).sum(1)).mean()


class NoPrior(harness.methods.rws.RWS):
    def log_weights(self, x, n_samples, generator):
        inferred = self.infer(x, n_samples, generator, with_prior=False)
        return inferred.log_p - inferred.log_q


class MaskOffByOne(harness.methods.fvsbn.FVSBN):
    def log_prob(self, x):
        logits = x @ self.weight.tril().t() + self.bias  # a column sees itself
        return (x * logits - nn.functional.softplus(logits)).sum(1)


class SeedIgnored(harness.methods.nade.NADE):
    def sample(self, n, generator):
        return super().sample(n, torch.Generator().manual_seed(int(torch.randint(1000, ()))))


class BufferDropped(harness.methods.nade.NADE):
    """Its bias is shifted by what it has seen so far, which a checkpoint does not tell."""

    def __init__(self, n_visible, hidden):
        super().__init__(n_visible, hidden)
        self.register_buffer("shift", torch.zeros(n_visible), persistent=False)

    def accumulate_gradients(self, batch, n_samples, generator):
        self.shift += 0.01 * batch.x.mean(0)
        return super().accumulate_gradients(batch, n_samples, generator)

    def log_prob(self, x):
        return super().log_prob((x - self.shift).clamp(0, 1))


class TakesAnything(harness.methods.fvsbn.FVSBN):
    def log_prob(self, x):
        return super().log_prob(x[:, : self.n_visible])


class SamplesOfTheWrongModel(harness.methods.rws.RWS):
    def sample(self, n, generator):
        return super().sample(n, generator).flip(1)


class BoundTooHigh(harness.methods.bihm.BiHM):
    def log_z2_weights(self, n_outer, n_inner, generator):
        return super().log_z2_weights(n_outer, n_inner, generator) + math.log(1.2)


class UphillStep(harness.methods.nade.NADE):
    def accumulate_gradients(self, batch, n_samples, generator):
        loss = super().accumulate_gradients(batch, n_samples, generator)
        for parameter in self.parameters():
            parameter.grad.neg_()
        return loss


class ChainsOfP(harness.methods.bihm.BiHM):
    def sweep(self, state, n_proposals, generator):
        return self.sample_layers(len(state[0]), generator)


class InpaintingBlindly(harness.methods.bihm.BiHM):
    def inpaint(self, x, known, n_sweeps, n_proposals, generator):
        state = self.sample_layers(len(x), generator)
        for _ in range(n_sweeps):
            state = self.sweep(state, n_proposals, generator)
        drawn, expected = state[0], self.expected_visible(state[1], generator)
        return torch.where(known, x, drawn), torch.where(known, x, expected)


class LayerForgotten(harness.methods.rws.RWS):
    def sample_below(self, level, h, generator):
        return self.sample_layers(len(h), generator)[:level]


PLANTED = {
    MissingLogK: "loss is a bound",
    WrongSignOfQ: "gradient",
    WrongTemperature: "gradient",
    SumOverSamples: "loss is a bound",
    NoPrior: "importance weights",
    MaskOffByOne: "normalisation",
    SeedIgnored: "determinism",
    BufferDropped: "checkpoint",
    TakesAnything: "bad input",
    SamplesOfTheWrongModel: "samples",
    BoundTooHigh: "partition function",
    UphillStep: "learning",
    ChainsOfP: "joint samples",
    InpaintingBlindly: "inpainting",
    LayerForgotten: "layer samples",
}


@pytest.mark.parametrize("cls", PLANTED, ids=lambda cls: cls.__name__)
def test_planted_mistakes_are_caught_by_name(cls):
    result = run_check(PLANTED[cls], Subject(cls))
    assert result.verdict == "failed", result.detail
    assert run_check(PLANTED[cls], subject_of(cls.__mro__[1])).verdict == "passed"


def test_a_crash_is_a_failure_with_its_reason():
    class Crashing(harness.methods.nade.NADE):
        def log_prob(self, x):
            raise RuntimeError("something broke")

    result = run_check("normalisation", Subject(Crashing))
    assert (result.verdict, result.detail) == ("failed", "RuntimeError: something broke")


def test_an_incomplete_method_is_told_what_it_lacks():
    class Nameless(harness.methods.nade.NADE):
        title = ""

    class Untrainable(nn.Module):
        name, title, kind, source = "u", "u", "u", "u"

        def __init__(self, n_visible: int):
            super().__init__()

    assert run_check("interface", Subject(Nameless)).detail == "title: expected words, found ''"
    assert "expected loss, accumulate_gradients or fit" in run_check("interface", Subject(Untrainable, {})).detail


def test_what_is_assigned_to_a_model_is_told():
    class Assigning(harness.methods.nade.NADE):
        def __init__(self, n_visible, hidden: int):
            super().__init__(n_visible, hidden)
            self.encode = lambda x, n_samples, generator: [x]
            self.fit = nn.Linear(1, 1)  # a layer may have any name

    detail = run_check("interface", Subject(Assigning)).detail
    assert detail == "expected encode in the class, found it only in an instance, where it is ignored"


def test_the_verb_prints_a_table_and_its_exit_code_tells(capsys, monkeypatch):
    assert main(["verify", "factorised"]) == 0
    printed = capsys.readouterr().out
    assert all(check in printed for check in CHECKS)
    monkeypatch.setattr("harness.verify.method_class", lambda name: MaskOffByOne)
    monkeypatch.setattr("harness.verify.build", lambda *_: None)
    assert main(["verify", "fvsbn"]) == 1
    assert "failed" in capsys.readouterr().out


def test_the_verb_names_unknown_methods(capsys):
    assert main(["verify", "nonesuch"]) == 3
    assert "method: expected one of" in capsys.readouterr().err
