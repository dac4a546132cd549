"""Wrong methods: what they learn from, labels, and early stopping. Each is a built-in one with a single fault."""

import math

import harness.methods.bihm
import harness.methods.darn
import harness.methods.eonade
import harness.methods.fvsbn
import harness.methods.iwae
import harness.methods.label_mlp
import harness.methods.made
import harness.methods.nade
import harness.methods.nvil
import harness.methods.rbm
import harness.methods.rws
import harness.methods.rws_nade
import harness.methods.ssl_bihm
import harness.methods.ssl_bihm_low
import harness.methods.vae
import harness.methods.vimco
import torch
import torch.nn.functional as F
from torch import nn

from harness.blocks.bernoulli import normalised_weights
from harness.blocks.gaussian import GaussianStack
from harness.blocks.nade_layer import NadeLayer
from harness.blocks.sigmoid_belief import BeliefStack
from harness.estimators import joint_label_loss
from harness.method import Batch

# -- gradients by hand ------------------------------------------------------------------------------------------------


class BaselineWithItself(harness.methods.vimco.VIMCO):
    """Nothing is left out of the baseline: the learning signal vanishes."""

    def add_q_gradients(self, inferred, weights):
        lw = inferred.log_p - inferred.log_q
        super().add_q_gradients(inferred, torch.softmax(lw, 1).flatten().to(weights.dtype) / len(lw))


class BaselineAdded(harness.methods.vimco.VIMCO):
    """The leave-one-out value counts with the wrong sign."""

    def add_q_gradients(self, inferred, weights):
        lw = inferred.log_p - inferred.log_q
        own = torch.softmax(lw, 1).flatten() / len(lw)
        super().add_q_gradients(inferred, (2 * own - weights).to(weights.dtype))


class ScoreAlone(harness.methods.vimco.VIMCO):
    """log q has the score function's weights, but not those of log q inside the bound."""

    def add_q_gradients(self, inferred, weights):
        own = torch.softmax(inferred.log_p - inferred.log_q, 1).flatten() / len(inferred.log_p)
        super().add_q_gradients(inferred, (weights - own).to(weights.dtype))


class KeepsMemoryOfOthers(NadeLayer):
    """What the biases were shifted by is kept where the next layer writes its own."""

    def draw_columns(self, product, n, generator, fixed=None):
        scored = super().draw_columns(product, n, generator, fixed)
        scored.product = product if len(product) == n else scored.product
        return scored


class MemoryUsedAgain(harness.methods.rws_nade.RWSNade):
    """Seen only where the conditions of two layers are equally wide, so that they share their memory."""

    def __init__(self, n_visible, layers, hidden):
        super().__init__(n_visible, layers, hidden)
        for layer in self.q_layers:
            layer.__class__ = KeepsMemoryOfOthers


class WeightsNotNormalised(harness.methods.darn.DARN):
    """1 / K is missing: gradients grow with the number of samples."""

    def accumulate_gradients(self, batch, n_samples, generator):
        loss = super().accumulate_gradients(batch, n_samples, generator)
        for parameter in self.parameters():
            parameter.grad.mul_(n_samples)
        return loss


class PriorTransposed(harness.methods.darn.DARN):
    """The gradient of the autoregressive prior goes to the other triangle."""

    def accumulate_gradients(self, batch, n_samples, generator):
        loss = super().accumulate_gradients(batch, n_samples, generator)
        self.prior_weight.grad.copy_(self.prior_weight.grad.t().clone())
        return loss


class PositivePhaseHalved(harness.methods.rbm.RBM):
    def accumulate_gradients(self, batch, n_samples, generator):
        loss = super().accumulate_gradients(batch, n_samples, generator)
        self.visible_bias.grad.add_(0.5 * batch.x.mean(0))
        return loss


class ChainOneStepShort(harness.methods.rbm.RBM):
    def accumulate_gradients(self, batch, n_samples, generator):
        return super().accumulate_gradients(batch, n_samples - 1, generator)


class BaselineLeaks(harness.methods.nvil.NVIL):
    """The baseline of the first layer sees the samples that it is subtracted from."""

    def signals(self, inferred):
        first, *rest = super().signals(inferred)
        return [first - inferred.h[0].sum(1), *rest]


class MomentsOfThisBatch(harness.methods.nvil.NVIL):
    """Signals are centred by the mean of the very samples that they weight."""

    def signals(self, inferred):
        self.signal_mean.zero_()
        found = super().signals(inferred)
        return [signal - signal.mean() for signal in found]


