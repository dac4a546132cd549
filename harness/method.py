"""The contract of a method: the base class, and the capabilities that the analyses look for.

A method is one file of ``methods/`` with one subclass of :class:`Method`. It has those capabilities that make sense
for it, each a ``Protocol`` below, and gets every analysis that needs no more than those: training needs ``loss`` (or
``accumulate_gradients``, or ``fit`` for a closed form), likelihoods need ``log_prob`` or ``log_weights``, 2 log Z needs
``log_z2_weights``, and so on. Randomness comes from the generator that is passed in, so that a seed decides a run;
training also seeds PyTorch's own generators, which layers such as ``nn.Dropout`` draw from; elsewhere ``harness.seeds``
does, for draws of ``torch.distributions``. Training is in training mode, looks at the validation set and measurements
are in evaluation mode. Rows are given as copies. Log-probabilities are in nats. Shapes: ``B`` rows, ``D`` visible
columns, ``K`` samples.

A capability is what the class has, whether defined, inherited or assigned there (``log_prob = _log_prob``), by the rule
of ``harness.capability``; what ``__init__`` assigns to an instance is not looked at.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from harness.capability import Capability, has_members, members


@dataclass(frozen=True)
class Batch:
    """Rows of a data set on the device.

    x: [B, D] float, 0/1 (or grey levels in [0, 1], read as Bernoulli probabilities).
    y: [B] int64 class labels, -1 where the label is hidden; None for data without labels.
    """

    x: Tensor
    y: Tensor | None = None


class RoundedWeight(Protocol):
    """A weight in the data type that training multiplies in, and room for a gradient in it (see ``MixedPrecision``).

    value: [n_out, n_in], the weight as it was when the update began, or a batch of such. gradient: of its shape, what
    products have added up to; the update step adds it to the weight's own. A copy is None: a copy of a model has other
    weights, which nothing rounds until an update step does.
    """

    value: Tensor

    @property
    def gradient(self) -> Tensor: ...

    def add_product(self, missed: Tensor, seen: Tensor) -> None:
        """Add missed' seen to the gradient, for missed [N, n_out] in its data type and seen [N, n_in]."""

    def add_transposed(self, missed: Tensor, seen: Tensor) -> None:
        """``add_product`` for missed' [n_out, N] and seen [N, n_in], both in its data type."""


class Method(nn.Module):
    """Base of every method: names for the tables, and the number of visible columns.

    Hyperparameters are the further keyword arguments of ``__init__``; the configuration's ``model`` section is
    checked against their names and annotations when settings are read, and ``harness.ranges`` has annotations that say
    which numbers make sense. Parameters of two or more dimensions count as weights: the L1 penalty of the training loop
    falls on them, not on biases. Those with ``requires_grad=False`` stay as they are; one that several modules share is
    one. Which parameters there are, and which of them learn, must not change while training, but for those that wait
    (``InStages``). Buffers are saved with the parameters; those of one integer count progress, and stay when the next
    phase of training begins with the best weights of the one before.
    """

    name: ClassVar[str]  # the file's name and the configuration's word for it
    title: ClassVar[str]  # how tables write it
    kind: ClassVar[str]  # "autoregressive", "latent", "control": the block of the tables it belongs to
    source: ClassVar[str]  # where it was published
    version: ClassVar[int] = 1  # raised where a change of the code changes what is trained: models are trained again
    small: ClassVar[dict[str, Any]] = {}  # hyperparameters of a model with a handful of units, for ``harness verify``
    capturable: ClassVar[bool] = (
        True  # False: an update's sequence of operations depends on data (see harness.training.step)
    )

    def __init__(self, n_visible: int):
        super().__init__()
        self.n_visible = n_visible


@runtime_checkable
class ClosedForm(Capability, Protocol):
    """Fitted without the training loop of the harness: in closed form, or by a loop of the method's own."""

    def fit(self, train: Batch) -> None:
        """Set the parameters from all training rows at once.

        May take ``valid``, the validation rows, and ``generator`` as well, both by these names; with a generator, a fit
        is random. It may differentiate. Whatever the class has besides, no update is made by the harness.
        """


