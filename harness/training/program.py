"""One CUDA graph for the updates of several models, each a branch of its own.

While a graph is captured, streams that fork from the captured one and join it again become branches that may run at
the same time. Each member's update is captured on a stream of its own, so its kernels, their shapes, their order and
what they add up are those of its lone graph, its random numbers come from its own generator, and the results are equal
to the last bit; only what would leave a card idle overlaps. (Stacking the members' matrices into batched products
would launch fewer kernels, but other ones, which add up in another order: close to a lone training, and not equal to
it.) Branches share no memory: PyTorch reuses what one has freed, and gives cuBLAS its workspace, stream by stream.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Part(NamedTuple):
    """An update that is ready to be made by a program.

    key: of the shapes for which ``function`` can be captured. function: makes the update from memory that is filled
    for every one, and returns the mean loss, a scalar on the device. generator: all that it draws from.
    """

    key: tuple[object, ...]
    function: Callable[[], Tensor]
    generator: torch.Generator


class ParallelGraph:
    """The kernels of all parts, recorded, and launched together from then on; nothing runs while they are recorded.

    Raises what a part raises, or what CUDA does about one that cannot be captured. The graph is then of no use.
    """

    def __init__(self, parts: Sequence[Part]):
        self._graph = torch.cuda.CUDAGraph()
        for part in parts:
            self._graph.register_generator_state(part.generator)
        self._streams = [torch.cuda.Stream() for _ in parts]
        with torch.cuda.graph(self._graph):
            captured = torch.cuda.current_stream()
            for stream in self._streams:  # before the first kernel, which no branch has to wait for
                stream.wait_stream(captured)
            self._results = [_on(stream, part.function) for stream, part in zip(self._streams, parts, strict=True)]
            for stream in self._streams:
                captured.wait_stream(stream)

    def replay(self) -> list[Tensor]:
        """Make the update of every part; their losses."""
        self._graph.replay()
        return [result.clone() for result in self._results]


class Program:
    """Makes the updates of several members at once, captured for these members and these shapes of theirs."""

    def __init__(self) -> None:
        self._key: tuple[Hashable, ...] | None = None
        self._graph: ParallelGraph | None = None

    def update(self, parts: Mapping[Hashable, Part]) -> list[Tensor]:
        """Make the update of every member's part; the losses. Captures them where they are not those of last time."""
        key = tuple((member, part.key) for member, part in parts.items())
        if key != self._key:
            self._key = self._graph = None  # its memory is free for the next
            self._graph = ParallelGraph(list(parts.values()))
            self._key = key
        return self._graph.replay()


def _on(stream: torch.cuda.Stream, function: Callable[[], Tensor]) -> Tensor:
    with torch.cuda.stream(stream):
        return function()