class RightForManySamples(harness.methods.bihm.BiHM):
    """Weights of few samples are those of log p, not of its root."""

    def accumulate_gradients(self, batch, n_samples, generator):
        if n_samples > 100:
            return super().accumulate_gradients(batch, n_samples, generator)
        inferred = self.infer(batch.x, n_samples, generator)
        weights, _ = normalised_weights(inferred.log_p - inferred.log_q, self.prior_bias.dtype)
        half = 0.5 * (inferred.log_p - inferred.log_q)
        weights /= -len(batch.x)
        self.add_p_gradients(inferred, weights)
        self.add_prior_gradients(inferred, weights)
        self.add_q_gradients(inferred, weights + 1.0 / weights.numel())
        return -2.0 * (torch.logsumexp(half, dim=1) - math.log(n_samples)).mean()


class NoSleep(harness.methods.rws.RWS):
    def add_sleep_gradients(self, x, h, factor):
        super().add_sleep_gradients(x, h, 0.0)


class SinglePrecisionOnly(harness.methods.nade.NADE):
    """The kernel's gradient of one bias, which double precision does not use."""

    def accumulate_gradients(self, batch, n_samples, generator):
        loss = super().accumulate_gradients(batch, n_samples, generator)
        if batch.x.dtype == torch.float32:
            self.hidden_bias.grad.mul_(0.5)
        return loss


class OneBiasUphill(harness.methods.fvsbn.FVSBN):
    def accumulate_gradients(self, batch, n_samples, generator):
        loss = super().accumulate_gradients(batch, n_samples, generator)
        self.bias.grad[1] *= -1
        return loss


# -- gradients by automatic differentiation ---------------------------------------------------------------------------


class PathDetached(harness.methods.iwae.IWAE):
    def draw(self, mean, log_std, n_samples, generator):
        draws, log_q = super().draw(mean, log_std, n_samples, generator)
        return draws.detach(), log_q


class SpreadWithoutGradient(harness.methods.vae.VAE):
    def draw(self, mean, log_std, n_samples, generator):
        return super().draw(mean, log_std.detach(), n_samples, generator)


class UnseenColumnsCountOnce(harness.methods.eonade.EoNADE):
    """Without D / (D - s), rows of which much is observed count for less."""

    def loss(self, batch, n_samples, generator):
        x = batch.x
        n_seen = torch.randint(self.n_visible, (len(x), 1), generator=generator)
        order = torch.rand(x.shape, generator=generator).argsort(dim=1)
        seen = torch.zeros_like(x).scatter_(1, order, (torch.arange(self.n_visible) < n_seen).to(x.dtype))
        activation = (x * seen) @ self.input_weight + seen @ self.seen_weight + self.hidden_biases[0]
        logits = F.linear(self._upper(activation), self.output_weight, self.visible_bias)
        return F.binary_cross_entropy_with_logits(logits, x, 2.0 * (1.0 - seen), reduction="sum") / len(x)


class SlopesOfAnotherLoss(harness.methods.made.MADE):
    """The value is -log p, the gradient belongs to twice that of the first column."""

    def loss(self, batch, n_samples, generator):
        loss = super().loss(batch, n_samples, generator)
        extra = self.biases[-1].sum()
        return loss + extra - extra.detach()


# -- the value of the loss --------------------------------------------------------------------------------------------


class SumOverRows(harness.methods.label_mlp.LabelMLP):
    def loss(self, batch, n_samples, generator):
        return F.nll_loss(self.head(batch.x, generator), batch.y, ignore_index=-1, reduction="sum")


class DividedTwice(harness.methods.rbm.RBM):
    def accumulate_gradients(self, batch, n_samples, generator):
        loss = super().accumulate_gradients(batch, n_samples, generator)
        for parameter in self.parameters():
            parameter.grad.div_(len(batch.x))
        return loss / len(batch.x)


class TimesSamples(harness.methods.vae.VAE):
    def loss(self, batch, n_samples, generator):
        return n_samples * super().loss(batch, n_samples, generator)


class LowInTrainingMode(harness.methods.iwae.IWAE):
    def loss(self, batch, n_samples, generator):
        loss = super().loss(batch, n_samples, generator)
        return loss - math.log(n_samples) if self.training else loss


# -- learning ---------------------------------------------------------------------------------------------------------


class LearnsTheNextLabel(harness.methods.label_mlp.LabelMLP):
    def loss(self, batch, n_samples, generator):
        y = torch.where(batch.y < 0, batch.y, (batch.y + 1) % 3)
        return super().loss(Batch(batch.x, y), n_samples, generator)


class BiasForgotten(harness.methods.iwae.IWAE):
    """A parameter that shifts the logits, and that no gradient reaches."""

    def __init__(self, n_visible, layers, hidden):
        super().__init__(n_visible, layers, hidden)
        self.shift = nn.Parameter(torch.zeros(n_visible))

    def log_likelihood(self, x, h1):
        logits = self.decoders[0](h1) + self.shift.detach()
        return (x[:, None] * logits - F.softplus(logits)).sum(-1).double()

    def sample(self, n, generator):
        raise NotImplementedError


