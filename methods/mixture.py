"""Mixture of Bernoullis, fitted by expectation maximisation: a control whose likelihood is exact."""

import math

import torch
from torch import Tensor, nn

from harness.blocks.bernoulli import sample_bernoulli
from harness.errors import ConfigError
from harness.method import Batch, Method
from harness.ranges import NonNegative, Positive, Size

ROWS_AT_ONCE = 512  # their responsibilities stay in the cache


class Mixture(Method):
    """p(x) = sum_k pi_k prod_d Bernoulli(x_d | p_kd).

    components: K. smoothing: strength of the prior on the components, in rows: each p_k has a beta prior as if
    ``smoothing`` rows with the columns' means had been seen, and pi a Dirichlet prior of one row a component.
    iterations: of expectation maximisation, at most; it ends when one gains less than ``tolerance`` nats per row.
    """

    name = "mixture"
    title = "mixture of Bernoullis"
    kind = "control"
    source = "Dempster, Laird, Rubin: Maximum Likelihood from Incomplete Data via the EM Algorithm, JRSS B 39, 1977"
    small = {"components": 3}

    def __init__(
        self,
        n_visible: int,
        components: Size,
        smoothing: Positive = 1.0,
        iterations: Size = 200,
        tolerance: NonNegative = 1e-3,
    ):
        super().__init__(n_visible)
        if components < 1 or smoothing <= 0.0:
            raise ConfigError(f"mixture: expected components and smoothing above 0, found {components}, {smoothing}")
        self.smoothing, self.iterations, self.tolerance = smoothing, iterations, tolerance
        self.logits = nn.Parameter(torch.randn(components, n_visible))  # of p_kd [K, D]
        # from which every fit begins: a fit is a function of it and of the rows, not of an earlier fit
        self.register_buffer("spread", self.logits.detach().clone(), persistent=False)
        self.log_share = nn.Parameter(torch.full((components,), -math.log(components)))  # log pi [K]

    def _log_joint(self, x: Tensor) -> Tensor:
        """log pi_k + log p(x | k), [B, K]."""
        constant = self.log_share - nn.functional.softplus(self.logits).sum(1)
        return torch.addmm(constant, x, self.logits.t())

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) [B]."""
        return torch.logsumexp(self._log_joint(x), dim=1)

    @torch.no_grad()
    def fit(self, train: Batch) -> None:
        """Expectation maximisation over all rows.

        It starts from the columns' means; what tells the components apart at first are the normal draws that the
        model was made with, which are added to the logits.
        """
        x = train.x
        means = (x.sum(0, dtype=torch.float64) + 1.0) / (x.shape[0] + 2.0)  # [D]
        self.logits.copy_(self.spread + torch.logit(means).to(self.logits.dtype))
        self.log_share.fill_(-math.log(len(self.log_share)))
        before = -math.inf
        for _ in range(self.iterations):
            log_likelihood, rows, ones = self._expectations(x)
            ones += self.smoothing * means
            self.logits.copy_(torch.logit(ones / (rows + self.smoothing)[:, None]))
            self.log_share.copy_(torch.log((rows + 1.0) / (rows.sum() + len(rows))))
            if log_likelihood - before < self.tolerance * x.shape[0]:
                return
            before = log_likelihood

    def _expectations(self, x: Tensor) -> tuple[float, Tensor, Tensor]:
        """log-likelihood of all rows, expected number of rows [K] and of ones [K, D] of every component, in double."""
        log_likelihood = 0.0
        rows = torch.zeros(self.logits.shape[0], dtype=torch.float64, device=x.device)
        ones = torch.zeros(self.logits.shape, dtype=torch.float64, device=x.device)
        for part in x.split(ROWS_AT_ONCE):
            log_joint = self._log_joint(part)
            responsibility = torch.softmax(log_joint, dim=1)  # [B, K]
            log_likelihood += torch.logsumexp(log_joint, dim=1).sum(dtype=torch.float64).item()
            rows += responsibility.sum(0)
            ones += responsibility.t() @ part
        return log_likelihood, rows, ones

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows [n, D]."""
        component = torch.multinomial(self.log_share.exp(), n, replacement=True, generator=generator)
        return sample_bernoulli(torch.sigmoid(self.logits[component]), generator)
