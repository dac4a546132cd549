"""Deep autoregressive network: binary latent units and columns that depend on those before them in their own layer."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.blocks import exact
from harness.blocks.autoregressive import add_earlier_gradient, earlier_product, sample_columns
from harness.blocks.bernoulli import draw, log_likelihood, normalised_weights, pooled_residual, residual, score
from harness.blocks.sigmoid_belief import initial_bias, initial_weight
from harness.method import Batch, Method
from harness.ranges import Size


@dataclass
class _Inferred:
    """h ~ q(h | x), [B * K, H], with products that lack the bias: of q [B, H], the prior [B * K, H], x [B * K, D]."""

    h: Tensor
    q_product: Tensor
    prior_product: Tensor
    x_product: Tensor
    log_p: Tensor  # of (x, h), [B, K] double
    log_q: Tensor  # of h given x, likewise


class DARN(Method):
    """One stochastic layer: p(h) and p(x | h) are autoregressive, q(h | x) is a product of Bernoullis.

    log p(h) has logits c_i + sum_{j<i} U_ij h_j, log p(x | h) has b_d + sum_i V_di h_i + sum_{j<d} W_dj x_j. The paper
    minimises the description length and sends gradients through the samples of h, which biases them. Here p climbs
    log p(x) by importance sampling, and q follows the same weights (reweighted wake-sleep's wake updates): sleep would
    need samples of x, column by column, at every update. All factors of all rows are a few matrix products.
    """

    name = "darn"
    title = "DARN"
    kind = "autoregressive"
    source = "Gregor, Danihelka, Mnih, Blundell, Wierstra: Deep AutoRegressive Networks, ICML 2014"
    small = {"hidden": 3}

    def __init__(self, n_visible: int, hidden: Size):
        super().__init__(n_visible)
        self.p_weight = initial_weight(n_visible, hidden)  # V [D, H]
        self.x_weight = nn.Parameter(torch.zeros(n_visible, n_visible))  # W [D, D]
        self.p_bias = nn.Parameter(torch.zeros(n_visible))  # b [D]
        self.prior_weight = nn.Parameter(torch.zeros(hidden, hidden))  # U [H, H]
        self.prior_bias = initial_bias(hidden)  # c [H]
        self.q_weight = initial_weight(hidden, n_visible)
        self.q_bias = initial_bias(hidden)

    def log_joint(self, x: Tensor, h: Tensor) -> Tensor:
        """log p(x, h) [N] double for x [N, D] and h [N, H]."""
        log_prior = log_likelihood(earlier_product(h, self.prior_weight), self.prior_bias, h)
        product = F.linear(h, self.p_weight) + earlier_product(x, self.x_weight)
        return log_prior + log_likelihood(product, self.p_bias, x)

    def log_recognition(self, x: Tensor, h: Tensor) -> Tensor:
        """log q(h | x) [N] double for x [N, D] and h [N, H]."""
        return log_likelihood(F.linear(x, self.q_weight), self.q_bias, h)

    def _infer(self, x: Tensor, n_samples: int, generator: torch.Generator) -> _Inferred:
        n_rows = x.shape[0]
        log_p, log_q = (torch.zeros(n_rows * n_samples, dtype=torch.float64, device=x.device) for _ in range(2))
        q_product = F.linear(x, self.q_weight)
        h = draw(q_product, self.q_bias, n_samples, generator, log_q)
        prior_product = earlier_product(h, self.prior_weight)
        score(prior_product, self.prior_bias, h, log_p)
        x_product = F.linear(h, self.p_weight)
        # what x contributes to its own logits is the same for all samples of a row
        x_product.view(n_rows, n_samples, -1).add_(earlier_product(x, self.x_weight)[:, None, :])
        score(x_product, self.p_bias, x, log_p)
        shape = (n_rows, n_samples)
        return _Inferred(h, q_product, prior_product, x_product, log_p.view(shape), log_q.view(shape))

    @torch.no_grad()
    def log_weights(self, x: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """log p(x, h_k) - log q(h_k | x) for h_k ~ q(h | x), [B, K] double."""
        inferred = self._infer(x, n_samples, generator)
        return inferred.log_p - inferred.log_q

    @torch.no_grad()
    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Weights softmax(lw) for log p(x, h) and, centred by 1/K (E_q[d log q] = 0), for log q(h | x)."""
        x = batch.x
        inferred = self._infer(x, n_samples, generator)
        weights, log_means = normalised_weights(inferred.log_p - inferred.log_q, self.prior_bias.dtype)
        weights /= -x.shape[0]
        h = inferred.h
        missed = residual(inferred.x_product, self.p_bias, x, weights, self.p_bias.grad)
        self.p_weight.grad.addmm_(missed.t(), h)
        add_earlier_gradient(self.x_weight.grad, missed.view(x.shape[0], n_samples, -1).sum(1), x)
        missed = residual(inferred.prior_product, self.prior_bias, h, weights, self.prior_bias.grad)
        add_earlier_gradient(self.prior_weight.grad, missed, h)
        centred = weights + 1.0 / weights.numel()
        missed = pooled_residual(inferred.q_product, self.q_bias, h, centred, self.q_bias.grad)
        self.q_weight.grad.addmm_(missed.t(), x)
        return -log_means.mean()

    def exact_loss(self, x: Tensor, n_samples: int | None = None) -> Tensor:
        """Wake losses of p and q, by p(h | x) with ever more samples, else by the mean weights of n_samples draws."""
        states = exact.all_binary(len(self.prior_bias), x.dtype)  # [H, hidden]
        rows, h = x.repeat_interleave(len(states), dim=0), states.repeat(len(x), 1)
        log_p, log_q = (log.view(len(x), -1) for log in (self.log_joint(rows, h), self.log_recognition(rows, h)))
        weights = exact.expected_weights(log_p - log_q, log_q, n_samples)
        return -(weights * (log_p + log_q)).sum(1).mean()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows [n, D]: h unit by unit, then x column by column, the logits carried along."""
        h = sample_columns(self.prior_bias.repeat(n, 1), self.prior_weight, generator)
        return sample_columns(F.linear(h, self.p_weight, self.p_bias), self.x_weight, generator)
