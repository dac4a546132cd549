"""Samples from p and, after sweeps of Algorithm 2, from p* (thesis, Figures 3.2, 3.9 A and 3.10)."""

from __future__ import annotations

import pandas as pd

from harness.evaluation.pixels import as_table
from harness.evaluation.subject import Subject
from harness.ranges import AscendingCounts, Size

NEEDS = ("joint sampling",)


def analyse(subject: Subject, n: Size, sweeps: AscendingCounts, proposals: Size) -> pd.DataFrame:
    """Columns layers, proposals, sweeps, chain, pixel_0 .. pixel_{D-1}: expected values E[x | h_1] of n chains.

    layers: sizes of the latent layers, as 300-200-100. sweeps: after how many to look, ascending; 0 are draws from p,
    where chains start. proposals: of every resampling.
    """
    generator = subject.generator("samples")
    state = subject.model.sample_layers(n, generator)
    layers = "-".join(str(layer.shape[1]) for layer in state[1:])
    found = []
    for sweep in range(sweeps[-1] + 1):
        if sweep > 0:
            state = subject.model.sweep(state, proposals, generator)
        if sweep in sweeps:
            expected = subject.model.expected_visible(state[1], generator)
            found.append(as_table(expected, layers=layers, proposals=proposals, sweeps=sweep, chain=range(n)))
    return pd.concat(found, ignore_index=True)
