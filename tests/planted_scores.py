"""Wrong methods about scores, modes and draws, as somebody writes them whose numbers should look right: each wrong in
one way, in some shape, mode or place, and otherwise its parent. ``PLANTED`` says which check must name the fault."""

import math

import harness.methods.bihm
import harness.methods.eonade
import harness.methods.factorised
import harness.methods.fvsbn
import harness.methods.iwae
import harness.methods.label_mlp
import harness.methods.made
import harness.methods.mixture
import harness.methods.nade
import harness.methods.rbm
import harness.methods.rws
import harness.methods.ssl_bihm_low
import harness.methods.vae
import torch
from torch import nn

from harness.blocks.bernoulli import sample_bernoulli
from harness.method import Batch

# -- a row's score depends on the others ------------------------------------------------------------------------------


class CentredOverTheBatch(harness.methods.fvsbn.FVSBN):
    """The correction vanishes where all 2^D rows are scored at once, and where all rows are alike."""

    def log_prob(self, x):
        return super().log_prob(x - 0.3 * (x.mean(0) - 0.5) * (x.std(0, correction=0) > 0))


class SoftmaxOverTheBatch(harness.methods.rbm.RBM):
    def log_unnormalised(self, x):
        found = super().log_unnormalised(x)
        return found - torch.logsumexp(found, dim=0)


class WrongFrom17Rows(harness.methods.nade.NADE):
    def log_prob(self, x):
        found = super().log_prob(x)
        return found + 0.01 * x[:, 0] if 17 <= len(x) < 32 else found


class WrongAbove4096Rows(harness.methods.made.MADE):
    """Rows that do not fit into the first block come out in reverse."""

    def log_prob(self, x):
        found = super().log_prob(x)
        return torch.cat([found[:4096], found[4096:].flip(0)]) if len(x) > 4097 else found


class WrongForOneRow(harness.methods.fvsbn.FVSBN):
    def log_prob(self, x):
        found = super().log_prob(x)
        return found - found.mean() + found.median() - 0.05 if len(x) == 1 else found


class SinglePrecisionInBlocks(harness.methods.fvsbn.FVSBN):
    """Right in double precision; in single, the last incomplete block of 16 is padded with its last row."""

    def log_prob(self, x):
        found = super().log_prob(x)
        if x.dtype == torch.float32 and len(x) % 16 and len(x) > 16:
            found[-1] = found[-2]
        return found


class WeightsCentredOverRows(harness.methods.rws.RWS):
    def log_weights(self, x, n_samples, generator):
        found = super().log_weights(x, n_samples, generator)
        return found - 0.2 * (found.mean() + self.n_visible * math.log(2.0))


class WeightsRankRows(harness.methods.rws.RWS):
    """The mean over all rows is left as it is: those above it gain what those below it lose."""

    def log_weights(self, x, n_samples, generator):
        found = super().log_weights(x, n_samples, generator)
        return found + 0.1 * torch.sign(found.mean(1, keepdim=True) - found.mean())


class WeightsWrongFor17Rows(harness.methods.vae.VAE):
    def log_weights(self, x, n_samples, generator):
        found = super().log_weights(x, n_samples, generator)
        return found + 0.3 if len(x) == 17 else found


class WeightsWrongForManySamples(harness.methods.rws.RWS):
    def log_weights(self, x, n_samples, generator):
        found = super().log_weights(x, n_samples, generator)
        return found + 0.1 if n_samples >= 1000 else found


class BatchStatisticsInEvaluation(harness.methods.fvsbn.FVSBN):
    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.norm = nn.BatchNorm1d(n_visible, affine=False, track_running_stats=False)

    def log_prob(self, x):
        return super().log_prob(x + 0.01 * self.norm(x)) if len(x) > 1 else super().log_prob(x)


class LabelsCentred(harness.methods.label_mlp.LabelMLP):
    def log_label_prob(self, x):
        found = super().log_label_prob(x)
        return torch.log_softmax(found - 0.5 * found.mean(0), dim=1)


class LabelWeightsCentred(harness.methods.ssl_bihm_low.LowLabelBiHM):
    def log_label_weights(self, x, n_samples, generator):
        found = super().log_label_weights(x, n_samples, generator)
        return found - 0.3 * found.mean()


