"""Test images with a hidden part, and what a model puts there (thesis, section 3.4, Figures 3.1 and 3.9 B)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import pandas as pd
import torch
from torch import Tensor

from harness.blocks.bernoulli import sample_bernoulli
from harness.evaluation.pixels import as_table, is_square
from harness.evaluation.subject import LeftOutError, Subject
from harness.ranges import Count, Range, Size

NEEDS = ("inpainting",)
Mask = Literal["left half", "right half", "top half", "bottom half", "centre", "random pixels"]  # keys of MASKS
Masks = Annotated[list[Mask], Range(items=1)]


def analyse(
    subject: Subject, images: Size, masks: Masks, reconstructions: Size, sweeps: Count, proposals: Size
) -> pd.DataFrame:
    """Columns mask, image, sweeps, proposals, role, copy, pixel_0 .. pixel_{D-1}.

    images: of the test set, as many others for every mask. masks: names out of ``MASKS``, of what is hidden.
    reconstructions: independent chains an image. sweeps, proposals: of Algorithm 2. Roles: original; masked, where
    hidden pixels are empty; reconstruction, where expected values E[x | h_1] stand for them. Chains start with hidden
    pixels drawn by the means of the training images, with grey ones at these. Raises LeftOutError where rows
    are no square images.
    """
    n_pixels = subject.data.n_features
    if not is_square(n_pixels):
        raise LeftOutError(f"{subject.cell.dataset}: {n_pixels} columns do not form a square image")
    generator = subject.generator("inpainting")
    x = subject.rows("test", images * len(masks)).x
    x = x[torch.randperm(len(x), generator=generator, device=x.device)]
    facts = {"mask": [mask for mask in masks for _ in range(images)], "image": list(range(images)) * len(masks)}
    facts |= {"sweeps": sweeps, "proposals": proposals}
    side = math.isqrt(n_pixels)
    hidden = torch.stack([MASKS[mask](side, generator).flatten().to(x.device) for mask in facts["mask"]])
    found = [
        as_table(x, **facts, role="original", copy=0),
        as_table(x.masked_fill(hidden, math.nan), **facts, role="masked", copy=0),
    ]
    rows, known = (each.repeat(reconstructions, 1) for each in (x, ~hidden))
    start = torch.where(known, rows, _guesses(subject, len(rows), generator))
    _, drawn = subject.model.inpaint(start, known, sweeps, proposals, generator)
    for copy, part in enumerate(drawn.split(len(x))):
        found.append(as_table(part, **facts, role="reconstruction", copy=copy))
    return pd.concat(found, ignore_index=True)


def _guesses(subject: Subject, n: int, generator: torch.Generator) -> Tensor:
    """[n, D]: what nobody who knows the training set only by its means could improve."""
    means = subject.rows("train", None).x.mean(0).expand(n, -1)
    return means if subject.data.grey and not subject.data.binarize else sample_bernoulli(means, generator)


def _left(side: int, generator: torch.Generator) -> Tensor:
    return (torch.arange(side) < side // 2).expand(side, -1)


def _right(side: int, generator: torch.Generator) -> Tensor:
    return ~_left(side, generator)


def _top(side: int, generator: torch.Generator) -> Tensor:
    return _left(side, generator).t()


def _bottom(side: int, generator: torch.Generator) -> Tensor:
    return ~_top(side, generator)


def _centre(side: int, generator: torch.Generator) -> Tensor:
    within = (torch.arange(side) - (side - 1) / 2).abs() <= side / 4
    return within[:, None] & within


def _random(side: int, generator: torch.Generator) -> Tensor:
    return torch.rand(side, side, generator=generator, device=generator.device) < RANDOM_SHARE


RANDOM_SHARE = 0.75
MASKS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    "left half": _left,
    "right half": _right,
    "top half": _top,
    "bottom half": _bottom,
    "centre": _centre,
    "random pixels": _random,
}
"""What is hidden, [side, side] booleans; of random pixels three quarters, others in every image."""