@runtime_checkable
class Differentiable(Capability, Protocol):
    """Trained by automatic differentiation of a loss."""

    def loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Mean over the batch of the quantity to minimise, nats per row; a scalar that can be differentiated.

        May take ``update`` as well, with a default: how many updates there have been, for a term that is annealed.
        Training passes it; looks at the validation set and ``harness verify`` do not, so that the default is to stand
        for the loss that training ends with. ``accumulate_gradients`` may take it alike.
        """


@runtime_checkable
class OwnGradients(Capability, Protocol):
    """Computes its gradients itself (local rules, score functions), without a graph."""

    def accumulate_gradients(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Add the gradient of the mean loss to every parameter's ``.grad``; return the mean loss, a detached scalar."""


def computes_gradients(model: Method) -> bool:
    """Whether a method is trained by ``accumulate_gradients``, not by differentiating ``loss``, where it has both.

    A class that inherits the gradients of another and overrides ``loss``, or any other function of it, is trained on
    its own loss: the gradients it inherits know nothing of what it has changed.
    """
    if not isinstance(model, OwnGradients):
        return False
    order = type(model).__mro__
    definer = next((i for i, cls in enumerate(order) if "accumulate_gradients" in vars(cls)), 0)
    overridden = {name for cls in order[:definer] for name, value in vars(cls).items() if inspect.isfunction(value)}
    known = {name for cls in order[definer:] for name in vars(cls) if not name.startswith("__")}
    return not (isinstance(model, Differentiable) and overridden & known)


@runtime_checkable
class OwnOptimizer(Capability, Protocol):
    """Trained by optimisers of its own choice where the settings name none; otherwise by Adam."""

    def configure_optimizer(self, learning_rate: float) -> torch.optim.Optimizer | list[torch.optim.Optimizer]:
        """An optimiser, or several, of which every parameter that learns is in one.

        learning_rate: of the first phase. A group of parameters that is given another one keeps its ratio to it when
        phases, warm-ups and shapes change the rate. Checkpoints hold what ``state_dict`` gives.
        """


@runtime_checkable
class AfterUpdate(Capability, Protocol):
    """Does something after every update, such as clipping weights or following them with other ones."""

    def after_update(self, update: int) -> None:
        """Called without a graph, the weights as the update left them. update: how many there have been, from 1."""


@runtime_checkable
class InStages(Capability, Protocol):
    """Learns layer after layer: some of its parameters, and units of layers, are not in use before their time."""

    def begin_update(self) -> Sequence[nn.Parameter]:
        """Called before every update; the parameters that it leaves as they are: no gradient, penalty or decay.

        The same object as long as they are the same. In a CUDA graph there are only updates that leave none.
        """

    def waiting_units(self) -> list[int]:
        """Number of units of each layer above those that ``encode`` gives."""


@runtime_checkable
class TakesWeights(Capability, Protocol):
    """Says what it starts with of another model's weights, where equal names and shapes are not all there is to it."""

    def take_weights(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor | None]:
        """By their names here, tensors to take besides those of equal names, or in their place; None: its own stays."""


@runtime_checkable
class MixedPrecision(Capability, Protocol):
    """Leaves open in which data type training multiplies: bfloat16 where the device is faster at it.

    Parameters, gradients and likelihoods stay as they are; factors are rounded to that type, and so are products.
    """

    def multiply_in(self, dtype: torch.dtype | None, weights: Mapping[nn.Parameter, RoundedWeight]) -> None:
        """From now on make the products of training in ``dtype``; None: in that of the parameters.

        weights: of every parameter of two or more dimensions, for methods that compute their gradients themselves; none
        where dtype is None. ``harness.training.step`` calls this once, before the first update. The weights belong to
        ``harness.training.flat``; they are rounded when an update begins, or by the step of Adam before it where
        nothing can have changed them since. That update's step adds up both gradients. Belief stacks hand them on to
        their layers, which multiply by them (``harness.blocks.conditional``).
        """