class InpaintsWithNeighbours(harness.methods.bihm.BiHM):
    """Every second of many rows gets what was drawn for the row before it."""

    def inpaint(self, x, known, n_sweeps, n_proposals, generator):
        drawn, expected = super().inpaint(x, known, n_sweeps, n_proposals, generator)
        if len(x) > 16:
            drawn[1::2] = torch.where(known[1::2], x[1::2], drawn[::2][: len(drawn[1::2])])
        return drawn, expected


# -- memory -----------------------------------------------------------------------------------------------------------


class TestStatisticsInABuffer(harness.methods.fvsbn.FVSBN):
    def __init__(self, n_visible: int):
        super().__init__(n_visible)
        self.register_buffer("seen", torch.zeros(n_visible))

    def log_prob(self, x):
        found = super().log_prob(x)
        self.seen += x.sum(0)
        return found


class RemembersByShape(harness.methods.nade.NADE):
    """As a cache that somebody forgot to key by the rows."""

    def log_prob(self, x):
        kept = self.__dict__.setdefault("kept", {})
        return kept.setdefault(tuple(x.shape), super().log_prob(x))


class SamplesWhatItScored(harness.methods.rws.RWS):
    """Every tenth sample is a row that was scored."""

    last = None

    def log_weights(self, x, n_samples, generator):
        self.last = x
        return super().log_weights(x, n_samples, generator)

    def sample(self, n, generator):
        found = super().sample(n, generator)
        if self.last is not None:
            found[::10] = self.last[torch.randint(len(self.last), (len(found[::10]),), generator=generator)]
        return found


# -- the batch is edited ----------------------------------------------------------------------------------------------


class EditsScoredRows(harness.methods.fvsbn.FVSBN):
    def log_prob(self, x):
        found = super().log_prob(x)
        if x.dtype == torch.float32:
            x.sub_(0.5)
        return found


class EditsTheBatchOfTheLoss(harness.methods.made.MADE):
    def loss(self, batch, n_samples, generator):
        found = super().loss(Batch(batch.x.clone(), batch.y), n_samples, generator)
        batch.x.mul_(2.0).sub_(1.0)
        return found


class EditsLabels(harness.methods.label_mlp.LabelMLP):
    def loss(self, batch, n_samples, generator):
        found = super().loss(Batch(batch.x, batch.y.clone()), n_samples, generator)
        batch.y.clamp_(min=0)
        return found


class EditsWhatItInpaints(harness.methods.bihm.BiHM):
    def inpaint(self, x, known, n_sweeps, n_proposals, generator):
        drawn, expected = super().inpaint(x, known, n_sweeps, n_proposals, generator)
        x.copy_(drawn)
        return drawn, expected


class EditsTrainingRows(harness.methods.factorised.Factorised):
    def fit(self, train):
        super().fit(train)
        train.x.sub_(train.x.mean(0))


# -- orderings --------------------------------------------------------------------------------------------------------


class OrdersOfTheSum(harness.methods.eonade.EoNADE):
    def log_prob_orders(self, x):
        return super().log_prob_orders(x) - math.log(len(self.orders))

    def log_prob(self, x):
        return torch.logsumexp(self.log_prob_orders(x), dim=1)


class OrdersMixed(harness.methods.eonade.EoNADE):
    """Their mean is right, none of them is a distribution."""

    def log_prob_orders(self, x):
        p = super().log_prob_orders(x).exp()
        mean = p.mean(1, keepdim=True)
        return (mean + (p - mean) * (0.5 + x[:, :1])).log()


class OrdersOfOtherRows(harness.methods.eonade.EoNADE):
    """Every ordering is a distribution, of reversed rows; ``log_prob`` is right."""

    def log_prob_orders(self, x):
        return super().log_prob_orders(x.flip(1))

    def log_prob(self, x):
        return torch.logsumexp(super().log_prob_orders(x), dim=1) - math.log(len(self.orders))


# -- modes ------------------------------------------------------------------------------------------------------------


class WrongInEvaluation(harness.methods.made.MADE):
    """Still a normalised model: the direct connections are dropped."""

    def _masked_weights(self, order):
        weights, direct = super()._masked_weights(order)
        return weights, direct if self.training else None


