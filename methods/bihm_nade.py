"""Bidirectional Helmholtz machine whose conditionals, of p and of q, are NADE layers."""

from harness.methods.bihm import BiHM

from harness.blocks.nade_belief import NadeBeliefStack


class BiHMNade(NadeBeliefStack, BiHM):
    """The updates of BiHM (thesis, equations 3.7 and 3.8) on a stack of NADEs.

    They need E_q[d log q] = 0 alone, which holds for any normalised q whose gradient crosses no sample.
    """

    name = "bihm_nade"
    title = "BiHM - NADE"
    kind = "latent"
    source = "Bornschein, Shabanian, Fischer, Bengio: Bidirectional Helmholtz Machines, ICML 2016, with NADE layers"
    small = {"layers": [2, 2], "hidden": [2, 3, 3]}  # a condition of one layer is as wide as that of the next
