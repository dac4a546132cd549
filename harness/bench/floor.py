"""The floor under our times: the matrix products that a job makes, and nothing else.

A job is run while every product that reaches PyTorch's dispatcher is written down with the memory it works on. A
replay then makes just these products, in their order, with their shapes, strides, data types and sharing of memory, on
buffers allocated beforehand. Where ours fuses products into a kernel of its own, they are not seen, and a job whose
products are all fused has no floor; the small layers of a stack are recorded as they go one by one
(``harness.blocks.small_layers``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from harness.compute.parallel import run_all, spreads

PRODUCTS = frozenset(
    (
        "mm",
        "addmm",
        "addmm_",
        "bmm",
        "baddbmm",
        "baddbmm_",
        "addbmm",
        "addbmm_",
        "matmul",
        "linear",
        "_addmm_activation",
    )
)


@dataclass(frozen=True)
class Operand:
    """A view of memory: the address of its storage, and how it is read."""

    address: int
    storage_bytes: int
    offset: int  # elements
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, tensor: Tensor) -> Operand:
        storage = tensor.untyped_storage()
        shape, stride = tuple(tensor.shape), tuple(tensor.stride())
        place = (storage.data_ptr(), storage.nbytes(), tensor.storage_offset())
        return cls(*place, shape, stride, tensor.dtype, tensor.device)


@dataclass(frozen=True)
class Product:
    """One call of a product: tensors among its arguments are operands."""

    name: str
    function: Any  # the overload that writes into given memory
    arguments: Sequence[Any]
    keywords: Mapping[str, Any]

    @property
    def factors(self) -> tuple[Operand, Operand]:
        """The two matrices, or batches of matrices, that are multiplied."""
        operands = [argument for argument in self.arguments if isinstance(argument, Operand)]
        return tuple(operands[:2] if self.name in ("mm", "bmm", "matmul", "linear") else operands[1:3])

    @property
    def sizes(self) -> tuple[int, int, int]:
        """(rows, inner, columns), the rows of a batch of matrices counted together."""
        left, right = self.factors
        rows = 1
        for size in left.shape[:-1]:
            rows *= size
        return rows, left.shape[-1], right.shape[0 if self.name == "linear" else -1]


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.products: list[Product] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        packet = function.overloadpacket
        if function.namespace == "aten" and packet.__name__ in PRODUCTS:
            self.products.append(_product(packet, function, args, kwargs, result))
        return result


def _product(packet: Any, function: Any, args: Any, kwargs: Any, result: Tensor) -> Product:
    arguments, keywords = tree_map_only(Tensor, Operand.of, (tuple(args), dict(kwargs)))
    name = packet.__name__.rstrip("_")
    if packet.__name__.endswith("_") or "out" in keywords:
        return Product(name, function, arguments, keywords)
    overload = "out" if function._overloadname == "default" else f"{function._overloadname}_out"
    return Product(name, getattr(packet, overload), arguments, {**keywords, "out": Operand.of(result)})


def record_products(job: Callable[[], Any]) -> list[Product]:
    """The products that one call of ``job`` makes in this thread, in order; the job should have been called before."""
    with _Recorder() as recorder:
        job()
    return recorder.products


def floor_of(job: Callable[[], Any]) -> Callable[[], Any] | None:
    """A job that makes the products of ``job`` and nothing else; None where none can be seen.

    A job that spreads whole pieces of its work over threads has its products spread likewise, each on one thread.
    """
    n_threads = torch.get_num_threads()
    with spreads() as threads:
        job()
    torch.set_num_threads(1)
    try:
        products = record_products(job)
    finally:
        torch.set_num_threads(n_threads)
    if not products:
        return None
    if not threads:
        return replay_of(products)
    size = -(-len(products) // n_threads)
    shares = [replay_of(products[start : start + size]) for start in range(0, len(products), size)]
    return lambda: run_all(shares)


def replay_of(products: Sequence[Product]) -> Callable[[], None]:
    """A job that makes these products, and nothing else, on buffers of its own.

    What shared memory then shares it now. Buffers hold small positive numbers: times do not depend on values, but
    denormal numbers would be slow.
    """
    operands: list[Operand] = []
    for product in products:
        tree_map_only(Operand, operands.append, (product.arguments, product.keywords))
    sizes: dict[int, Operand] = {}
    for operand in operands:
        known = sizes.get(operand.address)
        if known is None or known.storage_bytes < operand.storage_bytes:
            sizes[operand.address] = operand
    buffers = {address: _buffer(operand) for address, operand in sizes.items()}

    def tensor(operand: Operand) -> Tensor:
        typed = buffers[operand.address].view(operand.dtype)
        return typed.as_strided(operand.shape, operand.stride, operand.offset)

    calls = []
    with torch.no_grad():
        for product in products:
            arguments, keywords = tree_map_only(Operand, tensor, (product.arguments, product.keywords))
            calls.append((product.function, arguments, keywords))

    @torch.no_grad()
    def replay() -> None:
        for function, arguments, keywords in calls:
            function(*arguments, **keywords)

    device = operands[0].device
    return _captured(replay, device) if device.type == "cuda" else replay


def _buffer(operand: Operand) -> Tensor:
    width = operand.dtype.itemsize
    values = torch.full((-(-operand.storage_bytes // width),), 0.01, dtype=operand.dtype, device=operand.device)
    return values.view(torch.uint8)


def _captured(replay: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """The same as one CUDA graph, as our updates are: a floor without the cost of launching kernels one by one."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        replay()
    torch.cuda.current_stream(device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        replay()
    return graph.replay