class WrongInTraining(harness.methods.iwae.IWAE):
    def loss(self, batch, n_samples, generator):
        found = super().loss(batch, n_samples, generator)
        return found * len(batch.x) if self.training else found


class WeightsWrongInEvaluation(harness.methods.rws.RWS):
    def log_weights(self, x, n_samples, generator):
        found = super().log_weights(x, n_samples, generator)
        return found if self.training else found + 0.2 * (x[:, :1] - x[:, 1:2])


class BuildsAGraph(harness.methods.vae.VAE):
    """Needs gradients where the harness evaluates in inference mode."""

    def log_weights(self, x, n_samples, generator):
        with torch.enable_grad():
            mean = self.posterior(x)[0]
            slope = torch.autograd.grad(mean.sum(), self.encoders[0][0].weight)[0]
        return super().log_weights(x, n_samples, generator) + 0.0 * slope.sum()


# -- samples of another model -----------------------------------------------------------------------------------------


class SamplesReconstructed(harness.methods.rws.RWS):
    """Rows of the last batch that it learned from, through q and p: near the model as long as nothing is learned."""

    def accumulate_gradients(self, batch, n_samples, generator):
        self.last = batch.x.clone()
        return super().accumulate_gradients(batch, n_samples, generator)

    def sample(self, n, generator):
        rows = self.last[torch.randint(len(self.last), (n,), generator=generator)]
        below = self.infer(rows, 1, generator).h[0].clone()
        return self.sample_below(1, below, generator)[0]


class SamplesWithoutThePrior(harness.methods.iwae.IWAE):
    """The upper layer is skipped: h_1 is drawn from a standard normal, which it is initially, nearly."""

    def sample(self, n, generator):
        size = self.decoders[0][0].in_features
        h = torch.randn(n, size, generator=generator, dtype=self.decoders[0][0].weight.dtype)
        return sample_bernoulli(torch.sigmoid(self.decoders[0](h)), generator)


class WeightsOfReversedRows(harness.methods.rws.RWS):
    def log_weights(self, x, n_samples, generator):
        return super().log_weights(x.flip(1), n_samples, generator)


class ReversedThroughout(harness.methods.rws.RWS):
    """Weights and samples agree with each other, not with what is learned."""

    def log_weights(self, x, n_samples, generator):
        return super().log_weights(x.flip(1), n_samples, generator)

    def sample(self, n, generator):
        return super().sample(n, generator).flip(1)


class SamplesComplementedOneByOne(harness.methods.nade.NADE):
    def sample(self, n, generator):
        found = super().sample(n, generator)
        return 1.0 - found if n == 1 else found


class InpaintsGivenTheLeftHalf(harness.methods.bihm.BiHM):
    """Right where what is known is on the left; else drawn without regard to it."""

    def inpaint(self, x, known, n_sweeps, n_proposals, generator):
        drawn, expected = super().inpaint(x, known, n_sweeps, n_proposals, generator)
        state = self.sample_layers(len(x), generator)[0]
        blind = ~known[:, :1]
        return torch.where(blind & ~known, state, drawn), expected


# -- draws that are not independent -----------------------------------------------------------------------------------


class OneHForAllSamples(harness.methods.rws.RWS):
    def log_weights(self, x, n_samples, generator):
        return super().log_weights(x, 1, generator).expand(-1, n_samples).clone()


