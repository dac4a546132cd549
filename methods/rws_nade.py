"""Reweighted wake-sleep whose conditionals, of p and of q, are NADE layers."""

from harness.methods.rws import RWS

from harness.blocks.nade_belief import NadeBeliefStack


class RWSNade(NadeBeliefStack, RWS):
    """The updates of RWS on a stack of NADEs: layers that model how their units hang together."""

    name = "rws_nade"
    title = "RWS - NADE"
    kind = "latent"
    source = "Bornschein, Bengio: Reweighted Wake-Sleep, ICLR 2015"
    small = {"layers": [2, 2], "hidden": [2, 3, 3]}  # a condition of one layer is as wide as that of the next