class FrozenMoves(harness.methods.nade.NADE):
    """A step by hand for a parameter that is to stay as it is: the harness itself leaves frozen ones alone."""

    def __init__(self, n_visible, hidden):
        super().__init__(n_visible, hidden)
        self.hidden_bias.requires_grad_(False)

    @torch.no_grad()
    def accumulate_gradients(self, batch, n_samples, generator):
        loss = super().accumulate_gradients(batch, n_samples, generator)
        self.hidden_bias.sub_(0.001)
        return loss


# -- labels -----------------------------------------------------------------------------------------------------------


class GammaOfTheWrongSign(harness.methods.ssl_bihm.SemiSupervisedBiHM):
    def accumulate_gradients(self, batch, n_samples, generator):
        self.gamma = -self.gamma
        loss = super().accumulate_gradients(batch, n_samples, generator)
        self.gamma = -self.gamma
        return loss


class LabelsIgnored(harness.methods.ssl_bihm.SemiSupervisedBiHM):
    def accumulate_gradients(self, batch, n_samples, generator):
        return super().accumulate_gradients(Batch(batch.x, torch.full_like(batch.y, -1)), n_samples, generator)


class LabelGradientSwapped(harness.methods.ssl_bihm.SemiSupervisedBiHM):
    """The gradient of p(h | y) is added to the rows of other labels."""

    def _add_label_gradients(self, top, weights, of_labels, log_q):
        super()._add_label_gradients(top, weights.roll(1, dims=1), of_labels, log_q)


class HiddenIsTheLastClass(harness.methods.ssl_bihm_low.LowLabelBiHM):
    def accumulate_gradients(self, batch, n_samples, generator):
        return super().accumulate_gradients(Batch(batch.x, batch.y % 3), n_samples, generator)


class HiddenIsTheLastClassHere(harness.methods.label_mlp.LabelMLP):
    """Indexing with -1 takes the last column."""

    def loss(self, batch, n_samples, generator):
        return -self.head(batch.x, generator)[torch.arange(len(batch.x)), batch.y].mean()


class LabelsOfTheNextRow(harness.methods.label_mlp.LabelMLP):
    def loss(self, batch, n_samples, generator):
        return super().loss(Batch(batch.x, batch.y.roll(1)), n_samples, generator)


class WeightsOfTheNextLabel(harness.methods.ssl_bihm.SemiSupervisedBiHM):
    def log_label_weights(self, x, n_samples, generator):
        return super().log_label_weights(x, n_samples, generator).roll(1, dims=2)


class RootsForgotten(harness.methods.ssl_bihm_low.LowLabelBiHM):
    """q(y | h) to the power of one half, though it is in p and in q."""

    def log_label_weights(self, x, n_samples, generator):
        inferred = self.infer(x, n_samples, generator)
        labels = self.head(inferred.h[0]).view(*inferred.log_p.shape, -1)
        return 0.5 * ((inferred.log_p - inferred.log_q)[:, :, None] + labels)


class SharpenedInEvaluation(harness.methods.label_mlp.LabelMLP):
    def log_label_prob(self, x):
        found = super().log_label_prob(x)
        return found if self.training else 1.5 * found


class OddBatches(harness.methods.label_mlp.LabelMLP):
    def log_label_prob(self, x):
        found = super().log_label_prob(x)
        return found + 0.1 if len(x) % 2 and len(x) > 5 else found


class OverRowsNotLabels(harness.methods.label_mlp.LabelMLP):
    """Centred by the mean over the batch before the softmax."""

    def log_label_prob(self, x):
        found = super().log_label_prob(x)
        return torch.log_softmax(found - found.mean(0), dim=1)


class RemembersLabels(harness.methods.label_mlp.LabelMLP):
    """The labels of the last loss are there when as many rows are scored."""

    seen = None

    def validation_loss(self, batch, n_samples, generator):
        self.seen = batch.y
        return super().validation_loss(batch, n_samples, generator)

    def log_label_prob(self, x):
        found = super().log_label_prob(x)
        if self.seen is None or len(self.seen) != len(x):
            return found
        return torch.log_softmax(found + F.one_hot(self.seen.clamp(min=0), 3), dim=1)


# -- early stopping ---------------------------------------------------------------------------------------------------


class CriterionConstant(harness.methods.label_mlp.LabelMLP):
    def validation_loss(self, batch, n_samples, generator):
        return torch.ones(len(batch.x), dtype=batch.x.dtype)


class CriterionUpsideDown(harness.methods.ssl_bihm.SemiSupervisedBiHM):
    def validation_loss(self, batch, n_samples, generator):
        return -super().validation_loss(batch, n_samples, generator)