@runtime_checkable
class Tractable(Capability, Protocol):
    """Exact likelihood."""

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) [B] for rows x [B, D]."""


@runtime_checkable
class Orderings(Capability, Protocol):
    """Exact likelihood that is the mean over several orderings of the columns."""

    def log_prob_orders(self, x: Tensor) -> Tensor:
        """log p(x) under each of M orderings for rows x [B, D], [B, M]; ``log_prob`` is the log of the mean p(x)."""


@runtime_checkable
class ImportanceWeighted(Capability, Protocol):
    """Likelihood by importance sampling from a recognition model."""

    def log_weights(self, x: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """log p(x, h_k) - log q(h_k | x) for h_k ~ q(h | x), [B, K], for rows x [B, D]."""


@runtime_checkable
class Partitioned(Capability, Protocol):
    """Unnormalised joint p* = sqrt(p q) / Z with an unbiased estimator of Z^2 (thesis, equation 3.11)."""

    def log_z2_weights(self, n_outer: int, n_inner: int, generator: torch.Generator) -> Tensor:
        """Logarithms of non-negative samples [n_outer, n_inner] whose mean is Z^2; rows are independent."""


@runtime_checkable
class Unnormalised(Capability, Protocol):
    """Likelihood up to a constant, log p(x) = log p~(x) - log Z, with an unbiased estimator of Z."""

    def log_unnormalised(self, x: Tensor) -> Tensor:
        """log p~(x) [B] for rows x [B, D]."""

    def log_partition_samples(self, n: int, n_temperatures: int, generator: torch.Generator) -> Tensor:
        """Logarithms [n] of independent non-negative samples whose mean is Z.

        n_temperatures: work spent on each, the steps of the annealing path (Salakhutdinov and Murray, 2008).
        """


@runtime_checkable
class Sampler(Capability, Protocol):
    """Ancestral sampling."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """n rows x [n, D] drawn from the model."""


@runtime_checkable
class LayerSampler(Capability, Protocol):
    """Ancestral sampling through L latent layers, h_1 next to x, from any of them downward."""

    def sample_layers(self, n: int, generator: torch.Generator) -> list[Tensor]:
        """n joint draws [x, h_1 .. h_L] ~ p, each [n, n_l]."""

    def sample_below(self, level: int, h: Tensor, generator: torch.Generator) -> list[Tensor]:
        """[x, h_1 .. h_{l-1}] ~ p(x, h_1 .. h_{l-1} | h_l) for l = level and h [n, n_l], one draw per row."""

    def expected_visible(self, h1: Tensor, generator: torch.Generator) -> Tensor:
        """E[x | h_1], [n, D], for h_1 [n, n_1]; the generator is for models without a closed form."""


@runtime_checkable
class JointSampler(Capability, Protocol):
    """Markov chains that lead from p to another joint distribution p*(x, h) (thesis, Algorithm 2)."""

    def sample_layers(self, n: int, generator: torch.Generator) -> list[Tensor]:
        """n states [x, h_1 .. h_L] to start from, each [n, n_l]."""

    def expected_visible(self, h1: Tensor, generator: torch.Generator) -> Tensor:
        """E[x | h_1] under p, [n, D], for h_1 [n, n_1]."""

    def sweep(self, state: list[Tensor], n_proposals: int, generator: torch.Generator) -> list[Tensor]:
        """The states after one more iteration, which leaves p* as it is in the limit of many proposals."""


@runtime_checkable
class Inpainter(Capability, Protocol):
    """Draws the unknown entries of rows given the known ones."""

    def inpaint(
        self, x: Tensor, known: Tensor, n_sweeps: int, n_proposals: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """x [B, D] with its unknown entries drawn, and the same with expected values, known entries as they are.

        known: [B, D] booleans; the values of unknown entries say where chains start. Expected values are for the eye:
        they may be those of the distribution that the entries were proposed from.
        """


@runtime_checkable
class Classifier(Capability, Protocol):
    """Joint model of rows and labels, p*(x, y)."""

    def log_label_weights(self, x: Tensor, n_samples: int, generator: torch.Generator) -> Tensor:
        """log sqrt(p(x, h_k, y) q(y | h_k) / q(h_k | x)) for h_k ~ q(h | x) and every class y, [B, K, n_classes].

        Its mean over k estimates B(x, y) (thesis, equation 4.5); summed over y as well, A(x).
        """


@runtime_checkable
class Discriminative(Capability, Protocol):
    """Labels of rows without a model of the rows."""

    def log_label_prob(self, x: Tensor) -> Tensor:
        """log p(y | x) of every class, [B, n_classes], for rows x [B, D]."""


@runtime_checkable
class LayerEncoder(Capability, Protocol):
    """Latent layers that can be seen as features of rows."""

    def encode(self, x: Tensor, n_samples: int, generator: torch.Generator) -> list[Tensor]:
        """Mean activations [B, n_l] of every layer, from x upward, for rows x [B, D], by n_samples draws per row.

        Whatever n_samples, they are right on average, and those of two calls are independent. Of binary units, they are
        probabilities.
        """


@runtime_checkable
class Validated(Capability, Protocol):
    """Chooses its own criterion for early stopping instead of -log p."""

    def validation_loss(self, batch: Batch, n_samples: int, generator: torch.Generator) -> Tensor:
        """Criterion per row [B], lower is better."""


@runtime_checkable
class Enumerable(Capability, Protocol):
    """Says for ``harness verify`` what gradients are gradients of, where the value of the loss does not.

    Discrete samples, score functions, local rules and Markov chains need it; a loss that is continuous in the
    parameters while the random numbers stay is compared with its own differences. What the signature takes says what
    the loss depends on: ``exact_loss(self, x)`` on rows [B, D] alone, ``exact_loss(self, batch)``, where the first
    parameter has that name, on labels as well. Either may take ``n_samples`` as a second one.
    """

    def exact_loss(self, x: Tensor) -> Tensor:
        """A scalar whose gradient is, on average, that of updates on rows x [B, D] with ever more samples.

        With ``n_samples``: of updates with that many samples, 2 or 3; where its default is None, that stands for ever
        more of them. By brute force, for small models only. Parameters that it does not depend on are not compared.
        """


@runtime_checkable
class LabelEnumerable(Capability, Protocol):
    """Says for ``harness verify`` what ``log_label_weights`` are weights of."""

    def exact_label_weights(self, x: Tensor) -> Tensor:
        """log B(x, y) of every class, [B, n_classes] (thesis, equation 4.5), by brute force, for rows x [B, D]."""


@runtime_checkable
class ValidationEnumerable(Capability, Protocol):
    """Says for ``harness verify`` what ``validation_loss`` stands for, where that is nothing that it knows.

    It knows -log p(x), -log p~*(x), -log p(y | x), -log p~*(y | x), sums of one of the former and one of the latter,
    and the training loss of every row by itself.
    """

    def exact_validation_loss(self, batch: Batch) -> Tensor:
        """Per row [B], what ``validation_loss`` is on average with ever more samples, by brute force."""


CAPABILITIES: dict[str, type] = {
    "closed form": ClosedForm,
    "loss": Differentiable,
    "gradients": OwnGradients,
    "exact log p": Tractable,
    "orderings": Orderings,
    "importance weights": ImportanceWeighted,
    "partition function": Partitioned,
    "unnormalised log p": Unnormalised,
    "sampling": Sampler,
    "layer sampling": LayerSampler,
    "joint sampling": JointSampler,
    "inpainting": Inpainter,
    "classification": Classifier,
    "label probabilities": Discriminative,
    "layer features": LayerEncoder,
}


def capabilities(method: type[Method] | Method) -> tuple[str, ...]:
    """Names of the capabilities that a method has, in the order of CAPABILITIES."""
    cls = method if isinstance(method, type) else type(method)
    return tuple(name for name, protocol in CAPABILITIES.items() if has(cls, protocol))


def has(cls: type, protocol: type) -> bool:
    """Whether a class has a capability, by the rule of ``harness.capability``; ``isinstance`` says it of a model."""
    return has_members(cls, members(protocol))