class HalfTheSamplesAreCopies(harness.methods.rws.RWS):
    """Above 100 samples, where nobody looks at them one by one."""

    def log_weights(self, x, n_samples, generator):
        found = super().log_weights(x, n_samples, generator)
        if n_samples > 100:
            found[:, n_samples // 2 : n_samples // 2 * 2] = found[:, : n_samples // 2]
        return found


class AntitheticPairs(harness.methods.vae.VAE):
    """Half of the noise is the other half's negative."""

    def draw(self, mean, log_std, n_samples, generator):
        noise = torch.randn(len(mean), n_samples, mean.shape[1], generator=generator, dtype=mean.dtype)
        half = n_samples // 2
        noise[:, half : 2 * half] = -noise[:, :half]
        h = mean[:, None] + torch.exp(log_std)[:, None] * noise
        return h, -0.5 * noise.square().sum(-1) - log_std.sum(-1, keepdim=True)


class OneNoiseForAllRows(harness.methods.vae.VAE):
    def draw(self, mean, log_std, n_samples, generator):
        noise = torch.randn(1, n_samples, mean.shape[1], generator=generator, dtype=mean.dtype)
        h = mean[:, None] + torch.exp(log_std)[:, None] * noise
        return h, (-0.5 * noise.square().sum(-1) - log_std.sum(-1, keepdim=True)).expand(h.shape[:2])


class NoiseRepeatsEvery16Rows(harness.methods.vae.VAE):
    def draw(self, mean, log_std, n_samples, generator):
        block = torch.randn(16, n_samples, mean.shape[1], generator=generator, dtype=mean.dtype)
        noise = block.repeat(-(-len(mean) // 16), 1, 1)[: len(mean)]
        h = mean[:, None] + torch.exp(log_std)[:, None] * noise
        return h, -0.5 * noise.square().sum(-1) - log_std.sum(-1, keepdim=True)


class BeginsTheGeneratorAnew(harness.methods.rws.RWS):
    """A seed decides what is drawn, and every call of one generator draws the same."""

    def log_weights(self, x, n_samples, generator):
        own = torch.Generator().manual_seed(generator.initial_seed())
        return super().log_weights(x, n_samples, own)


class OuterDrawsShared(harness.methods.bihm.BiHM):
    """Z^2 from a quarter of the pairs (x, h), four times each, with inner draws of their own."""

    def log_z2_weights(self, n_outer, n_inner, generator):
        found = super().log_z2_weights(-(-n_outer // 4), 4 * n_inner, generator)
        return found.view(-1, n_inner)[:n_outer]


class InnerDrawsShared(harness.methods.bihm.BiHM):
    def log_z2_weights(self, n_outer, n_inner, generator):
        return super().log_z2_weights(n_outer, 1, generator).expand(-1, n_inner).clone()


class CopiesOfOneChain(harness.methods.rbm.RBM):
    """From 100 chains on, half of them are the others' copies."""

    def log_partition_samples(self, n, n_temperatures, generator):
        if n < 100:
            return super().log_partition_samples(n, n_temperatures, generator)
        return super().log_partition_samples(-(-n // 2), n_temperatures, generator).repeat(2)[:n]


class SamplesRepeat(harness.methods.nade.NADE):
    """Drawn in blocks of 256, the second block is the first one's copy."""

    def sample(self, n, generator):
        found = super().sample(n, generator)
        found[256:512] = found[: len(found[256:512])]
        return found


class OneComponentForAllSamples(harness.methods.mixture.Mixture):
    def sample(self, n, generator):
        component = torch.multinomial(self.log_share.exp(), 1, generator=generator).expand(n)
        return sample_bernoulli(torch.sigmoid(self.logits[component]), generator)


# -- closed forms -----------------------------------------------------------------------------------------------------


class FitsTheFirst256(harness.methods.factorised.Factorised):
    def fit(self, train):
        super().fit(Batch(train.x[:256]))


class FitsWhatItHasSeen(harness.methods.factorised.Factorised):
    """Counts go on from one call to the next."""

    def fit(self, train):
        self.kept = torch.cat([self.__dict__.get("kept", train.x[:0]), train.x])
        super().fit(Batch(self.kept))


class FitsNothing(harness.methods.factorised.Factorised):
    def fit(self, train):
        super().fit(Batch(train.x.new_full((len(train.x), self.n_visible), 0.5)))


class FitsInOrder(harness.methods.factorised.Factorised):
    """Later rows count more, from 16 on."""

    def fit(self, train):
        n = len(train.x)
        weight = torch.linspace(0.5, 1.5, n, dtype=train.x.dtype) if n > 16 else torch.ones(n, dtype=train.x.dtype)
        super().fit(Batch(train.x * weight[:, None]))


# -- precision and files ----------------------------------------------------------------------------------------------


class RoundedInSingle(harness.methods.rws.RWS):
    """In single precision columns are permuted, which no sum over all rows tells."""

    def log_weights(self, x, n_samples, generator):
        return super().log_weights(x if x.dtype == torch.float64 else x.roll(1, dims=1), n_samples, generator)


class CountsUpdatesBesideTheState(harness.methods.iwae.IWAE):
    """An annealing temperature that follows an attribute, not a buffer."""

    n_updates = 0

    def loss(self, batch, n_samples, generator):
        self.n_updates += 1
        return super().loss(batch, n_samples, generator)

    def log_weights(self, x, n_samples, generator):
        found = super().log_weights(x, n_samples, generator)
        return found if self.training else found + 0.01 * min(self.n_updates, 5) * (x[:, :1] - x[:, 1:2])


class RunningMeanNotSaved(harness.methods.made.MADE):
    """Mixed with the uniform distribution, more so where the first column was often one."""

    def __init__(self, n_visible: int, hidden: list[int]):
        super().__init__(n_visible, hidden)
        self.register_buffer("mean", torch.zeros(n_visible), persistent=False)

    def loss(self, batch, n_samples, generator):
        self.mean = self.mean.lerp(batch.x.mean(0).to(self.mean), 0.1)
        return super().loss(batch, n_samples, generator)

    def _log_prob(self, x, order):
        share = 0.01 + 0.2 * self.mean[0]
        uniform = torch.log(share) - self.n_visible * math.log(2.0)
        return torch.logaddexp(super()._log_prob(x, order) + torch.log1p(-share), uniform)


class EncodesBySampleCount(harness.methods.rws.RWS):
    def encode(self, x, n_samples, generator):
        return [layer if n_samples > 1 else layer.round() for layer in super().encode(x, n_samples, generator)]


PLANTED = {
    CentredOverTheBatch: "rows alone",
    SoftmaxOverTheBatch: "rows alone",
    WrongFrom17Rows: "rows alone",
    WrongAbove4096Rows: "rows alone",
    WrongForOneRow: "rows alone",
    SinglePrecisionInBlocks: "rows alone",
    WeightsCentredOverRows: "rows alone",
    WeightsRankRows: "rows alone",
    WeightsWrongFor17Rows: "rows alone",
    WeightsWrongForManySamples: "rows alone",
    BatchStatisticsInEvaluation: "rows alone",
    LabelsCentred: "rows alone",
    LabelWeightsCentred: "rows alone",
    InpaintsWithNeighbours: "independence",
    TestStatisticsInABuffer: "no memory",
    RemembersByShape: "no memory",
    SamplesWhatItScored: "no memory",
    EditsScoredRows: "batch untouched",
    EditsTheBatchOfTheLoss: "batch untouched",
    EditsLabels: "batch untouched",
    EditsWhatItInpaints: "batch untouched",
    EditsTrainingRows: "batch untouched",
    OrdersOfTheSum: "orderings",
    OrdersMixed: "orderings",
    OrdersOfOtherRows: "orderings",
    WrongInEvaluation: "modes",
    WrongInTraining: "modes",
    WeightsWrongInEvaluation: "modes",
    BuildsAGraph: "modes",
    SamplesReconstructed: "samples",
    SamplesWithoutThePrior: "samples",
    WeightsOfReversedRows: "samples",
    ReversedThroughout: "learning",
    SamplesComplementedOneByOne: "samples",
    InpaintsGivenTheLeftHalf: "inpainting",
    OneHForAllSamples: "independence",
    HalfTheSamplesAreCopies: "independence",
    AntitheticPairs: "independence",
    OneNoiseForAllRows: "independence",
    NoiseRepeatsEvery16Rows: "independence",
    BeginsTheGeneratorAnew: "independence",
    OuterDrawsShared: "independence",
    InnerDrawsShared: "independence",
    CopiesOfOneChain: "independence",
    SamplesRepeat: "independence",
    OneComponentForAllSamples: "independence",
    FitsTheFirst256: "closed form",
    FitsWhatItHasSeen: "closed form",
    FitsNothing: "closed form",
    FitsInOrder: "closed form",
    RoundedInSingle: "single precision",
    CountsUpdatesBesideTheState: "checkpoint",
    RunningMeanNotSaved: "checkpoint",
    EncodesBySampleCount: "layer features",
}
