"""Stacks of belief layers whose conditionals are NADEs: the networks of RWS - NADE and BiHM - NADE.

A method is a weighting of samples and a network, each written once: ``class BiHMNade(NadeBeliefStack, BiHM)``. Of what
bfloat16 may multiply there are only the products with conditions; the recurrences over columns stay in the precision of
the parameters.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from harness.blocks.nade_layer import NadeLayer
from harness.blocks.scratch import Scratch
from harness.blocks.sigmoid_belief import BeliefStack
from harness.errors import ConfigError
from harness.ranges import Sizes


class NadeBeliefStack(BeliefStack):
    """p(h_L) prod p(h_{l-1} | h_l) and q(h | x) = prod q(h_l | h_{l-1}), every factor a NADE given its condition.

    layers: sizes of the latent layers, from the data upward. hidden: hidden units of the NADE over each layer of
    variables, x, h_1 .. h_L; p and q have as many. Raises ConfigError unless there is one more of these.
    """

    def __init__(self, n_visible: int, layers: Sizes, hidden: Sizes):
        if len(hidden) != len(layers) + 1:
            raise ConfigError(f"hidden: expected {len(layers) + 1} sizes, for x and each layer, found {len(hidden)}")
        self._hidden = hidden  # ``__init__`` below makes the layers
        super().__init__(n_visible, layers)

    def _make_layers(self, sizes: list[int], scratch: Scratch) -> None:
        units = list(zip(sizes, self._hidden, strict=True))
        self.p_layers = nn.ModuleList(NadeLayer(*below, above[0], scratch) for below, above in pairwise(units))
        self.q_layers = nn.ModuleList(NadeLayer(*above, below[0], scratch) for below, above in pairwise(units))
        self.prior = NadeLayer(*units[-1], 0, scratch)
