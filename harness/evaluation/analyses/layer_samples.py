"""How much a latent layer knows of an image: draws from each layer of a joint sample down (thesis, Figures 4.1 to 4.3).

One ancestral draw gives h_1 .. h_L; for every l, images are drawn anew from p(x, h_1 .. h_{l-1} | h_l).
"""

from __future__ import annotations

import pandas as pd

from harness.evaluation.pixels import as_table
from harness.evaluation.subject import Subject
from harness.ranges import Size

NEEDS = ("layer sampling", "joint sampling")  # of the models whose layers the thesis looks at


def analyse(subject: Subject, ancestors: Size, draws: Size) -> pd.DataFrame:
    """Columns level, ancestor, draw, pixel_0 .. pixel_{D-1}: expected values E[x | h_1].

    ancestors: ancestral draws. draws: images from each of their layers. Level 0 holds the ancestral images themselves.
    """
    model, generator = subject.model, subject.generator("layer_samples")
    state = model.sample_layers(ancestors, generator)
    first = model.expected_visible(state[1], generator)
    found = [as_table(first, level=0, ancestor=range(ancestors), draw=0)]
    for level, layer in enumerate(state[1:], start=1):
        h = layer.repeat_interleave(draws, dim=0)
        below = model.sample_below(level, h, generator)
        expected = model.expected_visible(below[1] if level > 1 else h, generator)
        number = [divmod(i, draws) for i in range(len(h))]
        facts = {"ancestor": [a for a, _ in number], "draw": [d for _, d in number]}
        found.append(as_table(expected, level=level, **facts))
    return pd.concat(found, ignore_index=True)