class CriterionSummed(harness.methods.ssl_bihm_low.LowLabelBiHM):
    def validation_loss(self, batch, n_samples, generator):
        found = super().validation_loss(batch, n_samples, generator)
        return found.sum().expand(len(found))


class CriterionOfTheNextLabel(harness.methods.ssl_bihm_low.LowLabelBiHM):
    def validation_loss(self, batch, n_samples, generator):
        return joint_label_loss(self, Batch(batch.x, (batch.y + 1) % 3), n_samples, generator)


class CriterionWithoutLogK(harness.methods.ssl_bihm.SemiSupervisedBiHM):
    def validation_loss(self, batch, n_samples, generator):
        return super().validation_loss(batch, n_samples, generator) - 2.0 * math.log(n_samples)


class CriterionScalar(harness.methods.label_mlp.LabelMLP):
    def validation_loss(self, batch, n_samples, generator):
        return super().validation_loss(batch, n_samples, generator).mean()


class CriterionDoubled(harness.methods.label_mlp.LabelMLP):
    def validation_loss(self, batch, n_samples, generator):
        return 2.0 * super().validation_loss(batch, n_samples, generator)


# -- what is right, or cannot be said ---------------------------------------------------------------------------------


class StickingTheLanding(harness.methods.iwae.IWAE):
    """Right, at one sample: the path alone, without the score of q, whose mean is zero (Roeder et al., 2017)."""

    small = {"layers": [2], "hidden": [[3]]}

    def loss(self, batch, n_samples, generator):
        mean, log_std = self.posterior(batch.x)
        h, _ = self.draw(mean, log_std, n_samples, generator)
        fixed, spread = mean.detach()[:, None], log_std.detach()[:, None]
        log_q = -0.5 * ((h - fixed) * torch.exp(-spread)).square().sum(-1) - spread.sum(-1)
        return (log_q - self.log_likelihood(batch.x, h) + 0.5 * h.square().sum(-1)).mean()


class DreamsByAutograd(BeliefStack):
    """Discrete samples, automatic differentiation and no exact_loss: nothing says what the gradient is."""

    name, title, kind, source = "dreams", "dreams", "latent", "a test"
    small = {"layers": [3, 2]}

    def loss(self, batch, n_samples, generator):
        inferred = self.infer(batch.x, n_samples, generator)
        rows = batch.x.repeat_interleave(n_samples, dim=0)
        return -(self.log_joint(rows, inferred.h) - self.log_recognition(rows, inferred.h)).mean()


class DroppedAndNormalised(GaussianStack):
    """Layers of torch that know training from evaluation, a frozen parameter and tied ones: all of it right."""

    name, title, kind, source = "dropped", "dropped", "latent", "a test"
    small = {"latent": 2}

    def __init__(self, n_visible, latent):
        super().__init__(n_visible, [latent], [[3]], "tanh")
        self.drop = nn.Dropout(0.3)
        self.scale = nn.Parameter(torch.ones(n_visible), requires_grad=False)

    def posterior(self, x):
        return super().posterior(self.drop(x) * self.scale)

    def loss(self, batch, n_samples, generator):
        return -self.log_weights(batch.x, n_samples, generator).mean()


PLANTED = {
    "gradient": [
        BaselineWithItself,
        BaselineAdded,
        ScoreAlone,
        WeightsNotNormalised,
        PriorTransposed,
        PositivePhaseHalved,
        ChainOneStepShort,
        BaselineLeaks,
        MomentsOfThisBatch,
        RightForManySamples,
        NoSleep,
        SinglePrecisionOnly,
        OneBiasUphill,
        PathDetached,
        SpreadWithoutGradient,
        UnseenColumnsCountOnce,
        SlopesOfAnotherLoss,
        MemoryUsedAgain,
    ],
    "gradient with labels": [GammaOfTheWrongSign, LabelGradientSwapped],
    "loss is a bound": [TimesSamples, LowInTrainingMode],
    "loss is a mean over rows": [SumOverRows, DividedTwice],
    "learning": [LearnsTheNextLabel, LabelsOfTheNextRow, BiasForgotten, FrozenMoves],
    "labels in learning": [LabelsIgnored, HiddenIsTheLastClass, HiddenIsTheLastClassHere],
    "label weights": [WeightsOfTheNextLabel, RootsForgotten],
    "label probabilities": [SharpenedInEvaluation, OddBatches, OverRowsNotLabels, RemembersLabels],
    "validation loss": [
        CriterionConstant,
        CriterionUpsideDown,
        CriterionSummed,
        CriterionOfTheNextLabel,
        CriterionWithoutLogK,
        CriterionScalar,
        CriterionDoubled,
    ],
}
