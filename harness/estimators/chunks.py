"""How many (row, sample) pairs are evaluated at once: few where activations should stay near a cache, else many.

A GPU takes as long to be told of a hundred small operations as it takes for ten thousand rows of a wide layer.
"""

import torch

NEAR_THE_CACHE = 4096
ELSEWHERE = 2**15


def pairs_at_once(device: torch.device, near_the_cache: int = NEAR_THE_CACHE) -> int:
    """The most of them. near_the_cache: on a CPU."""
    return near_the_cache if device.type == "cpu" else ELSEWHERE
